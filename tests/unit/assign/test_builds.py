# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds on a HostOS: whole and verified or not there, and never taken away from under an overlay."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _builds as builds
from ansible_collections.oscarv.virt.plugins.modules import host_builds

CONTENT = b"a build" * 1000
BUILD_ID = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def pool(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "pool").mkdir()
    return tmp_path / "pool"


def wanted(pool: pathlib.Path, **more: t.Any) -> builds.Wanted:
    return builds.Wanted(BUILD_ID, pool / "builds" / f"{BUILD_ID}.qcow2", "http://builder/x", len(CONTENT), **more)


def download(url: str) -> t.Iterator[bytes]:
    assert url == "http://builder/x"
    yield CONTENT[:100]
    yield CONTENT[100:]


def overlay(path: pathlib.Path, backing: str) -> None:
    """A qcow2 header as QEMU writes it."""
    path.parent.mkdir(exist_ok=True)
    name = backing.encode()
    path.write_bytes(struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 512, len(name), 16, 2**30).ljust(512, b"\0") + name)


def present(build: builds.Wanted, *, check: bool = False) -> dict[str, t.Any]:
    return host_builds.present([build], download, check)


def test_check_real_and_again(pool: pathlib.Path) -> None:
    build = wanted(pool)
    predicted = present(build, check=True)
    assert predicted["changed"] and not (pool / "builds").exists()
    done = present(build)
    assert done == predicted and done["fetched"] == [BUILD_ID] and done["diff"]["after"] == f"{build.path}\n"
    assert build.path.read_bytes() == CONTENT and build.path.stat().st_mode & 0o777 == 0o444
    again = present(build)
    assert not again["changed"] and again["verified"] == [BUILD_ID] and again["fetched"] == []
    assert os.listdir(pool / "builds") == [build.path.name]


def test_a_download_that_is_something_else_leaves_nothing(pool: pathlib.Path) -> None:
    with pytest.raises(builds.BuildError, match="not the build: is the builder's folder whole"):
        builds.fetch(wanted(pool), lambda url: iter([CONTENT[:-1]]))
    assert os.listdir(pool / "builds") == []


def test_a_download_that_breaks_leaves_nothing(pool: pathlib.Path) -> None:
    def breaks(url: str) -> t.Iterator[bytes]:
        yield CONTENT[:10]
        raise OSError("connection reset")

    with pytest.raises(builds.BuildError, match="http://builder/x: connection reset"):
        builds.fetch(wanted(pool), breaks)
    assert os.listdir(pool / "builds") == []


