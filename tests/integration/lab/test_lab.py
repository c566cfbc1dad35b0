# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab as its user sees it: up, reached, healed after kills, gone without a trace."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
import yaml
from conftest import ROOT, LabUnderTest, finish


def kill_tree(process: subprocess.Popen[str]) -> None:
    """kill -9 of ansible-playbook and of all that it started and that has not left its session."""
    session = os.getsid(process.pid)
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)
        except ProcessLookupError:
            continue  # it went with another one
    process.communicate(timeout=60)


def descendants(pid: int) -> set[int]:
    """A process and its children, also those that began a session of their own."""
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, todo = set(), [pid]
    while todo:
        found.add(todo[-1])
        todo += parents.get(todo.pop(), [])
    return found


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
    for controller in ("cpu", "memory", "devices"):
        group = f"/sys/fs/cgroup/{controller}/t-lab-try"
        if pathlib.Path(f"/sys/fs/cgroup/{controller}").exists():  # cgroup v1; v2 is writable anyway
            assert lab.ssh("node01", f"mkdir {group} && rmdir {group} && echo yes") == "yes"
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


def test_a_wrong_host_key_is_refused(lab: LabUnderTest) -> None:
    lab.up(lab_hosts=1)
    known = lab.directory / "ssh/known_hosts"
    lab.ansible("node01", "ansible.builtin.ping")
    other = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(lab.directory / "ssh/id_ed25519")], capture_output=True, text=True, check=True
    )
    known.write_text(f"node01,10.88.1.11 {other.stdout}")
    lab.up(lab_hosts=1)  # puts it right again, by what the keys are
    assert other.stdout.split()[1] not in known.read_text()
    known.write_text(f"node01,10.88.1.11 {other.stdout}")
    with pytest.raises(AssertionError, match="Host key verification failed"):
        lab.ssh("node01", "true")


def test_a_killed_hostos_comes_back_with_its_disk(lab: LabUnderTest) -> None:
    lab.up()
    lab.ssh("node01", "echo kept > /root/file")
    survivor, machine_id = lab.nspawn("node02"), lab.ssh("node01", "cat /etc/machine-id")
    os.kill(lab.nspawn("node01"), signal.SIGKILL)
    healed = lab.up()
    assert healed.actions == ["start node01"]
    assert lab.ssh("node01", "cat /root/file /etc/machine-id").split() == ["kept", machine_id]
    assert lab.nspawn("node02") == survivor
    assert lab.up().recap["changed"] == 0


def test_a_hostos_that_was_shut_down_from_within_comes_back(lab: LabUnderTest) -> None:
    lab.up(lab_hosts=1)
    nspawn = lab.nspawn("node01")
    lab.ssh("node01", "systemctl --no-block poweroff")
    for _second in range(60):
        if not pathlib.Path(f"/proc/{nspawn}").exists():
            break
        time.sleep(0.5)
    assert lab.up(lab_hosts=1).actions == ["start node01"]
    assert lab.ssh("node01", "echo back") == "back"


def test_what_was_taken_from_a_lab_is_made_again(lab: LabUnderTest) -> None:
    lab.up()
    subprocess.run(["nft", "delete", "table", "ip", "oscarv-lab-t-lab"], check=True)
    assert lab.up().actions == ["make nftables table ip oscarv-lab-t-lab"]
    subprocess.run(["ip", "link", "delete", "lab-t-lab"], check=True)
    assert lab.up().actions == ["make bridge lab-t-lab with 10.88.1.1/24", "start node01", "start node02"]
    assert lab.ansible("oscarv_lab", "ansible.builtin.ping").count("pong") == 2
    (lab.inventory / "hosts.yml").unlink()
    assert lab.up().recap["changed"] == 1
    assert lab.up().recap["changed"] == 0


@pytest.mark.parametrize("moment", ["lab.json", "ssh/id_ed25519", "hosts/node01/upper", "hosts/node02/process.json"])
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


def test_absent_after_a_removal_was_killed(lab: LabUnderTest) -> None:
    lab.up()
    run = lab.start(lab_state="absent")
    while (lab.directory / "hosts/node01/upper").exists():
        assert run.poll() is None
        time.sleep(0.005)
    kill_tree(run)
    assert any(lab.traces().values())
    lab.down()
    assert not any(lab.traces().values()), lab.traces()


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


