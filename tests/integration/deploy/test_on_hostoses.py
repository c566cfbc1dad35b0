# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on two real HostOSes of a lab (t-dep, root): who is touched, who is not, and what is said.

The guests' build is an empty disk, so they run and never answer; molecule's scenario `kvm` has those that do. The tests
stand in order and build on each other.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import pathlib
import signal
import subprocess
import threading
import time
import typing as t

import pytest
import yaml
from conftest import ROOT, Folder

pytestmark = pytest.mark.long

NAME, SUBNET, GATEWAY, PORT = "t-dep", "10.88.8.0/24", "10.88.8.1", 8099
HOSTS = ("node01", "node02")
QUICK = ("-e", "oscarv_wait=false")
# Guests with an empty disk hear no ACPI button.
FORCE = ("-e", "oscarv_force_stop=true", "-e", "oscarv_shutdown_timeout=0")
DEFINITION: dict[str, t.Any] = {
    "plugin": "oscarv.virt.cluster",
    "cluster": "tdep",
    "networks": {
        "compute": {
            "bridge": "br0",
            "ranges": [SUBNET],
            "gateway": GATEWAY,
            "reserved": ["10.88.8.1-10.88.8.99"],
        }
    },
    "partitions": {
        "kvmhosts": {"hypervisor": "kvm", "members": "node[01:02]", "overcommit": {"vcpus": 4}},
        "workers": {
            "image": "empty",
            "members": "wn[1:2]",
            "on": "kvmhosts",
            "vcpus": 1,
            "memory": "64 MiB",
            "disk": "64 MiB",
            "networks": ["compute"],
        },
    },
    "images": {"empty": {"builder": "debian", "release": "bookworm"}},
    "max_release": "100 %",
}


