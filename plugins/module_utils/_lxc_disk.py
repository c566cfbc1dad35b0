# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's disk: one ext4 file system in a sparse file, so its size is a limit and a move copies a file.

The root is taken out of the same build that virtual machines stand on, which the HostOS has verified already: the
partition of the build's root, without boot loader and partition table. Its UUID then begins as the build's id does, so
that a file tells from which build it was made, whoever asks. Nothing is mounted here, and nothing is left mounted.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import struct
import subprocess
import typing as t
import uuid

from ._driver import DriverError
from ._files import whole

#: Programs that make and grow such files, and the Debian package of each.
TOOLS = {"qemu-img": "qemu-utils", "mke2fs": "e2fsprogs", "resize2fs": "e2fsprogs", "debugfs": "e2fsprogs"}

SECTOR = 512
#: What is read of a disk to find its partitions: the GPT's header and 128 entries.
_HEAD_SECTORS = 40
_GPT = struct.Struct("<8s64xQII")
#: Types of partitions that hold a root: x86-64's own, and any Linux file system.
_ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
#: The superblock lies at byte 1024; the magic is at 0x38 in it, the UUID at 0x68.
_MAGIC_AT, _MAGIC, _UUID_AT = 1024 + 0x38, b"\x53\xef", 1024 + 0x68
#: e2fsck: 0 is clean, 1 is mended.
_MENDED = (0, 1)


def require_tools(guest: str) -> None:
    """DriverError names what is missing."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise DriverError(
            f"guest {guest}: the HostOS cannot make its disk: install {', '.join(missing)}; oscarv.virt.hostos does it"
        )


def stamp(handle: int) -> str | None:
    """The first 32 digits of the id of the build that an ext4 file was made from; None where it is no ext4.

    A data disk has a UUID that means nothing: compare it, do not believe it.
    """
    if os.pread(handle, 2, _MAGIC_AT) != _MAGIC:
        return None
    return os.pread(handle, 16, _UUID_AT).hex()


def create(path: str, size: int, build: str | None, build_id: str | None, guest: str) -> None:
    """Make a disk file of `size` bytes, whole or not at all: from the root of `build` (a qcow2), or empty."""
    target = pathlib.Path(path)
    target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    with whole(target, 0o600, durable_name=False) as partial:
        file = str(partial)
        if build is None:
            _sparse(file, size)
            _run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", file], guest, f"make {path}")
            return
        start, length = root_of(build, guest)
        source = f"driver=raw,offset={start},size={length},file.driver=qcow2,file.file.driver=file"
        words = ["qemu-img", "convert", "-O", "raw", "--image-opts", f"{source},file.file.filename={_escaped(build)}"]
        _run([*words, file], guest, f"make {path} from {build}")
        with open(file, "rb") as stream:
            if stamp(stream.fileno()) is None:
                raise DriverError(
                    f"guest {guest}: the root of build {build} is no ext4 file system: lxc knows ext4 only"
                )
        _sparse(file, size)
        _settle(file, guest)
        if build_id is not None:
            _run(["tune2fs", "-U", str(uuid.UUID(build_id[:32])), file], guest, f"name {path} after its build")


def grow(path: str, size: int, guest: str) -> None:
    """Grow the file of a container that is off, and the file system in it. Never shrinks."""
    if os.stat(path).st_size < size:
        _sparse(path, size)
        _settle(path, guest)


def _sparse(path: str, size: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, size)
    finally:
        os.close(handle)


def _settle(path: str, guest: str) -> None:
    """Let the file system fill its file; resize2fs wants to know first that it is sound."""
    _run(["e2fsck", "-f", "-p", path], guest, f"check {path}", good=_MENDED)
    _run(["resize2fs", path], guest, f"grow {path}")


def root_of(build: str, guest: str) -> tuple[int, int]:
    """(offset, length) in bytes of the root in a build with a GPT; of a build without partitions, the whole."""
    words = ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"bs={SECTOR}", f"count={_HEAD_SECTORS}", f"if={build}"]
    # qemu-img writes no pipe, and a file in memory is left by nobody who is killed.
    handle = os.memfd_create("head")
    try:
        purpose = f"read the partitions of {build}"
        _run([*words, f"of=/proc/self/fd/{handle}"], guest, purpose, handles=[handle])
        head = os.pread(handle, _HEAD_SECTORS * SECTOR, 0)
    finally:
        os.close(handle)
    found = _largest(partitions(head))
    if found is None:
        raise DriverError(
            f"guest {guest}: build {build} has no GPT with a Linux partition, so lxc finds no root in it: use an image"
            " with one (builder: debian makes such)"
        )
    return found


def partitions(head: bytes) -> list[tuple[uuid.UUID, int, int]]:
    """(type, offset, length) in bytes of each partition of a GPT; `head`: a disk's first sectors."""
    if head[SECTOR : SECTOR + 8] != b"EFI PART":
        return []
    _signature, table, number, entry_size = _GPT.unpack_from(head, SECTOR)
    found = []
    for index in range(number):
        entry = head[table * SECTOR + index * entry_size :][:entry_size]
        if len(entry) < 48 or not any(entry[:16]):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        found.append((uuid.UUID(bytes_le=entry[:16]), first * SECTOR, (last - first + 1) * SECTOR))
    return found


def _largest(found: t.Sequence[tuple[uuid.UUID, int, int]]) -> tuple[int, int] | None:
    """The partition that says that it is a root, else the largest Linux one."""
    for kind in (_ROOT, _LINUX):
        ours = [(length, offset) for type_, offset, length in found if type_ == kind]
        if ours:
            length, offset = max(ours)
            return offset, length
    return None


def _escaped(path: str) -> str:
    """A comma in a value of QEMU's options is written twice."""
    return path.replace(",", ",,")


def _run(
    words: list[str], guest: str, purpose: str, good: t.Collection[int] = (0,), handles: t.Collection[int] = ()
) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, pass_fds=tuple(handles)
    )
    if done.returncode not in good:
        said = done.stderr.strip() or done.stdout.strip() or f"{words[0]}: {done.returncode}"
        raise DriverError(f"guest {guest}: cannot {purpose}: {said}")
    return done.stdout
