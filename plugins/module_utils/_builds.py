# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds on a HostOS: fetched once, verified by sha256 before anything stands on them, removed when nothing does.

A build is named by the sha256 of its file, so "is it the right one" never needs anybody's word. It is fetched under
another name and gets its own when it is whole and verified; what a killed run leaves is removed by the next one.
A pool may be shared, and another HostOS be faster with the same build: a right file that is there is never replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import pathlib
import tempfile
import typing as t

from ._driver import DriverError
from ._files import sync_directory
from ._paths import KERNEL_FILES, build_of, kernel_path
from ._qcow2 import read_header

_PREFIX = ".fetch-"
_CHUNK = 1 << 20
#: What link() says where the file system has no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
#: Left free on the pool beside the build itself.
_SPARE = 64 * 2**20


class BuildError(DriverError):
    """A build that cannot be had or must not be removed; the message names it, why and what to do."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A build that shall lie at `path`, which is <pool>/builds/<build_id>.qcow2."""

    build_id: str
    path: pathlib.Path
    url: str | None = None
    size: int | None = None  #: bytes
    verified: bool = False  #: this file was verified before
    image: str | None = None
    kernel: tuple[tuple[str, str], ...] = ()  #: files that lie beside it, for guests that boot them: (name, sha256)

    def __str__(self) -> str:
        return f"build {self.build_id[:12]} of image {self.image or '?'}"


#: Opens a URL and gives chunks of what is there.
Download = t.Callable[[str], t.Iterator[bytes]]


def missing(build: Wanted) -> bool:
    """Whether the build has to be fetched. Raises BuildError where a wrong file lies there and is in use."""
    if not build.path.is_file():
        return True
    if build.verified and (build.size is None or build.path.stat().st_size == build.size):
        return False
    if sha256(build.path) == build.build_id:
        return False
    _refuse_in_use(build)
    return True


def _refuse_in_use(build: Wanted) -> None:
    """BuildError where something stands on the wrong file at the build's path."""
    overlay = needed_by([build.path.parent.parent]).get(build.build_id)
    if overlay:
        raise BuildError(
            f"{build}: {build.path} is not what its name says (sha256 differs), and {overlay} stands on it: stop its"
            f" guest and put the right file there ({build.url or 'nobody knows a URL'})"
        )


def missing_kernel(build: Wanted) -> list[str]:
    """Names of the kernel's files that have to be fetched. They are small: what is there is read every time."""
    there = {name: pathlib.Path(kernel_path(str(build.path), name)) for name, _sum in build.kernel}
    return [name for name, wanted in build.kernel if not there[name].is_file() or sha256(there[name]) != wanted]


def refuse(build: Wanted) -> None:
    """Everything that speaks against fetching the build; raises BuildError."""
    pool = build.path.parent.parent
    if not pool.is_dir():
        raise BuildError(f"{build}: the pool's folder {pool} is not there: run oscarv.virt.hostos")
    if not build.url:
        raise BuildError(
            f"{build} is not at {build.path}, and the ledger knows no URL for it: build the image again"
            " (oscarv.virt.image), or copy the file there"
        )
    free = os.statvfs(pool).f_bavail * os.statvfs(pool).f_frsize
    if build.size is not None and build.size + _SPARE > free:
        raise BuildError(f"{build} has {build.size} bytes, {pool} has {free} free: make room there")


def fetch(build: Wanted, download: Download) -> None:
    """Fetch, verify and put in place. Raises BuildError; the place is then as before."""
    _fetch(build, str(build.url), build.path, build.build_id, download)


def fetch_kernel(build: Wanted, name: str, download: Download) -> None:
    """The same for a file of its kernel, which lies beside the disk in the builder's store under its own name."""
    url = f"{str(build.url).rpartition('/')[0]}/{name}"
    _fetch(build, url, pathlib.Path(kernel_path(str(build.path), name)), dict(build.kernel)[name], download)