class Lab(Folder):
    """The lab's folder, with what only a real HostOS can be asked."""

    www: pathlib.Path

    def ssh(self, host: str, script: str) -> str:
        read = yaml.safe_load((self.path / "hosts.yml").read_text())["all"]["children"]["oscarv_lab"]
        variables = read["vars"]
        line = ["ssh", "-i", variables["ansible_ssh_private_key_file"], *variables["ansible_ssh_common_args"].split()]
        line += [f"root@{read['hosts'][host]['ansible_host']}", script]
        return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def domains(self, host: str) -> dict[str, str]:
        lines = self.ssh(host, "virsh -r list --all | tail -n +3").splitlines()
        rows = [line.split(None, 2) for line in lines if line.strip()]
        return {row[1]: row[2].strip() for row in rows}

    def running(self) -> dict[str, list[str]]:
        """Guest -> the HostOSes where its QEMU runs; the processes are asked."""
        found: dict[str, list[str]] = {}
        for host in HOSTS:
            for guest in self.ssh(
                host, "ps -eo args | grep -oP '^\\S*qemu-system\\S* -name guest=\\K[^,]+' || true"
            ).split():
                found.setdefault(guest, []).append(host)
        return found

    def deploy(self, *arguments: str) -> t.Any:
        return self.playbook("oscarv.virt.deploy", *QUICK, *arguments)

    def build(self, size: str) -> str:
        """Record a new build: an empty disk."""
        path = self.www / "new"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), size], check=True)
        build_id = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(self.www / f"{build_id}.qcow2")
        url = f"http://{GATEWAY}:{PORT}/{build_id}.qcow2"
        bytes_ = (self.www / f"{build_id}.qcow2").stat().st_size
        self.record_build(build_id, image="empty", size=bytes_, virtual_size=2**20, url=url, recipe_id=size)
        return build_id

    def host_of(self, guest: str) -> str:
        guests = self.result("ledger_info", {"subset": ["guests"]})["guests"]
        return str(next(row["host"] for row in guests if row["name"] == guest and row["state"] != "released"))

    def set(self, **workers: t.Any) -> None:
        self.workers.update(workers)
        self.data["partitions"]["workers"] = {k: v for k, v in self.workers.items() if v is not None}
        self.write()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves builds and says nothing."""

    def log_message(self, *_words: t.Any) -> None:
        pass


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Lab]:
    base = tmp_path_factory.mktemp("deploy")
    for name in ("inv", "www"):
        (base / name).mkdir()
    folder = Lab(base / "inv", yaml.safe_load(yaml.safe_dump(DEFINITION)))
    folder.www = base / "www"
    wish = ["-e", f"lab_name={NAME}", "-e", f"lab_subnet={SUBNET}", "-e", f"lab_inventory_dir={folder.path}"]
    try:
        folder.playbook("oscarv.virt.lab", *wish).ok()
        folder.playbook("oscarv.virt.hostos").ok()
        handler = functools.partial(Quiet, directory=str(folder.www))
        with http.server.ThreadingHTTPServer((GATEWAY, PORT), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            folder.build("1M")
            yield folder
            server.shutdown()
    finally:
        folder.playbook("oscarv.virt.lab", *wish, "-e", "lab_state=absent").ok()


def once(lab: Lab, *guests: str) -> None:
    """These guests run, each exactly once, and no other."""
    assert {guest: len(hosts) for guest, hosts in lab.running().items()} == dict.fromkeys(guests, 1)


def test_check_then_deploy_then_again(lab: Lab) -> None:
    predicted = lab.deploy("--check", "--diff").ok()
    assert lab.running() == {} and "10.88.8.100" in predicted.text
    done = lab.deploy().ok()
    once(lab, "wn1", "wn2")
    assert {h for h, n in predicted.changed.items() if n} == {h for h, n in done.changed.items() if n} == set(HOSTS)
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)
    assert lab.deploy("--check").ok().changed == dict.fromkeys(HOSTS, 0)
    text = lab.playbook("oscarv.virt.status").ok().text
    assert "2 HostOSes, 2 guests: drift in wn1, wn2" in text and text.count("never reached") == 2


def test_guests_that_do_not_answer_are_named_with_what_they_said_last(lab: Lab) -> None:
    lab.ssh(lab.host_of("wn1"), "echo 'Kernel panic - not syncing' >> /var/log/libvirt/qemu/wn1-serial.log")
    failed = lab.playbook("oscarv.virt.deploy", "-e", "oscarv_wait_timeout=2")
    assert failed.code and "2 guests of 2 did not answer" in failed.text
    said = failed.text[failed.text.index(f"wn1 said last on its console on {lab.host_of('wn1')}:") :]
    assert "Kernel panic - not syncing" in said.splitlines()[1]
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)


def test_a_selection_leaves_the_rest_alone(lab: Lab) -> None:
    lab.set(autostart=False)
    run = lab.deploy("-e", "oscarv_select=wn1").ok()
    assert "wn1 on" in run.text and "wn2 on" not in run.text
    assert "on node0" in lab.deploy("--check").ok().text, "wn2 is still to be done"
    lab.deploy().ok()
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)


def test_a_limit_decides_everything_and_does_it_there(lab: Lab) -> None:
    lab.set(members="wn[1:4]")
    lab.deploy("--limit", "node02").ok()
    here, there = lab.domains("node02"), lab.domains("node01")
    assert len(here) == 2 and len(there) == 1, (here, there)
    missing = ({"wn3", "wn4"} - set(here)).pop()
    assert lab.host_of(missing) == "node01", "it was decided, although nothing was done"
    lab.deploy().ok()
    once(lab, "wn1", "wn2", "wn3", "wn4")


def test_a_hostos_that_does_not_answer_does_not_stop_the_others(lab: Lab) -> None:
    variables = lab.path / "host_vars"
    variables.mkdir()
    (variables / "node01.yml").write_text("ansible_port: 9\nansible_ssh_retries: 0\n")
    lab.set(vcpus=2)
    run = lab.deploy().fails("node01")
    assert run.recap["node01"]["unreachable"] == 1 and run.recap["node02"]["changed"] > 0
    status = lab.playbook("oscarv.virt.status").ok()
    assert "not reached: node01" in status.text and "vcpus" not in status.text.split("node01")[-1]
    (variables / "node01.yml").unlink()
    variables.rmdir()
    lab.deploy().ok()
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)


def test_one_bad_guest_and_one_without_a_place_do_not_stop_the_others(lab: Lab) -> None:
    foreign = "<domain type='qemu'><name>wn5</name><memory>16384</memory><os><type>hvm</type></os></domain>"
    for host in HOSTS:
        lab.ssh(host, f'echo "{foreign}" >/root/f.xml && virsh define /root/f.xml')
    lab.set(members="wn[1:7]", override={"wn6": {"memory": "900 GiB"}})
    run = lab.deploy().fails("wn6: no HostOS fits: memory", "a domain of this name is here already")
    assert run.text.rstrip().splitlines()[-1].startswith("node0")
    once(lab, "wn1", "wn2", "wn3", "wn4", "wn7")
    for host in HOSTS:
        lab.ssh(host, "virsh undefine wn5; rm /root/f.xml")
    lab.set(members="wn[1:5],wn7", override=None)
    lab.deploy().ok()
    once(lab, "wn1", "wn2", "wn3", "wn4", "wn5", "wn7")


def test_what_left_is_reported_and_removed_only_when_asked(lab: Lab) -> None:
    lab.set(members="wn[1:4]")
    run = lab.deploy().ok()
    assert "left the definition, or is a stale copy: say -e oscarv_prune=remove" in run.text
    assert "wn5" in lab.running()
    assert "left the definition: deploy with oscarv_prune=remove" in lab.playbook("oscarv.virt.status").ok().text
    lab.deploy("-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true", *FORCE).ok()
    once(lab, "wn1", "wn2", "wn3", "wn4")
    assert all("wn5" not in lab.ssh(host, "ls /var/lib/oscarv/tdep") for host in HOSTS)
    states = {r["name"]: r["state"] for r in lab.result("ledger_info", {"subset": ["guests"]})["guests"]}
    assert states["wn5"] == "released"
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)


def test_a_deploy_that_is_killed_is_finished_by_the_next(lab: Lab) -> None:
    lab.set(members="wn[1:12]", vcpus=1)
    child = subprocess.Popen(
        lab.command("oscarv.virt.deploy", *QUICK),
        cwd=ROOT,
        env=lab.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not any(name.startswith("wn1") for h in HOSTS for name in set(lab.domains(h)) - {"wn1", "wn2", "wn3", "wn4"}):
        assert child.poll() is None and time.monotonic() < deadline, "it was over before it could be killed"
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    lab.deploy("-e", "oscarv_force_stop=true").ok()
    once(lab, *(f"wn{n}" for n in range(1, 13)))
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)
    lab.set(members="wn[1:2]")
    lab.deploy("-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true", *FORCE).ok()


def test_a_rebuild_wants_consent_and_a_word_about_host_keys(lab: Lab) -> None:
    before = lab.result("ledger_info", {"subset": ["guests"]})["guests"]
    new = lab.build("2M")
    assert "build outdated: rebuild" in lab.playbook("oscarv.virt.status").ok().text
    rebuild = functools.partial(lab.playbook, "oscarv.virt.rebuild", *QUICK, "-e", "oscarv_select=wn1")
    rebuild().fails("rebuild makes the root disk of 1 guest anew", "-e oscarv_confirm=tdep")
    rebuild("-e", "oscarv_confirm=tdep").fails("the private host key of these guests could not be read")
    host = lab.host_of("wn1")
    header = f"qemu-img info -U /var/lib/oscarv/tdep/wn1-root.qcow2 | grep -c {new}"
    assert lab.ssh(host, header + " || true") == "0", "a refused rebuild touched the disk"
    consent = ("-e", "oscarv_confirm=tdep", "-e", "oscarv_new_host_keys=true")
    rebuild(*consent, "-e", "oscarv_shutdown_timeout=1").fails("wn1: still running")
    consent += FORCE
    rebuild(*consent).ok()
    assert lab.ssh(host, header) == "1"
    after = lab.result("ledger_info", {"subset": ["guests"]})["guests"]
    for old, now in zip(before, after, strict=True):
        assert (old["uuid"], old["host"], old["nics"]) == (now["uuid"], now["host"], now["nics"])
        assert now["build_id"] == (new if now["name"] == "wn1" and now["state"] != "released" else old["build_id"])
    stamp = lab.ssh(host, "stat -c %i /var/lib/oscarv/tdep/wn1-root.qcow2")
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)
    assert lab.ssh(host, "stat -c %i /var/lib/oscarv/tdep/wn1-root.qcow2") == stamp
    rebuild(*consent).ok()
    assert lab.ssh(host, "stat -c %i /var/lib/oscarv/tdep/wn1-root.qcow2") != stamp, "the same build again is a rebuild"


def test_guests_of_a_fenced_host_come_up_elsewhere_by_consent_and_the_stale_copy_goes(lab: Lab) -> None:
    """node02 is not really off here: the worst case, in which a stale copy runs."""
    name = next(guest for guest in ("wn1", "wn2") if lab.host_of(guest) == "node02")
    run = lab.deploy("-e", "oscarv_fenced=node02").fails(f"{name}: node02 is fenced and has its disks (root)")
    assert "node02" not in {h for h, counts in run.recap.items() if counts["changed"]}
    assert lab.running()[name] == ["node02"]
    lab.deploy("-e", "oscarv_fenced=node02", "-e", "oscarv_recreate=true").ok()
    assert sorted(lab.running()[name]) == ["node01", "node02"] and lab.host_of(name) == "node01"
    lab.tasks({"oscarv.virt.ledger": {"operation": "unfence", "host": "node02"}}).ok()
    assert "RUNS TWICE: on node01, node02" in lab.playbook("oscarv.virt.status").ok().text
    prune = ("-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true")
    lab.deploy(*prune, "-e", "oscarv_shutdown_timeout=1").ok()  # power is cut: what it would write is of no use
    assert lab.running()[name] == ["node01"] and name not in lab.domains("node02")
    assert lab.deploy().ok().changed == dict.fromkeys(HOSTS, 0)


def test_teardown_wants_the_name_and_leaves_nothing(lab: Lab) -> None:
    lab.playbook("oscarv.virt.teardown").fails("teardown removes 2 guests of cluster tdep with their disks: wn1, wn2")
    assert len(lab.running()) == 2
    predicted = lab.playbook("oscarv.virt.teardown", "-e", "oscarv_confirm=tdep", "--check").ok()
    done = lab.playbook("oscarv.virt.teardown", "-e", "oscarv_confirm=tdep").ok()
    assert {h for h, n in predicted.changed.items() if n} == {h for h, n in done.changed.items() if n}
    for host in HOSTS:
        assert lab.domains(host) == {}
        assert lab.ssh(host, "find /var/lib/oscarv /var/lib/oscarv-host/tombstones -type f 2>/dev/null || true") == ""
    again = lab.playbook("oscarv.virt.teardown", "-e", "oscarv_confirm=tdep").ok()
    assert again.changed == dict.fromkeys(HOSTS, 0)
    ledger = lab.result("ledger_info", {"subset": ["guests", "history"], "subject": "wn1"})
    assert {row["state"] for row in ledger["guests"]} == {"released"}
    assert {"assign", "release"} <= {row["what"] for row in ledger["history"]}
