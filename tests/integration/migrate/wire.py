# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listens on a lab's bridge: which bytes of migrations are TLS records, and which anybody can read."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

PORTS = range(49152, 49216)
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33  #: Python's socket module does not name it
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1
#: Content types of TLS records, and the longest that NBD may say before it starts TLS.
_RECORDS, _GREETING = (20, 21, 22, 23), 64


class Wire:
    def __init__(self, device: str) -> None:
        self.encrypted = 0  #: bytes
        self.plain: list[bytes] = []  #: beginnings of what was neither a TLS record nor part of one
        self._streams: dict[tuple[bytes, int, int], dict[int, bytes]] = {}
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
        for stream in self._streams.values():
            self._judge(stream)

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._take(self._socket.recv(65536 + 64))

    def _take(self, frame: bytes) -> None:
        """Keep the start of each segment's payload: enough to see records begin in an ordered, unsplit stream."""
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            return
        segment = frame[14 + (frame[14] & 15) * 4 :]
        source, target, number = struct.unpack(">HHI", segment[:8])
        if source not in PORTS and target not in PORTS:
            return
        length = struct.unpack(">H", frame[16:18])[0] - (frame[14] & 15) * 4
        payload = segment[(segment[12] >> 4) * 4 : length]
        if payload:
            self._streams.setdefault((frame[26:34], source, target), {})[number] = payload

    def _judge(self, stream: dict[int, bytes]) -> None:
        """One direction of one connection: a short greeting may come first, then TLS records to the end."""
        numbers = sorted(stream)
        data, greeting = b"".join(stream[number] for number in numbers), b""
        while data and not (data[0] in _RECORDS and data[1:2] == b"\x03"):
            greeting, data = greeting + data[:1], data[1:]
            if len(greeting) > _GREETING:
                self.plain.append(greeting + data[:32])
                return
        while len(data) >= 5 and data[0] in _RECORDS and data[1] == 3:
            length = struct.unpack(">H", data[3:5])[0] + 5
            self.encrypted += min(length, len(data))
            data = data[length:]
        if len(data) >= 5:
            self.plain.append(data[:64])
