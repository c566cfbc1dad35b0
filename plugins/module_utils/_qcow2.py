# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a qcow2 file says of itself, read from its header.

Starting `qemu-img info` costs 10 to 20 ms per disk, and it waits for locks of running guests; the header costs 0.02 ms.
Layout: docs/interop/qcow2.txt of QEMU (magic, version, backing file offset and length, ..., virtual size at byte 24).
"""

from __future__ import annotations

import dataclasses
import os
import stat
import struct

from ._lxc_disk import stamp
from ._paths import CONTAINER_DISK, format_of, kind_of

_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQ")
#: Where version 3 has its incompatible features, the bit of them that says that the next byte counts, and that byte.
_FEATURES, _COMPRESSION_BIT, _COMPRESSION = 72, 1 << 3, 104
ZLIB, ZSTD = 0, 1  #: how clusters are compressed
_LONGEST_NAME = 1023


@dataclasses.dataclass(frozen=True)
class Header:
    """`size` is the virtual size in bytes; `backing` the backing file as written in the header."""

    size: int
    backing: str | None
    compression: int = ZLIB
    stamp: str | None = None  #: of a container's disk, see _lxc_disk.stamp


def read_header(path: str, *, strict: bool = False) -> Header | None:
    """The header of a qcow2 file; None where there is no file or it is not a (whole) qcow2 header.

    `strict`: OSError where there is a file that cannot be opened, for those who remove what nothing stands on.
    A raw disk, which its name tells, has none: then what one would say. A container's disk that is no ext4 is none.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        if strict and stat.S_ISREG(os.stat(path).st_mode):  # not a socket, which nobody can open
            raise
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return None
        if kind_of(path) == CONTAINER_DISK:
            stamped = stamp(handle)
            return Header(found.st_size, None, stamp=stamped) if stamped else None
        if format_of(path) == "raw":
            return Header(found.st_size, None)
        data = os.pread(handle, _HEADER.size, 0)
        if len(data) < _HEADER.size:
            return None
        magic, version, offset, length, _cluster_bits, size = _HEADER.unpack(data)
        if magic != _MAGIC or version not in (2, 3) or length > _LONGEST_NAME:
            return None
        backing = os.pread(handle, length, offset).decode("utf-8", "surrogateescape") if offset else None
        return Header(size, backing, _compression(handle) if version == 3 else ZLIB)
    finally:
        os.close(handle)


def _compression(handle: int) -> int:
    """ZLIB or ZSTD: only a file that says so in its features has another one than the first."""
    features = int.from_bytes(os.pread(handle, 8, _FEATURES), "big")
    said = os.pread(handle, 1, _COMPRESSION) if features & _COMPRESSION_BIT else b""
    return said[0] if said else ZLIB
