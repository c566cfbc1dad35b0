# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP echo requests every 20 ms, to measure for how long a machine could not be reached."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time

INTERVAL = 0.02


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Pinger:
    """Pings from its creation until `stop`; `longest_gap` is in seconds, between two answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: list[float] = []
        self._ident = os.getpid() & 0xFFFF
        self._going = threading.Event()
        self._thread = threading.Thread(target=self._ping, daemon=True)
        self._thread.start()

    def _ping(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            number = 0
            while not self._going.wait(0):
                number = (number + 1) & 0xFFFF
                head = struct.pack("!BBHHH", 8, 0, 0, self._ident, number)
                head = struct.pack("!BBHHH", 8, 0, checksum(head), self._ident, number)
                with contextlib.suppress(OSError):  # no route for a moment: that is what is measured
                    sock.sendto(head, (self.address, 0))
                self._collect(sock, time.monotonic() + INTERVAL)

    def _collect(self, sock: socket.socket, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            if select.select([sock], [], [], left)[0]:
                data, sender = sock.recvfrom(2048)
                if sender[0] == self.address and data[20] == 0 and data[24:26] == struct.pack("!H", self._ident):
                    self.answers.append(time.monotonic())

    def stop(self) -> None:
        self._going.set()
        self._thread.join()

    def longest_gap(self) -> float:
        return max(after - before for before, after in zip(self.answers, self.answers[1:], strict=False))
