# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two HostOSes for containers, and their containers, in order; converge and idempotence ran before."""

from __future__ import annotations

import time
import typing as t

from conftest import HOSTS, inits, running
from scenario import Cluster, changed, has_data, machine, write_data

VIRSH = "virsh -c lxc:///system"
#: Of a HostOS's control groups (version 1), with libvirt's name for a container's.
GROUPS = "/sys/fs/cgroup/{controller}/machine*/*{name}*/{file}"


def assert_unchanged(cluster: Cluster) -> None:
    assert set(changed(cluster.play("deploy")).values()) == {0}


def other(name: str) -> str:
    return next(host for host in HOSTS if host != name)


def group(name: str, controller: str, file: str) -> list[str]:
    (host,) = running()[name]
    pattern = GROUPS.format(controller=controller, name=name, file=file)
    return machine(host).check_output(f"sh -c 'cat {pattern}'").split()


def life(name: str) -> str:
    """Differs from one run of a container to the next; its boot id is its HostOS's."""
    return machine(name).check_output("sh -c 'cut -d\" \" -f22 /proc/1/stat'")


def answers(name: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            machine(name).check_output("true")
            return
        except RuntimeError:  # ssh itself failed
            assert time.monotonic() < end, f"{name} does not answer"
            time.sleep(1)


def test_the_hostos_is_ready(hostos: t.Any) -> None:
    assert hostos.socket("tcp://0.0.0.0:16514").is_listening
    assert hostos.interface("br0").exists
    assert "running" in hostos.check_output(f"{VIRSH} pool-info local")
    assert "--timeout" not in hostos.check_output("sh -c 'pgrep -a libvirtd'")


def test_each_container_runs_once_and_is_what_was_asked_for(cluster: Cluster) -> None:
    hosts = running()
    assert sorted(hosts) == ["ct1", "ct2"]
    assert sorted(found for (found,) in hosts.values()) == list(HOSTS)
    for name, variables in cluster.guests().items():
        guest = machine(name)
        assert guest.check_output("hostname") == name
        assert variables["ansible_host"] in guest.interface("eth0").addresses
        assert guest.check_output("systemd-detect-virt") == "lxc-libvirt"
        assert guest.check_output("systemctl is-system-running --wait") == "running"
        assert guest.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == variables["oscarv_host_key"]


def test_limits_are_effective() -> None:
    guest = machine("ct1")
    assert group("ct1", "memory", "memory.limit_in_bytes") == [str(256 * 2**20)]
    assert group("ct1", "cpu", "cpu.cfs_quota_us") == ["100000"]
    assert guest.run("sh -c 'head -c 400M /dev/zero | tail'").rc != 0, "it had more memory than its limit"
    assert guest.run("dd if=/dev/zero of=/root/big bs=1M count=3000").rc != 0, "it had more disk than its limit"
    guest.check_output("rm /root/big")
    busy = "for i in 1 2 3; do timeout 4 sh -c 'while :; do :; done' & done; wait"
    before = int(group("ct1", "cpuacct", "cpuacct.usage")[0])
    guest.run("sh -c %s", busy)
    used = (int(group("ct1", "cpuacct", "cpuacct.usage")[0]) - before) / 1e9
    assert used < 5.5, f"it used {used:.1f} s of processor time in 4 s"


def test_nothing_tells_secrets_to_others(hostos: t.Any) -> None:
    assert hostos.check_output("find /var/lib/oscarv -name '*.ext4' -perm /077") == ""
    assert hostos.check_output("find /var/lib/oscarv -name '*-seed*'") == ""


def test_deploy_again_changes_nothing(cluster: Cluster) -> None:
    assert_unchanged(cluster)


def test_pause_and_resume(cluster: Cluster) -> None:
    before = life("ct1")
    cluster.change(state="paused")
    cluster.play("deploy")
    assert group("ct1", "freezer", "freezer.state") == ["FROZEN"]
    assert_unchanged(cluster)
    cluster.change(state=None)
    cluster.play("deploy")
    assert life("ct1") == before


def test_processors_and_memory_change_while_it_runs(cluster: Cluster) -> None:
    before = life("ct1")
    for vcpus, memory in ((2, 224), (1, 256)):
        cluster.change(vcpus=vcpus, memory=f"{memory} MiB")
        said = cluster.play("deploy", "--check", "--diff")
        assert '"vcpus"' in said and group("ct1", "cpu", "cpu.cfs_quota_us") != [str(100000 * vcpus)]
        cluster.play("deploy")
        assert group("ct1", "cpu", "cpu.cfs_quota_us") == [str(100000 * vcpus)]
        assert group("ct1", "memory", "memory.limit_in_bytes") == [str(memory * 2**20)]
        assert_unchanged(cluster)
    assert life("ct1") == before


def test_disks_change_while_it_is_off(cluster: Cluster) -> None:
    cluster.change(disk="3 GiB", disks=[{"name": "scratch", "size": "64 MiB"}])
    said = cluster.play("deploy", fails=True)
    assert "live_disk_growth is missing" in said and "state: stopped" in said
    cluster.change(state="stopped")
    cluster.play("deploy")
    assert running() == {}
    cluster.change(state=None)
    cluster.play("deploy")
    guest = machine("ct1")
    assert int(guest.check_output("df --output=size -m /").split()[1]) > 2800
    assert guest.check_output("findmnt -n -o FSTYPE /mnt/scratch") == "ext4"
    assert_unchanged(cluster)


def test_it_restarts_when_it_is_told_so_from_within() -> None:
    before = life("ct1")
    machine("ct1").run("systemctl reboot")
    time.sleep(3)
    answers("ct1")
    assert life("ct1") != before


def test_one_that_dies_is_started_again(cluster: Cluster) -> None:
    (host,) = running()["ct1"]
    machine(host).check_output(f"kill -KILL {inits(host)['ct1']}")
    time.sleep(2)
    assert "ct1" not in running()
    cluster.play("deploy")
    assert running()["ct1"] == [host]
    assert_unchanged(cluster)


def test_a_live_move_is_refused_before_anything_changes(cluster: Cluster) -> None:
    before = running()
    said = cluster.play("migrate", "-e", "oscarv_select=ct1", "-e", f"oscarv_to={other(before['ct1'][0])}", fails=True)
    assert "does not move containers that run" in said
    assert running() == before


def test_a_cold_move(cluster: Cluster) -> None:
    write_data(machine("ct1"))
    before = cluster.identity("ct1", machine("ct1"))
    (source,) = running()["ct1"]
    cluster.play("migrate", "-e", "oscarv_select=ct1", "-e", f"oscarv_to={other(source)}", "-e", "oscarv_mode=cold")
    assert running()["ct1"] == [other(source)]
    cluster.play("deploy")  # waits for it
    assert cluster.identity("ct1", machine("ct1")) == before and has_data(machine("ct1"))
    assert machine(source).check_output("find /var/lib/oscarv/mlxc -name 'ct1-*'") == ""
    assert_unchanged(cluster)


def test_evacuate(cluster: Cluster) -> None:
    cluster.play("evacuate", "-e", "oscarv_hosts=node02", "-e", "oscarv_mode=cold")
    assert running() == {"ct1": ["node01"], "ct2": ["node01"]}
    cluster.play("deploy")


def test_rebuild_empties_the_root_and_keeps_who_it_is(cluster: Cluster) -> None:
    before = cluster.identity("ct1", machine("ct1"))
    assert has_data(machine("ct1"))
    cluster.play("rebuild", "-e", "oscarv_select=ct1", "-e", "oscarv_confirm=mlxc")
    assert cluster.identity("ct1", machine("ct1")) == before and not has_data(machine("ct1"))
    assert_unchanged(cluster)


def test_prune(cluster: Cluster) -> None:
    data = cluster.read()
    del data["rules"]  # they name ct2
    data["partitions"]["workers"]["members"] = "ct1"
    cluster.write(data)
    cluster.play("deploy", "-e", "oscarv_confirm=mlxc")
    assert "ct2" in running(), "prune reports, unless it is told to remove"
    cluster.play("deploy", "-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true", "-e", "oscarv_confirm=mlxc")
    assert sorted(running()) == ["ct1"]
    assert_unchanged(cluster)


def test_teardown_leaves_no_trace_on_the_hostoses(cluster: Cluster) -> None:
    cluster.play("teardown", "-e", "oscarv_confirm=mlxc")
    assert running() == {}
    for name in HOSTS:
        assert machine(name).check_output(f"{VIRSH} list --all --name") == ""
        folders = "/var/lib/oscarv /var/lib/oscarv-host"
        assert machine(name).check_output(f"find {folders} -type f ! -name lock ! -path '*/network/*'") == ""
        assert "/var/lib/oscarv/mlxc" not in machine(name).check_output("losetup -a")


def test_absent_takes_the_role_back(cluster: Cluster) -> None:
    cluster.play("hostos", "--limit", "node02", "-e", "hostos_lxc_state=absent")
    assert 'LIBVIRTD_ARGS=""' not in machine("node02").file("/etc/default/libvirtd").content_string
    again = cluster.play("hostos", "--limit", "node02", "-e", "hostos_lxc_state=absent")
    assert changed(again)["node02"] == 0
