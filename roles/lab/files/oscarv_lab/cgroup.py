# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control groups of a HostOS: its processes are exactly those in them, however they came to life.

Each HostOS needs groups of its own anyway: HostOSes that shared one would see each other's units and guests.
They stand in every mounted hierarchy (v1, v2 or both), below /oscarv-lab, as container engines without systemd do it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
import typing as t

from .base import LabError

TOP = "oscarv-lab"


def _hierarchies() -> list[tuple[pathlib.Path, bool]]:
    """Mount points of cgroup hierarchies, and whether each is a v2 one."""
    found = []
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _device, mount_point, kind = line.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            found.append((pathlib.Path(mount_point), kind == "cgroup2"))
    return found


def _groups(name: str) -> list[pathlib.Path]:
    return [top / TOP / name for top, _v2 in _hierarchies()]


def enter(name: str) -> pathlib.Path:
    """Put the calling process into groups of this name, made where missing.

    Returns the file that takes the process which shall be the machine: in v2 a group with groups below
    has no processes of its own, so that the caller stands beside it.
    """
    door = pathlib.Path("/dev/null")
    for top, v2 in _hierarchies():
        group = top
        for part in (TOP, *name.split("/")):
            group = _child(group, part, v2)
        if v2:
            door = _child(group, "machine", v2) / "cgroup.procs"
            group = _child(group, "outside", v2)
        (group / "cgroup.procs").write_text(str(os.getpid()))
    return door


def _child(group: pathlib.Path, name: str, v2: bool) -> pathlib.Path:
    if v2:  # what is not handed down is not there below
        for controller in (group / "cgroup.controllers").read_text().split():
            _write_if_allowed(group / "cgroup.subtree_control", f"+{controller}")
    child = group / name
    child.mkdir(exist_ok=True)
    for setting in () if v2 else ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, which then takes no process
        if (child / setting).exists() and not (child / setting).read_text().strip():
            (child / setting).write_text((group / setting).read_text())
    return child


def _write_if_allowed(path: pathlib.Path, text: str) -> None:
    """A controller that this machine does not let us hand down stays with it: a HostOS does without its limits."""
    with contextlib.suppress(OSError):
        path.write_text(text)


def processes(name: str) -> set[int]:
    """Every process in the groups of this name and below."""
    found: set[int] = set()
    for group in _groups(name):
        for folder, _folders, _files in os.walk(group):
            try:
                found.update(int(x) for x in (pathlib.Path(folder) / "cgroup.procs").read_text().split())
            except OSError:
                continue  # the group went away while we walked
    return found


def kill(name: str, timeout: float = 20) -> None:
    """Kill every process in the groups and remove the groups. LabError if some do not go within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while left := processes(name):
        for pid in left:
            _kill_member(pid, name)
        if time.monotonic() > deadline:
            raise LabError(f"processes {sorted(left)} of {name} do not go away after SIGKILL: see dmesg")
        time.sleep(0.05)
    for group in _groups(name):
        _remove(group, deadline)


def _kill_member(pid: int, name: str) -> None:
    """Kill a process, after making sure that the number still means a member of the groups."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if f"/{TOP}/{name}" in pathlib.Path(f"/proc/{pid}/cgroup").read_text():
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return
    finally:
        os.close(descriptor)


def _remove(group: pathlib.Path, deadline: float) -> None:
    for folder, _folders, _files in os.walk(group, topdown=False):
        while True:
            try:
                pathlib.Path(folder).rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # busy until the kernel has buried the last process
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            break


def exist(name: str) -> bool:
    return any(group.exists() for group in _groups(name))


def remove_empty(names: t.Iterable[str]) -> None:
    """Remove groups that stand empty; one that is in use (another lab's) stays."""
    for name in names:
        for top, _v2 in _hierarchies():
            group = top / TOP / name if name else top / TOP
            try:
                group.rmdir()
            except OSError:
                continue