def _fetch(build: Wanted, url: str, path: pathlib.Path, wanted: str, download: Download) -> None:
    folder = path.parent
    folder.mkdir(mode=0o755, exist_ok=True)
    sweep(folder)
    digest = hashlib.sha256()
    with _temporary(folder) as (handle, name):
        try:
            for chunk in download(url):
                digest.update(chunk)
                handle.write(chunk)
        except OSError as error:
            raise BuildError(f"{build}: {url}: {error}") from error
        if digest.hexdigest() != wanted:
            what = "build" if path == build.path else f"build's {path.name.partition('.')[2]}"
            raise BuildError(
                f"{build}: {url} gave {handle.tell()} bytes with sha256 {digest.hexdigest()[:12]}..., not the {what}:"
                " is the builder's folder whole? Run oscarv.virt.image"
            )
        handle.flush()
        os.fchmod(handle.fileno(), 0o444)
        os.fsync(handle.fileno())
        _place(build, name, path, wanted)
    sync_directory(folder)


def _place(build: Wanted, name: str, path: pathlib.Path, wanted: str) -> None:
    """Give the verified file `name` its own name, unless a right one got there meanwhile.

    That one may be open under guests. Replaced on NFS, it would be gone for those of other HostOSes (ESTALE).
    """
    try:
        os.link(name, path)
        return
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    if path.is_file():
        if sha256(path) == wanted:
            return
        if path == build.path:
            _refuse_in_use(build)
    os.rename(name, path)


@contextlib.contextmanager
def _temporary(folder: pathlib.Path) -> t.Iterator[tuple[t.IO[bytes], str]]:
    """A file that is locked while somebody writes it, and whose name is gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
    with open(descriptor, "wb") as handle:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield handle, name
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def sweep(folder: pathlib.Path) -> None:
    """Remove what killed runs left: files that nobody holds.

    Opened for writing: NFS makes flock() of byte-range locks, and grants an exclusive one for nothing else (EBADF).
    """
    for path in folder.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError), open(path, "r+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def needed_by(pools: t.Iterable[pathlib.Path], without: t.Iterable[pathlib.Path] = ()) -> dict[str, str]:
    """build_id -> an overlay that stands on it. Every file in the pools is asked, whoever made it, running or not.

    `without`: folders whose files do not count. Raises BuildError where a folder or a file cannot be read: it may be
    an overlay. What is not there any more, or never was, is none.
    """
    found: dict[str, str] = {}
    skipped = {str(folder) for folder in without}
    for pool in pools:
        for folder, _folders, names in os.walk(pool, onerror=_unreadable):
            if folder in skipped:
                continue
            for name in names:
                path = os.path.join(folder, name)
                build = _stands_on(path)
                if build:
                    found.setdefault(build, path)
    return found


def _stands_on(path: str) -> str | None:
    try:
        header = read_header(path, strict=True)
    except OSError as error:
        error.filename = path  # reading an open file tells none
        _unreadable(error)
        return None
    return build_of(header.backing) if header else None


def _unreadable(error: OSError) -> None:
    """BuildError, unless it was only removed while we looked."""
    if isinstance(error, FileNotFoundError):
        return
    raise BuildError(
        f"{error.filename}: {error.strerror or error}: it may be a disk that stands on a build, so nothing was removed:"
        " make it readable for this HostOS, or move it out of the pool, and run this again"
    ) from error


def remove(path: pathlib.Path) -> None:
    """Remove a build with its kernel, and the folder of builds when it was the last."""
    for name in KERNEL_FILES:  # first: the build itself tells the next run that something is left
        pathlib.Path(kernel_path(str(path), name)).unlink(missing_ok=True)
    path.unlink(missing_ok=True)  # in a pool that is shared another HostOS may have been faster
    with contextlib.suppress(FileNotFoundError):
        sweep(path.parent)
    with contextlib.suppress(OSError):  # others are in it, or it is gone
        path.parent.rmdir()
        return
    with contextlib.suppress(FileNotFoundError):
        sync_directory(path.parent)
