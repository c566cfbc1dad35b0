# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role's program does for a HostOS that was killed, for one too few or many, and when it is killed itself."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from conftest import OTHER_DIR, PROGRAM, LabUnderTest, command_line, descendants, said, v1_controllers

pytestmark = pytest.mark.long  # the lab is for trying; what all other tests stand on, test_lab.py asks of it


def test_a_wrong_host_key_is_refused(lab: LabUnderTest) -> None:
    lab.program("up", hosts=1)
    known, other = lab.directory / "ssh/known_hosts", said("ssh-keygen", "-y", "-f", f"{lab.directory}/ssh/id_ed25519")
    right = known.read_text()
    known.write_text(f"node01,10.88.1.11 {other}")
    with pytest.raises(AssertionError, match="Host key verification failed"):
        lab.ssh("node01", "true")
    assert lab.program("up", hosts=1) == ["write known_hosts"]  # by what the keys are
    assert known.read_text() == right
    assert lab.ssh("node01", "echo reached") == "reached"


def child(parent: int, name: str) -> int:
    """The child of a process that runs a program of this name."""
    return int(said("pgrep", "--parent", str(parent), "--exact", name))


@pytest.mark.parametrize("victim", ["its process", "nspawn", "init"])
def test_a_killed_hostos_comes_back_with_its_disk(lab: LabUnderTest, victim: str) -> None:
    lab.program("up")
    lab.ssh("node01", "echo kept > /root/file")
    survivor, machine_id = lab.process("node02"), lab.ssh("node01", "cat /etc/machine-id")
    outside = lab.process("node01")
    nspawn = child(outside, "systemd-nspawn")
    os.kill({"its process": outside, "nspawn": nspawn, "init": child(nspawn, "systemd")}[victim], signal.SIGKILL)
    time.sleep(0.5)
    healed = lab.program("up")
    assert healed == ["start node01"]
    assert lab.ssh("node01", "cat /root/file /etc/machine-id").split() == ["kept", machine_id]
    assert lab.process("node02") == survivor
    assert lab.program("up") == []


