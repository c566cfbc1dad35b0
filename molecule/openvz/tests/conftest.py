# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's cluster as the tests see and change it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import pytest
import testinfra
import yaml

TOP = pathlib.Path(os.environ["OSCARV_TOP"])
FOLDER = pathlib.Path(os.environ["OSCARV_SCENARIO"])
HOSTS = ("node01", "node02")


class Failed(AssertionError):
    """A playbook ended with an error that the test did not expect; holds what it printed."""


class Cluster:
    """The inventory folder, the definition in it, and the playbooks."""

    definition = FOLDER / "openvz.oscarv.yml"

    def read(self) -> dict[str, t.Any]:
        data = yaml.safe_load(self.definition.read_text())
        for partition in data["partitions"].values():  # PyYAML takes the key `on` for a boolean
            if True in partition:
                partition["on"] = partition.pop(True)
        return data

    def change(self, name: str = "workers", **keys: t.Any) -> None:
        """Set keys of a partition; None takes a key away."""
        data = self.read()
        partition = {**data["partitions"][name], **keys}
        data["partitions"][name] = {key: value for key, value in partition.items() if value is not None}
        self.write(data)

    def write(self, data: dict[str, t.Any]) -> None:
        self.definition.write_text(yaml.safe_dump(data, sort_keys=False))

    def command(self, name: str, *arguments: str) -> list[str]:
        return ["ansible-playbook", f"oscarv.virt.{name}", "-i", str(FOLDER), *arguments]

    def play(self, name: str, *arguments: str, fails: bool = False) -> str:
        """Run a playbook to its end; return what it printed."""
        done = subprocess.run(self.command(name, *arguments), cwd=TOP, check=False, capture_output=True, text=True)
        text = done.stdout + done.stderr
        if (done.returncode != 0) != fails:
            raise Failed(f"oscarv.virt.{name} {arguments} ended with {done.returncode}:\n{text[-6000:]}")
        return text

    def guests(self) -> dict[str, dict[str, t.Any]]:
        done = subprocess.run(
            ["ansible-inventory", "-i", str(FOLDER), "--list"], cwd=TOP, check=True, capture_output=True, text=True
        )
        listing = json.loads(done.stdout)
        return {name: vars_ for name, vars_ in listing["_meta"]["hostvars"].items() if "oscarv_uuid" in vars_}


def changed(text: str) -> dict[str, int]:
    """The recap's `changed=` of every host."""
    recap = re.sub(r"\x1b\[[0-9;]*m", "", text.rsplit("PLAY RECAP", 1)[1])  # molecule has Ansible colour it
    return {name: int(count) for name, count in re.findall(r"^(\S+)\s*:.*?changed=(\d+)", recap, re.M)}


def identity(cluster: Cluster, guest: str) -> dict[str, t.Any]:
    """What no move may change."""
    variables = cluster.guests()[guest]
    kept = {key: variables[key] for key in ("ansible_host", "oscarv_uuid", "oscarv_host_key")}
    link = machine(guest).check_output("cat /sys/class/net/eth0/address")
    return {**kept, "mac": link, "data": machine(guest).check_output("cat /root/data || true")}


def machine(name: str) -> t.Any:
    """A HostOS or guest as testinfra has it, reached the way the inventory says."""
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={FOLDER}")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(params=HOSTS)
def hostos(request: pytest.FixtureRequest) -> t.Any:
    return machine(request.param)


def containers(host: str) -> dict[str, tuple[str, str]]:
    """Name -> (number, status) of every container of a HostOS."""
    said = machine(host).run("vzlist -a -H -o ctid,name,status")
    assert said.rc == 0 or "not found" in said.stderr  # vzlist fails where there is none
    rows = said.stdout.splitlines()
    return {name: (ctid, status) for ctid, name, status in (row.split() for row in rows)}


def running() -> dict[str, list[str]]:
    """Container -> the HostOSes on which it runs; LXC, which runs them, is asked, not the double."""
    found: dict[str, list[str]] = {}
    for host in HOSTS:
        listed = machine(host).check_output("lxc-ls -P /vz/double/lxc --active -1").split()
        for name, (ctid, _status) in containers(host).items():
            if ctid in listed:
                found.setdefault(name, []).append(host)
    return found
