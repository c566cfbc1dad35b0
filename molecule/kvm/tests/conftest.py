# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's cluster as the tests see and change it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import time
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

    definition = FOLDER / "kvm.oscarv.yml"

    def read(self) -> dict[str, t.Any]:
        data = yaml.safe_load(self.definition.read_text())
        for partition in data["partitions"].values():
            if True in partition:  # PyYAML's reading of a bare `on`
                partition["on"] = partition.pop(True)
        return data

    def change(self, **workers: t.Any) -> None:
        """Set keys of the partition `workers`; None takes a key away."""
        data = self.read()
        partition = data["partitions"]["workers"]
        partition.update(workers)
        data["partitions"]["workers"] = {key: value for key, value in partition.items() if value is not None}
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

    def kill(self, name: str, *arguments: str, when: t.Callable[[], bool], within: float = 120) -> None:
        """Start a playbook, kill -9 it and all its children when `when()` is true."""
        child = subprocess.Popen(
            self.command(name, *arguments),
            cwd=TOP,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + within
        try:
            while not when():
                assert child.poll() is None, (
                    f"oscarv.virt.{name} had ended with {child.returncode} before it was killed"
                )
                assert time.monotonic() < end, f"oscarv.virt.{name}: the moment to kill it did not come in {within} s"
                time.sleep(0.02)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def guests(self) -> dict[str, dict[str, t.Any]]:
        done = subprocess.run(
            ["ansible-inventory", "-i", str(FOLDER), "--list"], cwd=TOP, check=True, capture_output=True, text=True
        )
        listing = json.loads(done.stdout)
        return {name: vars_ for name, vars_ in listing["_meta"]["hostvars"].items() if "oscarv_uuid" in vars_}


def changed(text: str) -> dict[str, int]:
    """The recap's `changed=` of every host."""
    recap = text.rsplit("PLAY RECAP", 1)[1]
    return {name: int(count) for name, count in re.findall(r"^(\S+)\s*:.*?changed=(\d+)", recap, re.M)}


def machine(name: str) -> t.Any:
    """A HostOS or guest as testinfra has it, reached the way the inventory says."""
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={FOLDER}&force_ansible=True")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(params=HOSTS)
def hostos(request: pytest.FixtureRequest) -> t.Any:
    return machine(request.param)


def domains(name: str) -> dict[str, str]:
    """Domain -> state on one HostOS, as libvirt itself says."""
    listing = machine(name).check_output("virsh -r -c qemu:///system list --all").splitlines()[2:]
    rows = [line.split(None, 2) for line in listing if line.strip()]
    return {row[1]: row[2].strip() for row in rows}


def running() -> dict[str, list[str]]:
    """Guest -> the HostOSes on which a QEMU process of it runs; the processes are asked, not libvirt."""
    found: dict[str, list[str]] = {}
    for name in HOSTS:
        text = machine(name).check_output("ps -eo args --no-headers -ww")
        for guest in re.findall(r"^\S*qemu-system-\S+ -name guest=([^,]+),", text, re.M):
            found.setdefault(guest, []).append(name)
    return found
