# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two HostOSes with a double of OpenVZ's tools, in order; converge and idempotence ran before.

This is the contract of vzctl and vzlist, with containers that LXC runs. It says nothing of an OpenVZ kernel.
"""

from __future__ import annotations

import typing as t

from conftest import HOSTS, containers, running
from scenario import Cluster, changed, has_data, machine, write_data

LIBVIRT = """
set -e
mkdir -p /run/oscarv-proc; mount --rbind /proc /run/oscarv-proc; mount -t tmpfs tmpfs /proc
for x in $(ls /run/oscarv-proc); do ln -s /run/oscarv-proc/$x /proc/$x; done; mkdir /proc/vz
v="virsh -c openvz:///system"
$v version; $v setvcpus 301 2; $v autostart 301; $v start 301
echo STARTED $($v domstate 301)
$v shutdown 301
echo STOPPED $($v domstate 301)
"""


def assert_unchanged(cluster: Cluster) -> None:
    assert set(changed(cluster.play("deploy")).values()) == {0}


def other(name: str) -> str:
    return next(host for host in HOSTS if host != name)


def group(name: str, controller: str, file: str) -> str:
    (host,) = running()[name]
    ctid, _status = containers(host)[name]
    return machine(host).check_output(f"cat /sys/fs/cgroup/{controller}/lxc.payload.{ctid}/{file}")


def life(name: str) -> str:
    return machine(name).check_output("sh -c 'cut -d\" \" -f22 /proc/1/stat'")


def test_the_hostos_is_ready(hostos: t.Any) -> None:
    assert hostos.interface("br0").exists
    assert hostos.check_output("vzctl --version").startswith("vzctl version 4.")
    assert hostos.check_output("cat /proc/sys/net/ipv4/ip_forward") == "1"


def test_each_container_runs_once_and_is_what_was_asked_for(cluster: Cluster) -> None:
    hosts = running()
    assert sorted(hosts) == ["ct1", "ct2"]
    assert sorted(found for (found,) in hosts.values()) == list(HOSTS)
    for name, variables in cluster.guests().items():
        guest = machine(name)
        assert guest.check_output("hostname") == name
        assert variables["ansible_host"] in guest.interface("eth0").addresses
        assert guest.check_output("systemctl is-system-running --wait") == "running"
        assert guest.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == variables["oscarv_host_key"]
        assert guest.check_output("find /var/lib/cloud/seed -type f") == "", "its seed is deleted after first contact"


def test_limits_are_effective() -> None:
    assert group("ct1", "memory", "memory.limit_in_bytes") == str(256 * 2**20)
    assert group("ct1", "cpu", "cpu.cfs_quota_us") == "100000"
    assert machine("ct1").run("sh -c 'head -c 400M /dev/zero | tail'").rc != 0, "it had more memory than its limit"


def test_deploy_again_changes_nothing(cluster: Cluster) -> None:
    assert_unchanged(cluster)


def test_pause_and_resume(cluster: Cluster) -> None:
    before = life("ct1")
    cluster.change(state="paused")
    cluster.play("deploy")
    assert group("ct1", "freezer", "freezer.state") == "FROZEN"
    assert_unchanged(cluster)
    cluster.change(state=None)
    cluster.play("deploy")
    assert life("ct1") == before


def test_processors_and_memory_change_while_it_runs(cluster: Cluster) -> None:
    before = life("ct1")
    for vcpus, memory in ((2, 224), (1, 256)):
        cluster.change(vcpus=vcpus, memory=f"{memory} MiB")
        cluster.play("deploy")
        assert group("ct1", "cpu", "cpu.cfs_quota_us") == str(100000 * vcpus)
        assert group("ct1", "memory", "memory.limit_in_bytes") == str(memory * 2**20)
        assert_unchanged(cluster)
    assert life("ct1") == before


def test_libvirts_own_openvz_driver_drives_the_double(cluster: Cluster) -> None:
    """A client that nobody here wrote. It wants to see /proc/vz, which only a /proc of its own can have."""
    host = machine("node01")
    template = host.check_output("ls /vz/template/cache").split(".tar")[0]
    host.check_output(f"vzctl create 301 --ostemplate {template} --name foreign")
    try:
        said = host.check_output("unshare --mount --propagation private sh -c %s", LIBVIRT)
        assert "Running hypervisor: OpenVZ 4.11" in said
        assert "STARTED running" in said and "STOPPED shut off" in said
        conf = host.file("/etc/vz/conf/301.conf").content_string
        assert 'CPUS="2"' in conf and 'ONBOOT="yes"' in conf
        assert_unchanged(cluster)  # it is foreign to us
        assert "301" in host.check_output("vzlist -a -H -o ctid")
    finally:
        host.run("vzctl stop 301 --fast")
        host.check_output("vzctl destroy 301")


def test_a_live_move_is_refused_before_anything_changes(cluster: Cluster) -> None:
    before = running()
    said = cluster.play("migrate", "-e", "oscarv_select=ct1", "-e", f"oscarv_to={other(before['ct1'][0])}", fails=True)
    assert "capability live_move is missing" in said
    assert running() == before


def test_memory_is_not_saved_where_the_kernel_writes_no_checkpoints(cluster: Cluster) -> None:
    before = running(), life("ct1")
    cluster.change(state="saved")
    assert "capability save is missing on this HostOS: no /proc/cpt and /proc/rst" in cluster.play("deploy", fails=True)
    assert (running(), life("ct1")) == before
    cluster.change(state=None)
    cluster.play("deploy")  # the ledger learns that the wish was taken back
    assert (running(), life("ct1")) == before
    assert_unchanged(cluster)


def test_a_cold_move(cluster: Cluster) -> None:
    write_data(machine("ct1"))
    before = cluster.identity("ct1", machine("ct1"))
    (source,) = running()["ct1"]
    cluster.play("migrate", "-e", "oscarv_select=ct1", "-e", f"oscarv_to={other(source)}", "-e", "oscarv_mode=cold")
    assert running()["ct1"] == [other(source)]
    cluster.play("deploy")  # waits for it
    assert cluster.identity("ct1", machine("ct1")) == before and has_data(machine("ct1"))
    assert "ct1" not in containers(source)
    assert_unchanged(cluster)


def test_evacuate(cluster: Cluster) -> None:
    cluster.play("evacuate", "-e", "oscarv_hosts=node02", "-e", "oscarv_mode=cold")
    assert running() == {"ct1": ["node01"], "ct2": ["node01"]}
    cluster.play("deploy")


def test_a_container_goes_to_lxc(cluster: Cluster) -> None:
    cluster.change(on=["vzhosts", "lxchosts"])
    write_data(machine("ct2"))
    before = cluster.identity("ct2", machine("ct2"))
    wish = ("-e", "oscarv_select=ct2", "-e", "oscarv_to=node03", "-e", "oscarv_mode=cold")
    cluster.play("migrate", *wish, "--check")
    (source,) = running()["ct2"]
    cluster.play("migrate", *wish)
    assert "ct2" not in containers(source)
    assert machine("node03").check_output("virsh -q -c lxc:///system domstate ct2") == "running"
    cluster.play("deploy")  # waits for it
    assert cluster.identity("ct2", machine("ct2")) == before and has_data(machine("ct2"))
    assert machine("ct2").check_output("systemd-detect-virt") == "lxc-libvirt"
    assert machine("ct2").check_output("systemctl is-system-running --wait") == "running"
    assert_unchanged(cluster)


def test_prune_and_teardown(cluster: Cluster) -> None:
    data = cluster.read()
    del data["rules"]  # they name ct2
    data["partitions"]["workers"]["members"] = "ct1"
    cluster.write(data)
    cluster.play("deploy", "-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true", "-e", "oscarv_confirm=mvz")
    assert sorted(running()) == ["ct1"]
    assert machine("node03").check_output("virsh -q -c lxc:///system list --all --name") == ""
    assert machine("node03").check_output("find /var/lib/oscarv -name 'ct2*'") == ""
    cluster.play("teardown", "-e", "oscarv_confirm=mvz")
    assert running() == {}
    for name in HOSTS:
        assert containers(name) == {}
        assert machine(name).check_output("find /vz/private /vz/root /etc/vz/names -mindepth 1") == ""
