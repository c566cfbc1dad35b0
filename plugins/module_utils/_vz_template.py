# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's template, made from the root of the build that virtual machines stand on.

`vzctl create` unpacks /vz/template/cache/NAME.tar.gz. The build is on the HostOS already, verified by its sha256, so
its root is taken out of it here, once for all containers of the build. The mount for it is in a mount namespace
of its own, which ends with the program, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess

from ._driver import DriverError
from ._files import whole
from ._lxc_disk import root_of

#: As `vzctl create` looks for it.
SUFFIX = ".tar.gz"
#: A container has the HostOS's kernel, and a root that is mounted before its init runs.
_WITHOUT = ("./boot/*", "./etc/fstab", "./lost+found")
#: How the folders are called in which templates are made; an earlier version made names up after it.
_PLACE = ".oscarv-"
_PACK = """
mount -t ext4 -o ro,noload,loop "$1" "$2" || exit 1
archive=$3
shift 3
tar --numeric-owner --xattrs --one-file-system "$@" -cf - . | gzip -1 > "$archive"
"""


def make(build: str, template: pathlib.Path, guest: str) -> None:
    """Make `template` (NAME.tar.gz) from `build` (a qcow2), whole or not at all; nothing where it is there."""
    template.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(template.parent / ".oscarv.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several guests of one build are made at once
        _sweep(template.parent)
        if template.exists():
            return
        place = template.parent / f"{_PLACE}{template.name}"
        place.mkdir(mode=0o700)
        try:
            _make(build, template, place, guest)
        finally:
            _sweep(template.parent)


def _sweep(cache: pathlib.Path) -> None:
    """What was killed leaves a whole root disk. Nobody works in these folders while we have the lock."""
    for left in cache.glob(f"{_PLACE}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


def _make(build: str, template: pathlib.Path, place: pathlib.Path, guest: str) -> None:
    root, mount = place / "root", place / "mount"
    mount.mkdir()
    start, length = root_of(build, guest)
    source = f"driver=raw,offset={start},size={length},file.driver=qcow2,file.file.driver=file"
    words = [
        "qemu-img",
        "convert",
        "-O",
        "raw",
        "--image-opts",
        f"{source},file.file.filename={build.replace(',', ',,')}",
    ]
    _run([*words, str(root)], build, guest)
    with whole(template, 0o644) as partial:
        without = [f"--exclude={pattern}" for pattern in _WITHOUT]
        script = ["unshare", "--mount", "--propagation", "private", "bash", "-euo", "pipefail", "-c", _PACK, "pack"]
        _run([*script, str(root), str(mount), str(partial), "-C", str(mount), *without], build, guest)
        os.sync()


def _run(words: list[str], build: str, guest: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise DriverError(
            f"guest {guest}: {words[0]} is missing on the HostOS, and its template cannot be made: run"
            " oscarv.virt.hostos"
        ) from None
    if done.returncode:
        said = done.stderr.strip() or f"{words[0]} ended with {done.returncode}"
        raise DriverError(f"guest {guest}: cannot make a template of {build}: {said}")
