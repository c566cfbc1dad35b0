# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading all containers of a HostOS: one `vzlist`, and every configuration file."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from . import _vz_argv as argv
from ._driver import Observation, Seen
from ._vz_conf import PAGE, read_conf
from ._vz_jobs import Jobs, no_jobs
from ._vz_list import read_list
from ._vz_mark import read_mark
from ._vz_netif import read_netif
from ._vz_paused import Paused
from ._vz_run import Tools
from ._vz_settings import Shape, configured
from ._vz_status import SUSPENDED, read_status

#: vzlist's word -> ours.
_STATES = {"running": "running", "paused": "paused", "stopped": "stopped", "mounted": "stopped", "suspended": "saved"}


@dataclasses.dataclass(frozen=True)
class Native:
    """What the driver itself keeps of a container that it saw."""

    ctid: str
    status: str  #: vzlist's word
    shape: Shape  #: persistent configuration
    private: str
    description: str | None
    layout: str | None
    uptime: float | None
    job: str | None = None  #: what works on its move: vzmigrate | copy

    @property
    def active(self) -> bool:
        return self.status in ("running", "paused")


def observe_all(tools: Tools, conf_dir: pathlib.Path, paused: Paused, jobs: Jobs = no_jobs) -> Observation:
    rows = [_status(tools, row) for row in read_list(tools.run(argv.list_all(tools.dialect)).stdout, tools.dialect)]
    everybody = [_seen(row, conf_dir, paused, jobs) for row in rows]
    return Observation(
        guests={seen.uuid: seen for seen in everybody if seen.mark is not None},
        foreign=tuple(seen for seen in everybody if seen.mark is None),
    )


def observe_one(tools: Tools, conf_dir: pathlib.Path, paused: Paused, ctid: str, jobs: Jobs = no_jobs) -> Seen | None:
    """One container as it is now; None if it is not there."""
    output = tools.run(argv.list_all(tools.dialect, ctid), good=(0, 1))
    rows = [row for row in read_list(output.stdout, tools.dialect) if row["ctid"] == ctid]
    return next((_seen(_status(tools, row), conf_dir, paused, jobs) for row in rows), None)


def _status(tools: Tools, row: dict[str, t.Any]) -> dict[str, t.Any]:
    """vzlist calls one with a dump `mounted` if it is that, too; then only `status` tells of the dump."""
    if row["status"] != "mounted":
        return row
    state = read_status(tools.run(argv.status(str(row["ctid"]))).stdout).state
    return {**row, "status": SUSPENDED} if state == SUSPENDED else row


def _seen(row: t.Mapping[str, t.Any], conf_dir: pathlib.Path, paused: Paused, jobs: Jobs) -> Seen:
    ctid = str(row["ctid"])
    conf = _conf(conf_dir, ctid)
    shape = configured(conf)
    mark = read_mark(row["description"], ctid)
    state = _STATES.get(row["status"], "crashed")
    running = state == "running"
    if running and paused.has(ctid, row["uptime"]):
        state = "paused"
    live_memory = _live_memory(row) if running else None
    return Seen(
        name=row["name"] or ctid,
        uuid=mark.uuid if mark else str(row.get("uuid") or ctid),
        state=state,
        mark=mark,
        vcpus=shape.vcpus or 0,
        memory=shape.memory or 0,
        vcpus_live=row["cpus"] if running else None,
        memory_live=live_memory,
        autostart=bool(shape.autostart),
        disks=({"name": "root", "path": row["private"], "pool": None, "size": shape.disk, "backing": None},),
        nics=tuple(
            {"mac": nic.mac, "bridge": nic.bridge, "model": "veth"} for nic in read_netif(conf.get("NETIF", ""))
        ),
        native=Native(
            ctid=ctid,
            status=row["status"],
            shape=shape,
            private=row["private"],
            description=row["description"],
            layout=row["layout"],
            uptime=row["uptime"],
            job=jobs(ctid, mark.uuid) if mark else None,
        ),
    )


def _live_memory(row: t.Mapping[str, t.Any]) -> int | None:
    pages = row["physpages"]
    limit = pages.get("limit") if isinstance(pages, dict) else None
    return None if limit is None or limit >= 2**51 else limit * PAGE


def _conf(conf_dir: pathlib.Path, ctid: str) -> dict[str, str]:
    """Nothing where the file went away since the list was made: the next reading does not show it any more."""
    try:
        text = (conf_dir / f"{ctid}.conf").read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return {}
    return read_conf(text, ctid)
