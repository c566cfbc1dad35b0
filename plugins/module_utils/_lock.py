# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lock per HostOS: whoever changes guests (`guest`, `guest_migrate`) holds it.

An flock, because the kernel gives it back when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import time
import typing as t

from ._driver import DriverError

#: Seconds between two tries. The lock is held for seconds to minutes, so this costs nothing and delays little.
RETRY = 0.2


class Locked(DriverError):
    """Somebody else is changing guests on this HostOS."""


def lock_path(state_dir: str) -> pathlib.Path:
    return pathlib.Path(state_dir) / "lock"


@contextlib.contextmanager
def hold(state_dir: str, purpose: str, timeout: float = 60.0) -> t.Iterator[None]:
    """Hold the HostOS lock for the block; `Locked` names the holder after `timeout` seconds.

    `purpose` is what others are told while they wait, e.g. "guest_migrate wn001".
    """
    path = lock_path(state_dir)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(handle, path, timeout)
        _write_holder(handle, purpose)
        yield
    finally:
        os.close(handle)  # gives the lock back; the file stays, removing it would let two hold "the" lock


def _acquire(handle: int, path: pathlib.Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Locked(
                    f"the guests of this HostOS are being changed by {_holder(handle)}, which holds {path}; waited"
                    f" {timeout:g} s. Run again when it has finished, or raise lock_timeout"
                ) from None
            time.sleep(RETRY)


def _write_holder(handle: int, purpose: str) -> None:
    text = json.dumps({"pid": os.getpid(), "purpose": purpose, "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _holder(handle: int) -> str:
    try:
        data = json.loads(os.pread(handle, 4096, 0))
        return f"{data['purpose']} (process {data['pid']}, since {data['since']})"
    except (ValueError, KeyError, TypeError):  # its holder has not written yet
        return "another process"
