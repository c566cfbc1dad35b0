# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel settings of this machine that a lab has to change, given back by the last lab that leaves.

They are kept under /run: neither the settings nor the labs' processes outlive a reboot.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import typing as t

from .base import Report, boot_id, locked, read_json, write

STATE = pathlib.Path("/run/oscarv-lab")

#: Setting -> the least value that a lab needs. Each HostOS takes some 5 inotify instances of root's 128.
NEEDED = {"net.ipv4.ip_forward": 1, "fs.inotify.max_user_instances": 8192}


def _path(name: str) -> pathlib.Path:
    return pathlib.Path("/proc/sys") / name.replace(".", "/")


def _value(name: str) -> int:
    return int(_path(name).read_text())


def _read() -> dict[str, t.Any]:
    """Setting -> {before, labs: [lab directories]} of this boot."""
    data = read_json(STATE / "sysctl.json")
    return data["settings"] if data and data["boot_id"] == boot_id() else {}


def _save(settings: dict[str, t.Any]) -> None:
    write(STATE / "sysctl.json", json.dumps({"boot_id": boot_id(), "settings": settings}))


def raise_for(lab: str, report: Report) -> None:
    """Raise what is too low. What was there before is written down first, so that a kill loses nothing."""
    with _settings(report) as settings:
        for name, least in NEEDED.items():
            low = _value(name) < least
            if name not in settings and not low:
                continue  # enough already, and not by a lab's doing
            joins = lab not in settings.get(name, {}).get("labs", [])
            if not (low or joins) or not report.will(f"set {name} to {least} as long as a lab needs it"):
                continue
            entry = settings.setdefault(name, {"before": _value(name), "labs": []})
            if joins:
                entry["labs"].append(lab)
            _save(settings)
            if low:
                _path(name).write_text(str(least))


def give_back(lab: str, report: Report) -> None:
    """Put back what was there before the first lab, once no lab needs it and nobody has changed it since."""
    with _settings(report) as settings:
        for name in [name for name, entry in settings.items() if lab in entry["labs"]]:
            if not report.will(f"give {name} back"):
                continue
            entry = settings[name]
            entry["labs"].remove(lab)
            if not entry["labs"]:
                if _value(name) == NEEDED[name]:
                    _path(name).write_text(str(entry["before"]))
                del settings[name]
            _save(settings)


@contextlib.contextmanager
def _settings(report: Report) -> t.Iterator[dict[str, t.Any]]:
    """The settings under their lock; nothing is left of them where no lab has changed any."""
    if report.check and not STATE.exists():
        yield {}
        return
    with locked(STATE):
        settings = _read()
        yield settings
        if not settings and not report.check:
            shutil.rmtree(STATE)
