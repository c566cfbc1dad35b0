# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab as its user sees it: through the playbook, the inventory that it writes, and nothing else."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time

import pytest
import yaml
from conftest import LabUnderTest, descendants, finish, v1_controllers


def kill_tree(process: subprocess.Popen[str]) -> None:
    """kill -9 of ansible-playbook and of all below it, but for HostOSes."""
    for pid in descendants(process.pid):
        try:
            if "/oscarv-lab/" not in pathlib.Path(f"/proc/{pid}/cgroup").read_text():
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            continue  # it went with another one
    process.communicate(timeout=60)


def test_up_reached_unchanged_and_gone(lab: LabUnderTest) -> None:
    forecast = lab.up("--check")
    assert not any(lab.traces().values())
    first = lab.up()
    assert first.actions == forecast.actions
    assert {"start node01", "start node02"} <= set(first.actions)
    assert first.recap["changed"] >= 2

    second = lab.up("--diff")
    assert (second.recap["changed"], second.actions) == (0, [])

    assert lab.ansible("oscarv_lab", "ansible.builtin.ping").count("pong") == 2
    assert lab.ssh("node01", "systemctl is-system-running --wait; systemctl --failed --no-legend") == "running"
    assert lab.ssh("node01", "cat /etc/machine-id") != lab.ssh("node02", "cat /etc/machine-id")
    assert lab.ssh("node01", "cat /etc/hostname") == "node01"
    # What a hypervisor needs and nspawn does not give by itself
    assert lab.ssh("node01", "test -c /dev/net/tun && echo yes") == "yes"
    for controller in v1_controllers():
        assert lab.ssh("node01", f"mkdir {controller}/t-try && rmdir {controller}/t-try && echo yes") == "yes"
    # One link for HostOSes and guests, names, and a way out to the registries
    assert "1 received" in lab.ssh("node01", "ping -c1 -W2 node02")
    assert (
        lab.ssh("node02", "apt-get -qq update && apt-get -qq install tree >/dev/null 2>&1 && tree --version | head -c4")
        == "tree"
    )

    lab.down()
    assert not any(lab.traces().values()), lab.traces()
    assert lab.down().recap["changed"] == 0


def test_inventory(lab: LabUnderTest) -> None:
    lab.up(
        lab_hosts=["alpha", {"name": "beta", "capacity": {"memory": "6 GiB"}}],
        lab_capacity={"vcpus": 2, "memory": "3 GiB", "disk": "9 GiB"},
    )
    groups = yaml.safe_load((lab.inventory / "hosts.yml").read_text())["all"]["children"]
    hosts, variables = groups["oscarv_lab"]["hosts"], groups["oscarv_lab"]["vars"]
    assert hosts["alpha"] == {
        "ansible_host": "10.88.1.11",
        "hostos_capacity": {"vcpus": 2, "memory": "3 GiB", "disk": "9 GiB"},
    }
    assert hosts["beta"]["hostos_capacity"]["memory"] == "6 GiB"
    assert variables["hostos_kvm_emulation"] is True
    assert variables["hostos_kvm_libvirtd_settings"] == {"host_uuid_source": "machine-id"}
    assert variables["hostos_kvm_qemu_settings"] == {"security_driver": "none", "namespaces": []}
    assert groups["oscarv_builder"]["hosts"]["localhost"]["ansible_connection"] == "local"
    assert "running" in lab.ansible("oscarv_builder", "ansible.builtin.command", "echo running")
    key = pathlib.Path(variables["ansible_ssh_private_key_file"])
    assert key.stat().st_mode & 0o777 == 0o600


def test_refusals(lab: LabUnderTest) -> None:
    lab.inventory.mkdir()
    own = lab.inventory / "hosts.yml"
    own.write_text("all: {hosts: {mine: }}\n")
    foreign = lab.play()
    assert foreign.code != 0 and "was not written for lab t-lab" in foreign.text
    lab.down()
    assert own.read_text() == "all: {hosts: {mine: }}\n"
    own.unlink()

    taken = lab.play(lab_subnet="127.0.0.0/16")
    assert taken.code != 0 and "choose another lab_subnet" in taken.text
    subprocess.run(["ip", "link", "add", "lab-t-lab", "type", "bridge"], check=True)
    try:
        strange = lab.play()
        assert strange.code != 0 and "no lab under lab_dir made it" in strange.text
    finally:
        subprocess.run(["ip", "link", "delete", "lab-t-lab"], check=True)
    assert not any(lab.traces().values()), lab.traces()

    lab.up(lab_hosts=1)
    moved = lab.play(lab_hosts=1, lab_subnet="10.88.3.0/24")
    assert moved.code != 0 and "stands with 10.88.1.0/24, not 10.88.3.0/24" in moved.text
    other = lab.play(lab_hosts=1, lab_suite="trixie")
    assert other.code != 0 and "node01 of lab t-lab runs bookworm, not trixie" in other.text


@pytest.mark.parametrize("moment", [pytest.param("lab.json", marks=pytest.mark.long), "hosts/node02/process.json"])
def test_present_after_a_run_was_killed(lab: LabUnderTest, moment: str) -> None:
    run = lab.start()
    deadline = time.monotonic() + 120
    while not (lab.directory / moment).exists():
        assert time.monotonic() < deadline and run.poll() is None, f"the run never came to {moment}"
        time.sleep(0.01)
    kill_tree(run)
    lab.up()
    assert lab.ansible("oscarv_lab", "ansible.builtin.ping").count("pong") == 2
    assert lab.up().recap["changed"] == 0


@pytest.mark.long
def test_two_labs_and_two_runs_at_once(lab: LabUnderTest, neighbour: LabUnderTest) -> None:
    runs = [lab.start(), lab.start(), neighbour.start()]
    results = [finish(x) for x in runs]
    assert [x.code for x in results] == [0, 0, 0], "\n".join(x.text for x in results)
    assert sorted(len(x.actions) > 0 for x in results[:2]) == [False, True], "the second run waits and finds all done"
    assert lab.ansible("oscarv_lab", "ansible.builtin.ping").count("pong") == 2
    assert neighbour.ansible("oscarv_lab", "ansible.builtin.ping").count("pong") == 2
    lab.down()
    assert neighbour.ansible("oscarv_lab", "ansible.builtin.ping").count("pong") == 2
    assert "1 received" in neighbour.ssh("node01", "ping -c1 -W2 10.88.2.1")
    assert neighbour.up().recap["changed"] == 0
    assert int(pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text()) == 1
