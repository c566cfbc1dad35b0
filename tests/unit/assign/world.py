# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small cluster from a real definition, and its ledger as a value, kept by the ledger's own rules."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import typing as t

import yaml
from ansible_collections.oscarv.virt.plugins.plugin_utils._assign import Decision, decide
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, problems
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import (
    BuildRow,
    GuestRow,
    HostKeyRow,
    LedgerState,
)
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster

NOW = "2026-11-20T12:00:00+00:00"
SOON = "2026-11-20T12:30:00+00:00"
LATER = "2026-11-20T13:30:00+00:00"
BUILD = "a" * 64
NEWER = "b" * 64

DEFINITION: dict[str, t.Any] = {
    "plugin": "oscarv.virt.cluster",
    "cluster": "test",
    "networks": {
        "compute": {
            "bridge": "br0",
            "ranges": ["10.0.4.0/24", "fd12:3456::/64"],
            "gateway": ["10.0.4.1", "fd12:3456::1"],
            "reserved": ["10.0.4.1-10.0.4.20"],
        },
        "storage": {"bridge": "br1", "vlan": 7, "ranges": ["10.0.8.0/24"], "mtu": 9000},
    },
    "pools": {
        "local": {"type": "dir", "path": "/var/lib/oscarv"},
        "san": {"type": "nfs", "source": "nas:/export", "path": "/mnt/san", "shared": True},
    },
    "partitions": {
        "hosts": {
            "hypervisor": "kvm",
            "members": "node[1:3]",
            "capacity": {"vcpus": 8, "memory": "16 GiB", "disk": "500 GiB"},
        },
        "workers": {
            "image": "debian",
            "members": "wn[1:3]",
            "on": ["hosts"],
            "vcpus": 1,
            "memory": "1 GiB",
            "disk": "10 GiB",
            "networks": ["compute"],
        },
    },
    "images": {"debian": {"builder": "debian", "release": "bookworm", "packages": []}},
}


class World:
    """A definition that may be changed, and the ledger that grows from deciding about it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.random = random.Random(1)
        self.data: dict[str, t.Any] = yaml.safe_load(yaml.safe_dump(DEFINITION))
        build = BuildRow(BUILD, "debian", "r1", 1000, 2**31, "http://builder/a", "2026-11-01T00:00:00+00:00")
        self.state = LedgerState("test", 0, {}, {}, {}, {BUILD: build})

    @property
    def workers(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.data["partitions"]["workers"])

    def cluster(self) -> Cluster:
        path = self.folder / "test.oscarv.yml"
        path.write_text(yaml.safe_dump(self.data, sort_keys=False))
        return load(str(path))

    def decide(self, now: str = NOW, **more: t.Any) -> Decision:
        """Decide and record nothing."""
        more.setdefault("random", self.random)
        return decide(self.cluster(), self.state, now=now, who="tester", **more)

    def run(self, now: str = NOW, **more: t.Any) -> Decision:
        """Decide and record; the ledger's own checks must agree."""
        decision = self.decide(now, **more)
        assert decision.errors == (), decision.errors
        assert problems(self.state, decision.changes) == []
        assert applied(self.state, decision.changes) == decision.after
        self.state = decision.after
        return decision

    def refuse(self, now: str = NOW, **more: t.Any) -> str:
        """Decide, expect errors, and nothing to record."""
        decision = self.decide(now, **more)
        assert decision.errors and decision.changes.empty and decision.after is self.state
        return "\n".join(decision.errors)

    # -- what HostOSes would report -------------------------------------------------------------------------------

    def row(self, name: str) -> GuestRow:
        row = self.state.guest_named(name)
        assert row is not None, name
        return row

    def change(self, name: str, **fields: t.Any) -> None:
        row = dataclasses.replace(self.row(name), **fields)
        self.state = dataclasses.replace(self.state, guests={**self.state.guests, row.uuid: row})

    def boot(self) -> None:
        """Every planned guest ran and was reached."""
        for row in list(self.state.guests.values()):
            if row.state == "planned" and row.host:
                self.change(row.name, state="running", first_contact=NOW)
                key = HostKeyRow(row.uuid, "ssh-ed25519 " + "A" * 68, NOW)
                self.state = dataclasses.replace(self.state, host_keys={**self.state.host_keys, row.uuid: key})

    def release(self, name: str, free_after: str) -> None:
        row = self.row(name)
        nics = {
            mac: dataclasses.replace(nic, free_after=free_after) if nic.guest == row.uuid else nic
            for mac, nic in self.state.nics.items()
        }
        self.change(name, state="released", released=NOW)
        self.state = dataclasses.replace(self.state, nics=nics)

    def addresses(self, name: str) -> list[str]:
        nics = sorted((n for n in self.state.nics.values() if n.guest == self.row(name).uuid), key=lambda n: n.position)
        return [address for nic in nics if nic.position >= 0 and not nic.free_after for address in nic.addresses]

    def macs(self, name: str) -> list[str]:
        nics = sorted((n for n in self.state.nics.values() if n.guest == self.row(name).uuid), key=lambda n: n.position)
        return [nic.mac for nic in nics if nic.position >= 0 and not nic.free_after]