def test_a_killed_fetch_is_swept_by_the_next_and_a_living_one_is_not(pool: pathlib.Path) -> None:
    """A real process, killed with -9 in the middle of the download."""
    program = (
        "import sys, time, pathlib; sys.path[:0] = sys.argv[2:]\n"
        "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder\n"
        "_AnsibleCollectionFinder(paths=[sys.argv[2]])._install()\n"
        "from ansible_collections.oscarv.virt.plugins.module_utils import _builds as b\n"
        "def slow(url):\n"
        "    yield b'part'\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
        f"b.fetch(b.Wanted('{BUILD_ID}', pathlib.Path(sys.argv[1]), 'x'), slow)\n"
    )
    collections = str(pathlib.Path(__file__).resolve().parents[3] / ".build" / "collections")
    path = str(pool / "builds" / f"{BUILD_ID}.qcow2")
    child = subprocess.Popen([sys.executable, "-c", program, path, collections], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "half\n"
        builds.sweep(pool / "builds")
        assert len(os.listdir(pool / "builds")) == 1, "the file of a living download was removed"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert len(os.listdir(pool / "builds")) == 1
    assert present(wanted(pool))["changed"]
    assert os.listdir(pool / "builds") == [f"{BUILD_ID}.qcow2"]


def test_what_a_killed_fetch_left_is_swept_on_nfs_too(pool: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS is played: it grants an exclusive flock() only on what is open for writing, see flock(2)."""
    flock = fcntl.flock

    def nfs(file: t.Any, operation: int) -> None:
        if operation & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", nfs)
    (pool / "builds").mkdir()
    (pool / "builds" / ".fetch-killed").write_bytes(b"part")
    builds.sweep(pool / "builds")
    assert os.listdir(pool / "builds") == []


def test_a_wrong_file_is_replaced_unless_something_stands_on_it(pool: pathlib.Path) -> None:
    build = wanted(pool)
    build.path.parent.mkdir()
    build.path.write_bytes(b"x" * len(CONTENT))
    overlay(pool / "demo" / "wn1-root.qcow2", str(build.path))
    with pytest.raises(builds.BuildError, match="wn1-root.qcow2 stands on it"):
        present(build)
    assert not present(wanted(pool, verified=True))["changed"], "verified before: not read again"
    (pool / "demo" / "wn1-root.qcow2").unlink()
    assert present(build)["changed"] and build.path.read_bytes() == CONTENT


def test_a_verified_file_of_another_size_is_read_again(pool: pathlib.Path) -> None:
    build = wanted(pool, verified=True)
    build.path.parent.mkdir()
    build.path.write_bytes(CONTENT[:-1])
    assert present(build)["changed"] and build.path.read_bytes() == CONTENT


def test_what_speaks_against_fetching_is_said_before(pool: pathlib.Path) -> None:
    build = wanted(pool)
    with pytest.raises(builds.BuildError, match="knows no URL for it"):
        builds.refuse(builds.Wanted(BUILD_ID, build.path))
    with pytest.raises(builds.BuildError, match="make room there"):
        builds.refuse(builds.Wanted(BUILD_ID, build.path, "http://x", 2**60))
    with pytest.raises(builds.BuildError, match="is not there: run oscarv.virt.hostos"):
        builds.refuse(wanted(pool / "none"))


def test_absent_removes_only_what_nothing_stands_on(pool: pathlib.Path) -> None:
    build = wanted(pool)
    present(build)
    overlay(pool / "other" / "snap.shot", str(build.path))
    params = {"pools": [str(pool)], "state_dir": str(pool.parent / "state"), "leaving": [str(pool / "other")]}
    assert host_builds.absent([build], params, True)["changed"], "a run would have emptied the folder before"
    kept = host_builds.absent([build], params, False)
    assert not kept["changed"] and kept["kept"] == {BUILD_ID: str(pool / "other" / "snap.shot")}
    (pool / "other" / "snap.shot").unlink()
    predicted = host_builds.absent([build], params, True)
    assert predicted["changed"] and build.path.exists()
    assert host_builds.absent([build], params, False) == predicted and not build.path.parent.exists()
    assert not host_builds.absent([build], params, False)["changed"]


@pytest.mark.parametrize("call", ["open", "pread", "scandir"])
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_what_cannot_be_read_may_stand_on_the_build(
    pool: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    build, disk = wanted(pool), pool / "demo" / "wn1-root.qcow2"
    present(build)
    overlay(disk, str(build.path))
    bad, real = disk.parent if call == "scandir" else disk, getattr(os, call)
    inode = disk.stat().st_ino

    def fails(what: t.Any, *more: t.Any) -> t.Any:
        if what == str(bad) or (isinstance(what, int) and os.fstat(what).st_ino == inode):
            raise OSError(number, os.strerror(number), *([] if isinstance(what, int) else [what]))
        return real(what, *more)

    monkeypatch.setattr(os, call, fails)
    params = {"pools": [str(pool)], "state_dir": str(pool.parent / "state"), "leaving": []}
    for check in (True, False):
        with pytest.raises(builds.BuildError, match="nothing was removed") as told:
            host_builds.absent([build], params, check)
        assert str(told.value).startswith(f"{bad}: {os.strerror(number)}: ")
    assert build.path.read_bytes() == CONTENT
    build.path.chmod(0o644)
    build.path.write_bytes(b"wrong")
    with pytest.raises(builds.BuildError, match="nothing was removed"):
        present(build)
    assert build.path.read_bytes() == b"wrong"


def test_what_is_gone_or_no_file_stands_on_nothing(pool: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build, folder = wanted(pool), pool / "demo"
    present(build)
    folder.mkdir()
    os.symlink(folder / "nowhere", folder / "dangling")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert builds.needed_by([pool, pool / "none"]) == {}
    params = {"pools": [str(pool), str(pool / "none")], "state_dir": str(pool.parent / "state"), "leaving": []}
    assert host_builds.absent([build], params, False)["changed"] and not build.path.exists()


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("name", ["", "vmlinuz"])
def test_another_hostos_fetched_it_meanwhile(
    pool: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, links: bool
) -> None:
    """What it put there is open under its guests: it stays the very same file."""
    build = wanted(pool, kernel=SUMS)
    path = pool / "builds" / f"{BUILD_ID}.{name}" if name else build.path

    def fetch(download: builds.Download) -> None:
        if name:
            builds.fetch_kernel(build, name, download)
        else:
            builds.fetch(build, download)

    def slow(url: str) -> t.Iterator[bytes]:
        fetch(store)
        inodes.append(path.stat().st_ino)
        yield from store(url)

    def none(source: str, target: pathlib.Path) -> None:
        raise PermissionError(errno.EPERM, "a file system without hard links", source)

    if not links:
        monkeypatch.setattr(os, "link", none)
    inodes: list[int] = []
    fetch(slow)
    assert [path.stat().st_ino] == inodes and path.stat().st_nlink == 1
    assert os.listdir(pool / "builds") == [path.name]


def test_a_wrong_file_that_came_meanwhile_is_replaced_unless_something_stands_on_it(pool: pathlib.Path) -> None:
    build = wanted(pool)
    disk = pool / "demo" / "wn1-root.qcow2"

    def slow(url: str) -> t.Iterator[bytes]:
        build.path.write_bytes(b"wrong")
        yield CONTENT

    def with_a_guest(url: str) -> t.Iterator[bytes]:
        overlay(disk, str(build.path))
        yield from slow(url)

    with pytest.raises(builds.BuildError, match="wn1-root.qcow2 stands on it"):
        builds.fetch(build, with_a_guest)
    assert build.path.read_bytes() == b"wrong" and os.listdir(pool / "builds") == [build.path.name]
    disk.unlink()
    builds.fetch(build, slow)
    assert build.path.read_bytes() == CONTENT and os.listdir(pool / "builds") == [build.path.name]


@pytest.mark.parametrize("others", [False, True])
def test_another_hostos_of_the_pool_was_faster(
    pool: pathlib.Path, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    build = wanted(pool)
    present(build)
    needed_by = builds.needed_by

    def slow(*arguments: t.Any) -> dict[str, str]:
        """The other HostOS removes it while we look who stands on it."""
        found = needed_by(*arguments)
        builds.remove(build.path)
        if others:
            build.path.parent.mkdir()
            (build.path.parent / "other").touch()
        return found

    monkeypatch.setattr(builds, "needed_by", slow)
    params = {"pools": [str(pool)], "state_dir": str(pool.parent / "state"), "leaving": []}
    assert host_builds.absent([build], params, False)["changed"]
    assert not build.path.exists() and build.path.parent.exists() is others


# -- the kernel of a build ------------------------------------------------------------------------------------------

PIECES = {"vmlinuz": b"kernel" * 10, "initrd.img": b"initramfs" * 10}
SUMS = tuple((name, hashlib.sha256(text).hexdigest()) for name, text in PIECES.items())


def store(url: str) -> t.Iterator[bytes]:
    """The builder's folder of the build."""
    yield {"x": CONTENT, **PIECES}[url.removeprefix("http://builder/")]


def test_the_kernel_comes_and_goes_with_its_build(pool: pathlib.Path) -> None:
    plain, build = wanted(pool), wanted(pool, kernel=SUMS)
    host_builds.present([plain], store, False)
    folder = pool / "builds"
    assert os.listdir(folder) == [f"{BUILD_ID}.qcow2"], "nobody boots it: it is not fetched"
    predicted = host_builds.present([build], store, True)
    assert os.listdir(folder) == [f"{BUILD_ID}.qcow2"]
    assert host_builds.present([build], store, False) == predicted and predicted["changed"]
    assert predicted["fetched"] == [BUILD_ID] and predicted["diff"]["before"] == f"{build.path}\n"
    for name, text in PIECES.items():
        path = folder / f"{BUILD_ID}.{name}"
        assert path.read_bytes() == text and path.stat().st_mode & 0o777 == 0o444
        assert f"{path}\n" in predicted["diff"]["after"]
    again = host_builds.present([build], store, False)
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]
    params = {"pools": [str(pool)], "state_dir": str(pool.parent / "state"), "leaving": []}
    gone = host_builds.absent([plain], params, False)
    assert gone["changed"] and gone["diff"]["before"].count("\n") == 3 and not folder.exists()


def test_a_kernel_that_is_something_else_is_fetched_again(pool: pathlib.Path) -> None:
    build = wanted(pool, kernel=SUMS, verified=True)
    host_builds.present([build], store, False)
    path = pool / "builds" / f"{BUILD_ID}.vmlinuz"
    path.chmod(0o644)
    path.write_bytes(b"another")
    assert host_builds.present([build], store, False)["changed"] and path.read_bytes() == PIECES["vmlinuz"]


def test_a_kernel_that_arrives_broken_leaves_nothing(pool: pathlib.Path) -> None:
    build = wanted(pool, kernel=SUMS)
    with pytest.raises(builds.BuildError, match="http://builder/initrd.img gave 3 bytes .* not the build's initrd.img"):
        builds.fetch_kernel(build, "initrd.img", lambda url: iter([b"bad"]))
    assert os.listdir(pool / "builds") == []


@pytest.mark.parametrize("kernel", [{"../evil": "0" * 64}, {"vmlinuz": "0" * 63}, {"vmlinuz": None}])
def test_a_kernel_that_is_none_is_refused(kernel: dict[str, t.Any]) -> None:
    item = {"build_id": BUILD_ID, "path": f"/pool/builds/{BUILD_ID}.qcow2", "kernel": kernel}
    with pytest.raises(builds.BuildError, match="allowed: vmlinuz and initrd.img with their sha256"):
        host_builds._read(item)


@pytest.mark.parametrize("path", ["builds/x.qcow2", f"/pool/builds/{'0' * 64}.qcow2", f"/pool/{BUILD_ID}.qcow2"])
def test_a_path_that_is_not_a_builds_is_refused(path: str) -> None:
    item = {"build_id": BUILD_ID, "path": path, "url": None, "size": None, "verified": False, "image": None}
    with pytest.raises(builds.BuildError, match="allowed: /POOL/builds/BUILD_ID.qcow2"):
        host_builds._read(item)
