# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a container: /vz/lock/CTID.lck, made by link(2), with the pid of its holder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t

from . import conf, paths
from .say import Failure, Say

LOCKED = 9


@contextlib.contextmanager
def held(ctid: int, say: Say) -> t.Iterator[None]:
    directory = paths.real(conf.global_conf()["LOCKDIR"])
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / f"{ctid}.lck"
    mine = directory / f"{ctid}.lck{os.getpid()}"
    mine.write_text(f"{os.getpid()}\n\n", encoding="ascii")
    try:
        _take(mine, lock, say)
    finally:
        mine.unlink()
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _take(mine: pathlib.Path, lock: pathlib.Path, say: Say) -> None:
    for _try in range(3):
        try:
            os.link(mine, lock)
            return
        except FileExistsError:
            pid = _holder(lock)
        if pid and pathlib.Path(f"/proc/{pid}").exists():
            raise _locked(pid, say)
        if pid:
            say.out(f"Removing stale lock file {lock}")
        lock.unlink(missing_ok=True)
    raise say.fail(3, "Unable to lock container")


def _holder(lock: pathlib.Path) -> int:
    """0: it says nothing sensible."""
    try:
        first = lock.read_text(encoding="ascii").splitlines()[0]
        return int(first)
    except (OSError, ValueError, IndexError):
        return 0


def _locked(pid: int, say: Say) -> Failure:
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    cmdline = " ".join(word.decode(errors="replace") for word in words if word)
    return say.fail(LOCKED, f"Locked by: pid {pid}, cmdline {cmdline}", "Container already locked")
