# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `vzctl status` prints: one line on stdout. Its stderr is noise, and its exit code is always 0 in 4.11."""

from __future__ import annotations

import dataclasses
import re

from ._driver import DriverError

RUNNING = "running"
STOPPED = "stopped"
PAUSED = "paused"
SUSPENDED = "suspended"
MOUNTED = "mounted"  #: stopped, with its private area mounted
ABSENT = "absent"

_LINE = re.compile(r"^(?:CTID|VEID|CT) (\S+) (exist|deleted) (mounted|unmounted) (\S+)((?: \S+)*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Status:
    """One container as `vzctl status` sees it."""

    ctid: str
    exists: bool
    mounted: bool
    power: str  #: running | paused | suspended | down

    @property
    def state(self) -> str:
        """One of the words above."""
        if not self.exists:
            return ABSENT
        if self.power != "down":
            return self.power
        return MOUNTED if self.mounted else STOPPED


def read_status(text: str) -> Status:
    """From stdout. DriverError for anything else than the one line that is expected."""
    match = _LINE.search(text)
    if match is None:
        raise DriverError(f"`vzctl status` printed something else than a status: {text.strip()[:200]!r}")
    ctid, exists, mounted, power, rest = match.groups()
    words = rest.split()
    if power == "down" and SUSPENDED in words:  # legacy and the manual page of 7 have a sixth word
        power = SUSPENDED
    if power not in ("running", "paused", "suspended", "down"):
        raise DriverError(f"`vzctl status` calls container {ctid} {power!r}, which nobody has described")
    return Status(ctid, exists == "exist", mounted == "mounted", power)
