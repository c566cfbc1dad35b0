# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers we paused. On legacy neither `status` nor `vzlist` tells a frozen container from a running one.

A note counts for the boot of the HostOS and the start of the container that it was written for.
"""

from __future__ import annotations

import json
import pathlib
import time

from ._files import remove, write_json

_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")
#: Seconds by which two readings of one start may differ.
_SLACK = 10.0
#: Seconds after the boot of the HostOS at which the container started.
_BEGAN = "began"


class Paused:
    """`<state_dir>/openvz-paused/<ctid>.json`."""

    def __init__(self, state_dir: str) -> None:
        self._directory = pathlib.Path(state_dir) / "openvz-paused"

    def note(self, ctid: str, uptime: float | None) -> None:
        """`uptime`: seconds since the container started, read just now; None: not known."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self._path(ctid), {"boot": _boot(), _BEGAN: _before(since_boot(), uptime)})

    def forget(self, ctid: str) -> None:
        if self._directory.is_dir():
            remove(self._path(ctid))

    def has(self, ctid: str, uptime: float | None) -> bool:
        """Of a container that is said to run."""
        try:
            data = json.loads(self._path(ctid).read_text(encoding="utf-8"))
            boot = data["boot"]
            # An earlier version wrote the time of the wall clock.
            then, clock = (data[_BEGAN], since_boot()) if _BEGAN in data else (data["started"], time.time())
            now = _before(clock, uptime)
            return bool(boot == _boot()) and (then is None or now is None or abs(now - float(then)) < _SLACK)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _path(self, ctid: str) -> pathlib.Path:
        return self._directory / f"{ctid}.json"


def since_boot() -> float:
    """Seconds since the HostOS booted; nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _before(clock: float, uptime: float | None) -> float | None:
    return None if uptime is None else clock - uptime


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
