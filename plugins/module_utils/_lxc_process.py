# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs of a container on this HostOS, by the machine's own word.

libvirt 9.0 has been seen to lose its connection to a container's controller in the moment of the start, under load: it
then never learns who the container's init is ("Init process ID is not yet known"), nor that it has ended.
"""

from __future__ import annotations

import os
import pathlib

#: systemd's SIGRTMIN+4, "power off", as the kernel counts (SIGRTMIN is 34 for the C library).
SYSTEMD_POWEROFF = 38
#: Where libvirt's controllers of containers listen for libvirt, and the kernel's list of such sockets.
SOCKETS = "/run/libvirt/lxc"
_UNIX = "/proc/net/unix"
_CONNECTED = "03"

_VARIABLE = b"LIBVIRT_LXC_UUID="


def processes(proc: str = "/proc") -> dict[str, list[int]]:
    """uuid of each container that runs -> process ids of all that has it in its environment, as each init has it."""
    found: dict[str, list[int]] = {}
    for path in pathlib.Path(proc).glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        for variable in variables:
            if variable.startswith(_VARIABLE):
                uuid = variable[len(_VARIABLE) :].decode("ascii", "replace")
                found.setdefault(uuid, []).append(int(path.parent.name))
    return found


def processes_of(uuid: str, proc: str = "/proc") -> list[int]:
    return sorted(processes(proc).get(uuid, []))


def is_heard(name: str, listing: str = _UNIX) -> bool:
    """Whether libvirt is connected to a container's controller."""
    socket = f"{SOCKETS}/{name}.sock"
    for line in pathlib.Path(listing).read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == socket and fields[5] == _CONNECTED:
            return True
    return False


def power_off_systemd(uuid: str, proc: str = "/proc") -> bool:
    """Ask the systemd that is a container's init to shut it down; False where its init is none."""
    for pid in processes_of(uuid, proc):
        try:
            folder = pathlib.Path(proc) / str(pid)
            is_init = _last_id((folder / "status").read_text(encoding="utf-8", errors="replace")) == 1
            if is_init and (folder / "comm").read_text(encoding="utf-8", errors="replace").strip() == "systemd":
                os.kill(pid, SYSTEMD_POWEROFF)
                return True
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
    return False


def _last_id(status: str) -> int:
    """A process's id in the innermost namespace that it is in."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0
