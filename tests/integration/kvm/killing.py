# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at the n-th thing that a run does to the outside world, for every n.

What counts as a thing: every rename, link, removal and new directory, every program that is started, and every call
that changes something in libvirt. Killed before the n-th is killed after the one before it: one sweep, both sides.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import threading
import typing as t

import libvirt

_FILES = ("replace", "rename", "link", "unlink", "mkdir")
_CONNECTION = ("defineXML",)
_DOMAIN = (
    "attachDeviceFlags",
    "blockResize",
    "createWithFlags",
    "destroy",
    "detachDeviceFlags",
    "managedSaveRemove",
    "rename",
    "resume",
    "setAutostart",
    "setMemoryFlags",
    "setMetadata",
    "setVcpusFlags",
    "shutdownFlags",
    "suspend",
    "undefineFlags",
    "updateDeviceFlags",
)


def _counted(function: t.Callable[..., t.Any], tick: t.Callable[[], None]) -> t.Callable[..., t.Any]:
    def call(*words: t.Any, **names: t.Any) -> t.Any:
        tick()
        return function(*words, **names)

    return call


def killed_before(number: int, run: t.Callable[[], object]) -> bool:
    """Run in a process of its own, killed before it does its `number`-th thing. False: it did fewer, and ended."""
    child = os.fork()
    if child == 0:
        _die_at(number)
        try:
            run()
        finally:
            os._exit(0)
    _child, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _die_at(number: int) -> None:
    lock, done = threading.Lock(), [0]

    def tick() -> None:
        with lock:
            if done[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            done[0] += 1

    for holder, names in ((os, _FILES), (libvirt.virConnect, _CONNECTION), (libvirt.virDomain, _DOMAIN)):
        for name in names:
            setattr(holder, name, _counted(getattr(holder, name), tick))
    subprocess.run = _counted(subprocess.run, tick)
    # pathlib of Python 3.11 looks its functions up when it is used, so it counts too; be sure of it.
    if pathlib.os is not os:
        raise RuntimeError("pathlib does not use the os that was patched")
