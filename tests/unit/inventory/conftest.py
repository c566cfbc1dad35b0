# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster with a ledger, and a way to ask Ansible what it sees."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

DEFINITION = """\
plugin: oscarv.virt.cluster
cluster: demo
networks:
  lan: {bridge: br0, vlan: 7, mtu: 9000, ranges: [10.0.4.0/24, "fd12::/64"], gateway: 10.0.4.1}
enclosures:
  room1: {level: room}
  rack-1: {level: rack, in: room1, members: "node[01:02]"}
  rack-2: {level: rack, in: room1, members: node03.example.org}
partitions:
  kvm-hosts: {hypervisor: kvm, members: "node[01:02]"}
  xenhosts: {hypervisor: xen, members: node03.example.org}
  workers:
    image: base
    members: "wn[1:5]"
    on: [kvm-hosts, xenhosts]
    vcpus: 1
    memory: 1 GiB
    disk: 1 GiB
    networks: [lan]
    roles: [site.node]
    override:
      wn4: {state: stopped, image: other}
      wn5: {state: absent}
images:
  base: {builder: debian, release: bookworm}
  other: {builder: debian, release: trixie}
"""


@dataclasses.dataclass
class Cluster:
    folder: pathlib.Path

    @property
    def definition(self) -> pathlib.Path:
        return self.folder / "demo.oscarv.yml"

    def write(self, text: str = DEFINITION, name: str = "demo.oscarv.yml") -> pathlib.Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def record(self) -> None:
        """A ledger: wn1 and wn2 on node01, wn3 on a host that is no longer defined, wn4 not placed.

        An earlier guest of the name wn4 was on node02 and is released.
        """
        from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
        from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
        from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import open_ledger

        places = [("wn1", "node01"), ("wn2", "node01"), ("wn3", "node99"), ("wn4", None), ("wn4", "node02")]
        guests, nics = [], []
        for number, (name, host) in enumerate(places):
            state = "released" if host == "node02" else "running"
            ident = f"00000000-0000-4000-8000-00000000000{number}"
            guests.append(rows.GuestRow(ident, name, "workers", host, 1, state))
            for position in (1, 0):
                addresses = (f"10.0.4.{100 * position + number}", f"fd12::{position + 1}{number}")
                mac = f"52:00:00:00:{position:02}:{number:02}"
                gone = "2026-11-20T00:00:00+00:00" if state == "released" else None
                nics.append(rows.NicRow(mac, ident, position, "lan", "default", addresses, gone))
        keys = (rows.HostKeyRow(guests[0].uuid, KEY, "2026-11-20T00:00:00+00:00"),)
        with open_ledger(load(str(self.definition))).transaction() as tx:
            tx.write(rows.Changes(guests=tuple(guests), nics=tuple(nics), host_keys=keys))

    def ask(
        self, *arguments: str, how: str = "same", source: str = "demo.oscarv.yml", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ansible-inventory on a source in the cluster's folder."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "OSCARV_", "JOB_"))}
        clean["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".build" / "collections")
        clean["ANSIBLE_NOCOLOR"] = "1"
        driver = str(pathlib.Path(__file__).with_name("inventory_driver.py"))
        command = [sys.executable, driver, how, "-i", source, *arguments]
        return subprocess.run(
            command, env=clean | environment, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def list(self, **more: str) -> dict[str, t.Any]:
        answer = self.ask("--list", **more)
        assert answer.returncode == 0, answer.stderr
        assert "WARNING" not in answer.stderr, answer.stderr
        return t.cast("dict[str, t.Any]", json.loads(answer.stdout))


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Cluster:
    made = Cluster(tmp_path)
    made.write()
    return made