def test_hosts_are_added_and_only_removed_by_consent(lab: LabUnderTest) -> None:
    lab.up(lab_hosts=2)
    survivor = lab.nspawn("node01")
    grown = lab.up(lab_hosts=3)
    assert grown.actions == [
        "write down the lab",
        "start node03",
        "tell node01 the names of the others",
        "tell node02 the names of the others",
    ]
    assert "1 received" in lab.ssh("node01", "ping -c1 -W2 node03")
    refused = lab.play(lab_hosts=["node01", "node03"])
    assert refused.code != 0 and "node02 of lab t-lab not listed" in refused.text
    assert lab.ssh("node02", "echo still here") == "still here"
    assert "remove node02" in lab.up(lab_hosts=["node01", "node03"], lab_remove_hosts=True).actions
    assert lab.up(lab_hosts=["node01", "node03", "new"]).actions[-1] == "start new"
    assert lab.ssh("new", "cat /etc/hosts; hostname -I").split()[-1] == "10.88.1.12"
    assert lab.nspawn("node01") == survivor


def test_packages_are_fetched_once(lab: LabUnderTest) -> None:
    install = "apt-get -qq update && apt-get install -y sl 2>&1 | grep -E 'Need to get|Setting up sl'"
    lab.up(lab_hosts=1)
    assert "Setting up sl" in lab.ssh("node01", install)
    lab.down()
    lab.up(lab_hosts=1)
    assert "Need to get 0 B/" in lab.ssh("node01", install)


def test_refusals(lab: LabUnderTest, tmp_path: pathlib.Path) -> None:
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
    subprocess.run(["ip", "link", "add", "lab-t-lab", "type", "dummy"], check=True)
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


def test_trixie_beside_bookworm(lab: LabUnderTest) -> None:
    lab.up(lab_hosts=["old", {"name": "new", "suite": "trixie"}])
    assert "VERSION_CODENAME=bookworm" in lab.ssh("old", "cat /etc/os-release")
    assert "VERSION_CODENAME=trixie" in lab.ssh("new", "cat /etc/os-release")
    assert lab.ssh("new", "systemctl is-system-running --wait") == "running"
    assert "1 received" in lab.ssh("new", "ping -c1 -W2 old")


def test_a_killed_build_leaves_nothing_running_and_nothing_that_looks_built(
    lab: LabUnderTest, tmp_path: pathlib.Path
) -> None:
    top = tmp_path / "top"
    mounts = pathlib.Path("/proc/self/mounts").read_text().count(str(top))
    run = lab.start(lab_dir=str(top), lab_hosts=1)
    deadline = time.monotonic() + 120
    while not list(top.glob("rootfs/.build.*/tree/usr/bin/dpkg")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    builders = descendants(run.pid)
    assert len(builders) > 5
    kill_tree(run)
    time.sleep(1)
    left = [
        x for x in pathlib.Path("/proc").glob("[0-9]*/cmdline") if str(top) in x.read_bytes().decode(errors="replace")
    ]
    assert left == []
    assert pathlib.Path("/proc/self/mounts").read_text().count(str(top)) == mounts
    assert [x for x in (top / "rootfs").iterdir() if not x.name.startswith(".build.")] == []

    lab.up(lab_dir=str(top), lab_hosts=1)
    assert len([x for x in (top / "rootfs").iterdir() if not x.name.startswith(".build.")]) == 1
    assert lab.up(lab_dir=str(top), lab_hosts=1).recap["changed"] == 0
    lab.down(lab_dir=str(top), lab_keep_cache=False)
    assert not top.exists()


def test_killed_anywhere_within_namespaces(tmp_path: pathlib.Path) -> None:
    """kill -9 of the lab's program at many moments, where everything that is left over is certainly its own."""
    script = pathlib.Path(__file__).with_name("kill_sweep.py")
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "-n",
            "-p",
            "-f",
            "--kill-child",
            "--mount-proc",
            "/usr/bin/python3",
            "-B",
            str(script),
            str(ROOT / "roles/lab/files"),
        ],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["killed"] >= 15, result
