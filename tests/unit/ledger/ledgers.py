# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small cluster, its rows, and what its HostOSes might answer; for the tests of the ledger."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import Ledger
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Stamp
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_store import open_store
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster

NOW = "2026-11-20T10:00:00+00:00"
LATER = "2026-11-20T11:00:00+00:00"
STAMP = Stamp(NOW, "alice", "17")
KEY = "ssh-ed25519 " + "A" * 68
OTHER_KEY = "ssh-ed25519 " + "B" * 68
BUILD = "ab" * 32

DEFINITION = """\
plugin: oscarv.virt.cluster
cluster: demo
networks:
  compute: {bridge: br0, ranges: [10.0.4.0/24], gateway: 10.0.4.254}
partitions:
  kvmhosts: {hypervisor: kvm, members: "node[01:03]"}
  spare: {hypervisor: kvm, members: "spare1"}
  lxchosts: {hypervisor: lxc, members: "box1"}
  workers:
    image: worker
    members: "wn[1:4]"
    on: [kvmhosts]
    vcpus: 1
    memory: 1 GiB
    disk: 4 GiB
    networks: [compute]
images:
  worker: {builder: debian, release: bookworm}
"""


def definition(folder: pathlib.Path, text: str = DEFINITION) -> pathlib.Path:
    path = folder / "demo.oscarv.yml"
    path.write_text(text)
    return path


def cluster(folder: pathlib.Path) -> Cluster:
    return load(str(definition(folder)))


def ledger(folder: pathlib.Path, name: str = "demo", file: str = "ledger.sqlite") -> Ledger:
    return Ledger(name, open_store(f"sqlite:///{file}", str(folder), {}))


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def guest(number: int, **changes: t.Any) -> rows.GuestRow:
    row = rows.GuestRow(uuid(number), f"wn{number}", "workers", "node01", 1, "running", "worker", BUILD, "kvm")
    return dataclasses.replace(row, **changes)


def nic(number: int, **changes: t.Any) -> rows.NicRow:
    row = rows.NicRow(f"52:54:00:00:00:{number:02x}", uuid(number), 0, "compute", "default", (f"10.0.4.{number}",))
    return dataclasses.replace(row, **changes)


def move(number: int, **changes: t.Any) -> rows.MoveRow:
    row = rows.MoveRow(f"move-{number}", uuid(number), "node01", "node02", 1, 2, "live", "in_flight", NOW)
    return dataclasses.replace(row, **changes)


def state(
    *guests: rows.GuestRow,
    nics: t.Iterable[rows.NicRow] = (),
    moves: t.Iterable[rows.MoveRow] = (),
    hosts: t.Iterable[rows.HostRow] = (),
    **changes: t.Any,
) -> rows.LedgerState:
    return rows.LedgerState(
        "demo",
        7,
        {row.uuid: row for row in guests},
        {row.mac: row for row in nics},
        {row.name: row for row in hosts},
        {},
        moves={row.guest: row for row in moves},
        **changes,
    )


def entry(number: int, **changes: t.Any) -> dict[str, t.Any]:
    """A guest as `guest_info` shows it."""
    mark = {
        "cluster": "demo",
        "guest": f"wn{number}",
        "uuid": uuid(number),
        "partition": "workers",
        "epoch": 1,
        "build_id": BUILD,
        "image": "worker",
        "host_key": KEY,
        "nics": [
            {
                "name": "eth0",
                "network": "compute",
                "mac": f"52:54:00:00:00:{number:02x}",
                "addresses": [f"10.0.4.{number}/24"],
            }
        ],
    }
    plain = {
        "name": f"wn{number}",
        "uuid": uuid(number),
        "state": "running",
        "autostart": True,
        "jobs": [],
        "seed": None,
    }
    for key, value in changes.items():
        (mark if key in mark else plain)[key] = value
    return {**plain, "mark": mark}


def answer(*entries: dict[str, t.Any], stones: t.Iterable[dict[str, t.Any]] = ()) -> dict[str, t.Any]:
    """The result of `guest_info` on one HostOS."""
    return {
        "changed": False,
        "guests": {item["uuid"]: item for item in entries},
        "foreign": [],
        "tombstones": {item["uuid"]: item for item in stones},
    }


def stone(number: int, epoch: int = 1, state: str = "moving") -> dict[str, t.Any]:
    return {"uuid": uuid(number), "epoch": epoch, "state": state}
