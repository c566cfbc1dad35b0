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
XEN = ("node21", "node22")
KVM = "node01"
HOSTS = (KVM, *XEN)


class Failed(AssertionError):
    """A playbook ended with an error that the test did not expect; holds what it printed."""


class Cluster:
    """The inventory folder, the definition in it, and the playbooks."""

    definition = FOLDER / "xen.oscarv.yml"

    def read(self) -> dict[str, t.Any]:
        return yaml.safe_load(self.definition.read_text())

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


def identity(cluster: Cluster, guest: str) -> dict[str, t.Any]:
    """What no move may change."""
    variables = cluster.guests()[guest]
    kept = {key: variables[key] for key in ("ansible_host", "oscarv_uuid", "oscarv_host_key")}
    link = machine(guest).check_output("cat /sys/class/net/eth0/address")
    return {**kept, "mac": link, "data": machine(guest).check_output("cat /root/data")}


def machine(name: str) -> t.Any:
    """A HostOS or guest as testinfra has it, reached the way the inventory says."""
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={FOLDER}&force_ansible=True")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(params=XEN)
def xen(request: pytest.FixtureRequest) -> t.Any:
    return machine(request.param)


def running() -> dict[str, list[str]]:
    """Guest -> the HostOSes on which it runs; Xen itself and the processes are asked, not libvirt."""
    found: dict[str, list[str]] = {}
    for name in XEN:
        for line in machine(name).check_output("xl list").splitlines()[1:]:
            guest = line.split()[0]
            if guest not in ("Domain-0", "(null)"):
                found.setdefault(guest, []).append(name)
    text = machine(KVM).check_output("ps -eo args --no-headers -ww")
    for guest in re.findall(r"^\S*qemu-system-\S+ -name guest=([^,]+),", text, re.M):
        found.setdefault(guest, []).append(KVM)
    return found
