# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a virtual cluster on two HostOSes, in order; converge and idempotence ran before."""

from __future__ import annotations

import subprocess
import typing as t

from conftest import HOSTS, domains, running
from scenario import FOLDER, TOP, Cluster, changed, machine

GIB = 2**30


def boot_ids() -> dict[str, str]:
    return {name: machine(name).check_output("cat /proc/sys/kernel/random/boot_id") for name in ("wn1", "wn2")}


def assert_unchanged(cluster: Cluster) -> None:
    assert set(changed(cluster.play("deploy")).values()) == {0}


def test_the_scenario_has_hosts(cluster: Cluster) -> None:
    """Molecule is green where no host matches; this is not."""
    assert sorted(cluster.guests()) == ["wn1", "wn2"]
    assert all(machine(name).check_output("hostname") == name for name in HOSTS)


def test_hostos(hostos: t.Any) -> None:
    assert hostos.check_output("virsh -c qemu:///system version")
    assert hostos.socket("tcp://0.0.0.0:16514").is_listening
    assert hostos.interface("br0").exists
    assert "running" in hostos.check_output("virsh -c qemu:///system pool-info local")


def test_each_guest_runs_once_and_is_what_was_asked_for(cluster: Cluster) -> None:
    assert {guest: len(hosts) for guest, hosts in running().items()} == {"wn1": 1, "wn2": 1}
    for name, variables in cluster.guests().items():
        guest = machine(name)
        assert guest.check_output("hostname") == name
        assert variables["ansible_host"] in guest.interface("eth0").addresses
        size = int(guest.check_output("df --output=size -B1 / | tail -1"))
        assert size > 2.5 * GIB, "the root file system did not grow with its disk"
        assert guest.file("/etc/motd").exists
        assert guest.check_output("cut -d' ' -f1 /etc/ssh/ssh_host_ed25519_key.pub") == "ssh-ed25519"
        assert guest.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == variables["oscarv_host_key"]


def test_no_seed_is_left_after_first_contact(hostos: t.Any) -> None:
    assert hostos.check_output("find /var/lib/oscarv -name '*-seed.iso'") == ""


