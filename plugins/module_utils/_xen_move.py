# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live moves between Xen HostOSes: what libxl leaves to us, so that two QEMUs never write to one disk.

libvirt lets a guest go on at the target before it takes it away here, and the QEMU in dom0 that serves its disks writes
out what it still holds of a qcow2 file's tables when it ends, which is later still. QEMU under KVM hands its disks
over; this one does not, and takes no locks. So the guest arrives paused, and goes on when nothing here has its disks
open.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import time
import typing as t

from ._dialect import XEN
from ._driver import DriverError
from ._hostos import mount_of
from ._kvm_connection import require_libvirt

if t.TYPE_CHECKING:
    from ._kvm_move_plan import MovePlan

#: Seconds that the QEMU of a guest that has left gets to end.
PATIENCE = 60.0
#: Seconds between two looks whether a guest that moves is still alive; `xl` is not for nothing.
LOOK = 15.0
#: Seconds that `xl` gets to answer.
XL = 60.0
#: Seconds that libvirt gets to end a move whose guest has ended. Seen on Debian 12: after 10 minutes it still waited.
VAIN = 120.0
#: Xen's reason codes (SHUTDOWN_* of its sched.h) of a domain that has ended. 2, suspended, is how each move goes.
ENDED = {"0": "powered off", "1": "rebooted", "3": "crashed", "4": "was ended by its watchdog"}


class Vain:
    """Whether libvirt waits in vain: asked again and again while it moves a guest, says why, or None.

    When a guest ends while libxl sends its memory, libvirt 9.0 goes on waiting for the rest, on both sides, and libxl
    has no way to give a move up. A restart of the source's libvirtd ends both; the guest is then where it was.
    """

    def __init__(self, guest: str) -> None:
        self._guest = guest
        self._look_at = time.monotonic() + LOOK
        self._since: float | None = None

    def __call__(self) -> str | None:
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LOOK
        end = _end_of(self._guest)
        if end is None:
            self._since = None
            return None
        self._since = self._since or now
        if now - self._since < VAIN:
            return None
        return (
            f"guest {self._guest}: it {end} while it was moved, and libvirt here goes on waiting for the rest of its"
            " memory: restart libvirtd on this HostOS (guests go on running)"
        )


def _end_of(guest: str) -> str | None:
    """How a domain of this HostOS has ended that Xen still has, in a word; None: it has not, or nobody can tell."""
    argv = ["xl", "list", "-v", guest]
    try:
        listed = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=XL).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    for line in listed.splitlines()[1:]:
        words = line.split()
        if words[0] == guest and len(words) > 7:
            return ENDED.get(words[7])
    return None


def arrives_paused(plan: MovePlan) -> bool:
    return plan.live and plan.config.domain_type == XEN.hypervisor


def refusals(plan: MovePlan) -> list[str]:
    """Why a guest cannot be moved live, that its capabilities do not tell."""
    if not arrives_paused(plan):
        return []
    reasons = ["it is paused, and libxl asks a guest to suspend itself: resume it"] * (plan.seen.state == "paused")
    for directory, pool in sorted({(disk.directory, disk.pool) for disk in plan.disks if disk.shared}):
        kind, options = mount_of(directory)
        if kind.startswith("nfs") and "sync" not in options:
            reasons.append(
                f"pool {pool} at {directory} is NFS without the mount option sync: what is written here may reach the"
                " server after the target has opened the disks. Mount it so (stop the pool and run oscarv.virt.hostos),"
                " or move it cold"
            )
    return reasons


def holders(paths: t.Collection[str], proc: str = "/proc") -> list[int]:
    """Process ids of all that have one of these files open on this HostOS."""
    found = []
    for folder in pathlib.Path(proc).glob("[0-9]*/fd"):
        try:
            links = list(folder.iterdir())
        except OSError:  # it has ended
            continue
        if any(_leads_to(link) in paths for link in links):
            found.append(int(folder.parent.name))
    return found


def _leads_to(link: pathlib.Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""


def go_on(plan: MovePlan, domain: t.Any, wait_until: t.Callable[[t.Callable[[], bool], float], bool]) -> None:
    """Let the guest go on at the target (`domain`). DriverError: it stays paused there; why, and what to do."""
    paths = {disk.path for disk in plan.disks}
    if not wait_until(lambda: not holders(paths), PATIENCE):
        raise DriverError(
            f"it stays paused: processes {holders(paths)} here still have its disks open. When they have ended,"
            " oscarv.virt.deploy lets it go on"
        )
    if domain.state()[0] == require_libvirt().VIR_DOMAIN_PAUSED:
        domain.resume()
