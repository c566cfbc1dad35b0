# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listens on a lab's bridge while guests move: what of their memory and disks can anybody read?"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

PORTS = range(49152, 49216)
#: What beacon.c has in its memory every 64 KiB, and what the tests write to a data disk.
NEEDLES = {"memory": b"oscarv: in memory", "disk": b"\x5c" * 256}
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33  #: Python's socket module does not name it
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1


class Wire:
    """For a `with` block; `device` is the bridge."""

    def __init__(self, device: str) -> None:
        self.bytes = 0  #: of migrations, without headers
        self.handshakes = 0  #: directions of connections in which a TLS handshake was seen
        self.readable: set[str] = set()  #: names of the needles that were seen
        self._beginnings: dict[tuple[bytes, int, int], bytes] = {}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(_ETH_P_ALL))
        self._socket.bind((device, 0))
        wanted = struct.pack("IHH8s", socket.if_nametoindex(device), _PACKET_MR_PROMISC, 0, b"")
        self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, wanted)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 * 2**20)
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self.handshakes = sum(b"\x16\x03" in beginning for beginning in self._beginnings.values())

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._take(self._socket.recv(65536 + 64))

    def _take(self, frame: bytes) -> None:
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            return
        segment = frame[14 + (frame[14] & 15) * 4 :]
        source, target = struct.unpack(">HH", segment[:4])
        if source not in PORTS and target not in PORTS:
            return
        payload = segment[(segment[12] >> 4) * 4 :]
        self.bytes += len(payload)
        self.readable |= {name for name, needle in NEEDLES.items() if needle in payload}
        stream = (frame[26:34], source, target)
        if len(self._beginnings.get(stream, b"")) < 256:
            self._beginnings[stream] = self._beginnings.get(stream, b"") + payload[:256]