def test_a_guest_that_boots_again_is_reached_again(cluster: Cluster) -> None:
    """Its seed is gone; name, address and host key are not."""
    before = boot_ids()["wn2"]
    reboot = ["ansible", "wn2", "-i", str(FOLDER), "-m", "ansible.builtin.reboot", "-a", "reboot_timeout=300"]
    done = subprocess.run(reboot, cwd=TOP, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert boot_ids()["wn2"] != before
    assert machine("wn2").check_output("hostname") == "wn2"


def test_deploy_again_changes_nothing(cluster: Cluster) -> None:
    assert_unchanged(cluster)


def test_check_mode_tells_what_a_run_then_does(cluster: Cluster) -> None:
    """Live: more memory within the maximum, a second disk, without a reboot."""
    before = boot_ids()
    cluster.change(disks=[{"name": "scratch", "size": "64 MiB"}])
    predicted = cluster.play("deploy", "--check", "--diff")
    assert "scratch" in predicted
    assert sum(changed(predicted).values()) > 0
    assert machine("wn1").run("test -e /dev/vdb").rc != 0, "check mode attached a disk"
    done = cluster.play("deploy")
    assert {host for host, count in changed(predicted).items() if count} == {
        host for host, count in changed(done).items() if count
    }
    assert int(machine("wn1").check_output("blockdev --getsize64 /dev/vdb")) == 64 * 2**20
    assert boot_ids() == before
    assert_unchanged(cluster)


def test_pause_and_resume(cluster: Cluster) -> None:
    before = boot_ids()
    cluster.change(state="paused")
    cluster.play("deploy")
    states = {name: state for host in HOSTS for name, state in domains(host).items()}
    assert states == {"wn1": "paused", "wn2": "paused"}
    assert_unchanged(cluster)
    cluster.change(state=None)
    cluster.play("deploy")
    assert boot_ids() == before
    assert_unchanged(cluster)


def test_migrate_while_it_runs(cluster: Cluster) -> None:
    before = boot_ids()
    source = cluster.guests()["wn1"]["oscarv_host"]
    target = next(name for name in HOSTS if name != source)
    cluster.play("migrate", "-e", "oscarv_select=wn1", "-e", f"oscarv_to={target}")
    assert running()["wn1"] == [target]
    assert "wn1" not in domains(source)
    assert cluster.guests()["wn1"]["oscarv_host"] == target
    assert boot_ids() == before
    assert_unchanged(cluster)


def test_evacuate(cluster: Cluster) -> None:
    before = boot_ids()
    cluster.play("evacuate", "-e", "oscarv_hosts=node01")
    assert running() == {"wn1": ["node02"], "wn2": ["node02"]}
    assert domains("node01") == {}
    assert boot_ids() == before
    assert_unchanged(cluster)


def test_rebuild_keeps_what_a_guest_is(cluster: Cluster) -> None:
    before = boot_ids()
    was = cluster.guests()["wn1"]
    machine("wn1").check_output("touch /root/old")
    cluster.play("rebuild", "-e", "oscarv_select=wn1", "-e", "oscarv_confirm=mkvm")
    now = cluster.guests()["wn1"]
    for key in ("ansible_host", "oscarv_uuid", "oscarv_host_key", "oscarv_host"):
        assert now[key] == was[key]
    assert not machine("wn1").file("/root/old").exists
    assert boot_ids()["wn1"] != before["wn1"]
    assert boot_ids()["wn2"] == before["wn2"]
    assert_unchanged(cluster)


def test_a_killed_deploy_is_finished_by_the_next(cluster: Cluster) -> None:
    cluster.change(members="wn[1:3]")
    ours = "ls /var/lib/oscarv/mkvm/ | grep -q wn3"
    cluster.kill("deploy", when=lambda: any(machine(name).run(ours).rc == 0 for name in HOSTS))
    cluster.play("deploy")
    assert {guest: len(hosts) for guest, hosts in running().items()} == {"wn1": 1, "wn2": 1, "wn3": 1}
    assert machine("wn3").check_output("hostname") == "wn3"
    assert_unchanged(cluster)


def test_a_lost_ledger_is_rebuilt_from_the_marks(cluster: Cluster) -> None:
    was = cluster.guests()
    ledger = FOLDER / ".oscarv"
    for path in ledger.glob("ledger.sqlite*"):
        path.unlink()
    cluster.play("hostos")
    cluster.play("image")
    assert "It was lost" in cluster.play("deploy", "--check", fails=True)
    assert "were made again from the marks" in cluster.play("deploy")
    now = cluster.guests()
    for name, variables in was.items():
        for key in ("ansible_host", "oscarv_uuid", "oscarv_host_key", "oscarv_host"):
            assert now[name][key] == variables[key], f"{name} {key}"
    assert {guest: len(hosts) for guest, hosts in running().items()} == {"wn1": 1, "wn2": 1, "wn3": 1}
    assert_unchanged(cluster)


def test_prune_wants_to_be_asked(cluster: Cluster) -> None:
    cluster.change(members="wn[1:2]")
    refused = cluster.play("deploy", fails=True)
    assert "oscarv_confirm" in refused
    assert "wn3" in running()
    cluster.play("deploy", "-e", "oscarv_confirm=mkvm")
    assert "wn3" in running(), "prune reports unless it is told to remove"
    cluster.play("deploy", "-e", "oscarv_confirm=mkvm", "-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true")
    assert sorted(running()) == ["wn1", "wn2"]
    for name in HOSTS:
        assert machine(name).check_output("find /var/lib/oscarv -name 'wn3*'") == ""
    assert_unchanged(cluster)


def test_status_is_true(cluster: Cluster) -> None:
    text = cluster.play("status")
    for word in ("wn1", "wn2", *HOSTS):
        assert word in text
    assert set(changed(text).values()) == {0}


def test_teardown_leaves_no_trace_on_the_hostoses(cluster: Cluster) -> None:
    assert "oscarv_confirm" in cluster.play("teardown", fails=True)
    assert sorted(running()) == ["wn1", "wn2"]
    cluster.play("teardown", "-e", "oscarv_confirm=mkvm")
    assert running() == {}
    for name in HOSTS:
        assert domains(name) == {}
        # The role's way back to the old network is not a guest's.
        left = "find /var/lib/oscarv /var/lib/oscarv-host -type f ! -name lock ! -path '*/network/*'"
        assert machine(name).check_output(left) == ""
    assert set(changed(cluster.play("teardown", "-e", "oscarv_confirm=mkvm")).values()) == {0}