def test_a_hostos_that_was_shut_down_from_within_comes_back(lab: LabUnderTest) -> None:
    lab.program("up", hosts=1)
    lab.ssh("node01", "systemctl --no-block poweroff")
    deadline = time.monotonic() + 60
    while pathlib.Path(f"/proc/{lab.process('node01')}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert lab.program("up", hosts=1) == ["start node01"]
    assert lab.ssh("node01", "echo back") == "back"


def test_a_reboot_from_within(lab: LabUnderTest) -> None:
    lab.program("up", hosts=1)
    process, began = lab.process("node01"), lab.ssh("node01", "stat -c %Y /proc/1")
    lab.ssh("node01", "systemctl --no-block reboot")
    deadline = time.monotonic() + 60
    while lab.ssh("node01", "stat -c %Y /proc/1", tries=20) == began:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert lab.program("up", hosts=1) == []
    assert lab.process("node01") == process
    for controller in v1_controllers():
        assert lab.ssh("node01", f"mkdir {controller}/t-try && rmdir {controller}/t-try && echo yes") == "yes"


def test_what_was_taken_from_a_lab_is_made_again(lab: LabUnderTest) -> None:
    lab.program("up")
    subprocess.run(["nft", "delete", "table", "ip", "oscarv-lab-t-lab"], check=True)
    assert lab.program("up") == ["make nftables table ip oscarv-lab-t-lab"]
    subprocess.run(["ip", "link", "delete", "lab-t-lab"], check=True)
    assert lab.program("up") == ["make bridge lab-t-lab with 10.88.1.1/24", "start node01", "start node02"]
    assert "1 received" in lab.ssh("node01", "ping -c1 -W2 node02")
    assert lab.program("up") == []


def test_absent_after_a_removal_was_killed(lab: LabUnderTest) -> None:
    lab.program("up")
    run = lab.begin("down")
    while (lab.directory / "hosts/node01/upper").exists():
        assert run.poll() is None
        time.sleep(0.005)
    run.kill()
    run.communicate()
    assert any(lab.traces().values())
    lab.program("down")
    assert not any(lab.traces().values()), lab.traces()


def test_hosts_are_added_and_only_removed_by_consent(lab: LabUnderTest) -> None:
    lab.program("up", hosts=2)
    survivor = lab.process("node01")
    grown = lab.program("up", hosts=3)
    assert grown == [
        "write down the lab",
        "make the host key of node03",
        "write known_hosts",
        "start node03",
        "tell node01 the names of the others",
        "tell node02 the names of the others",
    ]
    assert "1 received" in lab.ssh("node01", "ping -c1 -W2 node03")
    with pytest.raises(AssertionError, match="lab_hosts: node02 of lab t-lab not listed"):
        lab.program("up", hosts=["node01", "node03"])
    assert lab.ssh("node02", "echo still here") == "still here"
    assert "remove node02" in lab.program("up", hosts=["node01", "node03"], remove_hosts=True)
    assert "start new" in lab.program("up", hosts=["node01", "node03", "new"])
    assert lab.ssh("new", "cat /etc/hosts; hostname -I").split()[-1] == "10.88.1.12"
    assert lab.process("node01") == survivor


def test_packages_are_fetched_once(lab: LabUnderTest) -> None:
    install = "apt-get -qq update && apt-get install -y sl 2>&1 | grep -E 'Need to get|Setting up sl'"
    lab.program("up", hosts=1)
    assert "Setting up sl" in lab.ssh("node01", install)
    lab.program("down")
    lab.program("up", hosts=1)
    assert "Need to get 0 B/" in lab.ssh("node01", install)


def test_trixie_beside_bookworm(lab: LabUnderTest) -> None:
    lab.program("up", hosts=["old", {"name": "new", "suite": "trixie"}])
    assert "VERSION_CODENAME=bookworm" in lab.ssh("old", "cat /etc/os-release")
    assert "VERSION_CODENAME=trixie" in lab.ssh("new", "cat /etc/os-release")
    assert lab.ssh("new", "systemctl is-system-running --wait") == "running"
    assert "1 received" in lab.ssh("new", "ping -c1 -W2 old")


def test_a_killed_build_leaves_nothing_running_and_nothing_that_looks_built(lab: LabUnderTest) -> None:
    top = OTHER_DIR
    mounts = pathlib.Path("/proc/self/mounts").read_text().count(str(top))
    run = lab.begin("up", dir=str(top), hosts=1)
    deadline = time.monotonic() + 120
    while not list(top.glob("rootfs/.build.*/tree/usr/bin/dpkg")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    assert len(descendants(run.pid)) > 5
    run.kill()  # it alone: nobody else is there to end what it started
    run.communicate(timeout=60)
    time.sleep(1)
    commands = [command_line(int(x.name)) for x in pathlib.Path("/proc").glob("[0-9]*")]
    assert [x for x in commands if str(top) in x] == []
    assert pathlib.Path("/proc/self/mounts").read_text().count(str(top)) == mounts
    assert [x for x in (top / "rootfs").iterdir() if not x.name.startswith(".build.")] == []

    lab.program("up", dir=str(top), hosts=1)
    assert len([x for x in (top / "rootfs").iterdir() if not x.name.startswith(".build.")]) == 1
    assert lab.program("up", dir=str(top), hosts=1) == []
    lab.program("down", dir=str(top), keep_cache=False)
    assert not top.exists()


def test_killed_anywhere_within_namespaces() -> None:
    """kill -9 of the lab's program at many moments, where everything that is left over is certainly its own."""
    script = pathlib.Path(__file__).with_name("kill_sweep.py")
    namespaces = ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc"]
    command = [*namespaces, "/usr/bin/python3", "-B", str(script), str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["killed"] >= 15, result
