# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two plain machines that became Xen HostOSes, and their guests, in order; converge and idempotence ran before."""

from __future__ import annotations

import shlex
import typing as t
import xml.etree.ElementTree as ET

from conftest import FOLDER, KVM, XEN, Cluster, Counter, changed, identity, machine, running


def assert_unchanged(cluster: Cluster) -> None:
    assert set(changed(cluster.play("deploy")).values()) == {0}


def other(name: str) -> str:
    return next(host for host in XEN if host != name)


def test_dom0_runs_under_xen(xen: t.Any) -> None:
    assert xen.file("/sys/hypervisor/type").content_string.strip() == "xen"
    assert "dom0_mem=640M,max:640M" in xen.check_output("xl info xen_commandline")
    assert xen.socket("tcp://0.0.0.0:16514").is_listening
    assert xen.interface("br0").exists
    for pool in ("local", "san"):
        assert "running" in xen.check_output(f"virsh -c xen:///system pool-info {pool}")
    assert "sync" in xen.check_output("findmnt -n -o OPTIONS /var/lib/oscarv-san").split(",")


def test_xen_stays_the_default_when_the_menu_is_written_anew(xen: t.Any) -> None:
    """What a new kernel does: its package runs update-grub."""
    xen.check_output("update-grub")
    assert 'set default="Debian GNU/Linux, with Xen hypervisor"' in xen.file("/boot/grub/grub.cfg").content_string


def test_each_guest_runs_once_on_xen_and_is_what_was_asked_for(cluster: Cluster) -> None:
    hosts = running()
    assert sorted(hosts) == ["wn1", "wn2", "wn3"]
    assert all(len(found) == 1 and found[0] in XEN for found in hosts.values())
    for name, variables in cluster.guests().items():
        guest = machine(name)
        assert guest.check_output("hostname") == name
        assert variables["ansible_host"] in guest.interface("eth0").addresses
        assert guest.file("/sys/hypervisor/guest_type").content_string.strip() == "PVH"
        assert guest.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == variables["oscarv_host_key"]


def test_libxl_reads_back_what_was_rendered(cluster: Cluster) -> None:
    variables = cluster.guests()["wn3"]
    (host,) = running()["wn3"]
    virsh = "virsh -c xen:///system"
    xml = ET.fromstring(machine(host).check_output(f"{virsh} dumpxml --inactive wn3"))
    assert xml.findtext("uuid") == variables["oscarv_uuid"]
    native = machine(host).check_output(f"{virsh} domxml-to-native xen-xl --domain wn3")
    said = dict(line.split(" = ", 1) for line in native.splitlines() if " = " in line)
    assert (said["name"], said["type"]) == ('"wn3"', '"pvh"')
    assert (said["memory"], said["vcpus"]) == ("256", "1")
    assert said["kernel"].endswith('grub-i386-xen_pvh.bin"')
    mac = machine("wn3").check_output("cat /sys/class/net/eth0/address")
    assert f"mac={mac}" in said["vif"] and "bridge=br0" in said["vif"]
    assert "format=qcow2" in said["disk"] and "target=/var/lib/oscarv-san/mxen/wn3-root.qcow2" in said["disk"]


def test_no_seed_is_left_after_first_contact(xen: t.Any) -> None:
    assert xen.check_output("find /var/lib/oscarv -name '*-seed.iso'") == ""


def test_deploy_again_changes_nothing(cluster: Cluster) -> None:
    assert_unchanged(cluster)


def test_pause_and_resume(cluster: Cluster) -> None:
    boot = machine("wn1").check_output("cat /proc/sys/kernel/random/boot_id")
    cluster.change(state="paused")
    cluster.play("deploy")
    rows = [line.split() for name in XEN for line in machine(name).check_output("xl list").splitlines()]
    states = {row[0]: row[4] for row in rows if row[0] in ("wn1", "wn2")}
    assert len(states) == 2 and all("p" in state for state in states.values())
    assert_unchanged(cluster)
    cluster.change(state=None)
    cluster.play("deploy")
    assert machine("wn1").check_output("cat /proc/sys/kernel/random/boot_id") == boot


def test_memory_is_saved_and_the_guest_goes_on_from_there(cluster: Cluster) -> None:
    boot = machine("wn3").check_output("cat /proc/sys/kernel/random/boot_id")
    (host,) = running()["wn3"]
    cluster.change("movers", state="saved")
    cluster.play("deploy")
    assert "wn3" not in running()
    assert machine(host).check_output("ls /var/lib/libvirt/libxl/save") == "wn3.save"
    assert_unchanged(cluster)
    refused = cluster.play("migrate", "-e", "oscarv_select=wn3", "-e", f"oscarv_to={other(host)}", fails=True)
    assert "a saved one: with state running" in refused
    cluster.change("movers", state=None)
    cluster.play("deploy")
    assert running()["wn3"] == [host]
    assert machine("wn3").check_output("cat /proc/sys/kernel/random/boot_id") == boot
    assert machine(host).check_output("ls /var/lib/libvirt/libxl/save") == ""
    assert_unchanged(cluster)


def test_memory_is_changed_while_it_runs(cluster: Cluster) -> None:
    (host,) = running()["wn3"]
    total = int(machine("wn3").check_output("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    cluster.change("movers", memory="224 MiB")
    cluster.play("deploy")
    assert running()["wn3"] == [host]
    less = int(machine("wn3").check_output("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert total - less == 32 * 1024
    assert_unchanged(cluster)
    cluster.change("movers", memory="256 MiB")
    cluster.play("deploy")
    assert_unchanged(cluster)


def test_a_disk_is_added_while_it_runs(cluster: Cluster) -> None:
    cluster.change(disks=[{"name": "scratch", "size": "64 MiB"}])
    assert machine("wn1").run("test -e /dev/xvdb").rc != 0
    cluster.play("deploy")
    assert int(machine("wn1").check_output("blockdev --getsize64 /dev/xvdb")) == 64 * 2**20
    assert_unchanged(cluster)


def test_a_live_move_with_local_disks_is_refused_before_anything_changes(cluster: Cluster) -> None:
    before = running()
    source = before["wn1"][0]
    said = cluster.play("migrate", "-e", "oscarv_select=wn1", "-e", f"oscarv_to={other(source)}", fails=True)
    assert "libxl copies no disks" in said
    assert running() == before


def test_a_live_move_on_a_shared_pool(cluster: Cluster) -> None:
    """The counter in its memory goes on, and what it writes to its disk all the while is whole."""
    guest, before = machine("wn3"), identity(cluster, "wn3")
    (source,) = running()["wn3"]
    address, port = Counter.address
    settings = f"TARGET={address}:{port}\nINTERVAL=0.2\n"
    guest.check_output(f"printf {shlex.quote(settings)} > /etc/default/oscarv-counter")
    guest.check_output("systemctl restart oscarv-counter")
    writer = "i=0; while :; do i=$((i + 1)); echo $i >> /root/journal; sleep 0.1; done"
    guest.check_output(f"systemd-run --unit=writer sh -c {shlex.quote(writer)}")
    counter = Counter()
    counter.wait(25)
    said = cluster.play("migrate", "-e", "oscarv_select=wn3", "-e", f"oscarv_to={other(source)}")
    assert "live" in said
    assert running()["wn3"] == [other(source)]
    counter.wait(50)
    silence = counter.close()
    (FOLDER / "live.txt").write_text(f"longest silence {silence:.1f} s\n{said}")
    assert identity(cluster, "wn3") == before
    guest.check_output("sh -c 'systemctl stop writer oscarv-counter && sync && echo 3 > /proc/sys/vm/drop_caches'")
    lines = [int(line) for line in guest.check_output("cat /root/journal").split()]
    assert lines == list(range(1, len(lines) + 1)) and len(lines) > 100
    assert_unchanged(cluster)
    cluster.change("movers", state="stopped")
    cluster.play("deploy")
    disk = "/var/lib/oscarv-san/mxen/wn3-root.qcow2"
    assert "No errors were found" in machine(source).check_output(f"qemu-img check {disk}")
    cluster.change("movers", state=None)
    cluster.play("deploy")


def test_a_cold_move_between_xen_hostoses(cluster: Cluster) -> None:
    machine("wn1").check_output("sh -c 'echo kept > /root/data; sync'")
    before = identity(cluster, "wn1")
    source = running()["wn1"][0]
    move = ("-e", "oscarv_select=wn1", "-e", f"oscarv_to={other(source)}", "-e", "oscarv_mode=cold")
    cluster.play("migrate", *move)
    assert running()["wn1"] == [other(source)]
    cluster.play("deploy")  # waits for it
    assert identity(cluster, "wn1") == before
    assert machine(source).check_output("find /var/lib/oscarv/mxen -name 'wn1-*'") == ""
    assert_unchanged(cluster)


def test_from_xen_to_kvm_and_back(cluster: Cluster) -> None:
    before = identity(cluster, "wn1")
    home = running()["wn1"][0]
    said = cluster.play("migrate", "-e", "oscarv_select=wn1", "-e", f"oscarv_to={KVM}", fails=True)
    assert "between hypervisors only mode cold" in said
    assert running()["wn1"] == [home]
    for target in (KVM, home):
        cold = ("-e", "oscarv_select=wn1", "-e", f"oscarv_to={target}", "-e", "oscarv_mode=cold")
        cluster.play("migrate", *cold)
        assert running()["wn1"] == [target]
        cluster.play("deploy")
        assert identity(cluster, "wn1") == before
        assert_unchanged(cluster)


def test_a_pv_guest_is_not_moved_live_but_cold(cluster: Cluster) -> None:
    """On the shared pool, where only its type speaks against it. GRUB for PV cannot unpack the kernel for clouds."""
    data = cluster.read()
    worker = data["images"]["debian-worker"]
    data["images"]["debian-pv"] = {**worker, "packages": [*worker["packages"], "linux-image-amd64"]}
    data["partitions"]["pvs"] = {
        **data["partitions"]["movers"],
        "image": "debian-pv",
        "members": "wn4",
        "xen_type": "pv",
    }
    cluster.write(data)
    cluster.play("image")
    cluster.play("deploy")
    assert machine("wn4").file("/sys/hypervisor/guest_type").content_string.strip() == "PV"
    before, (source,) = identity(cluster, "wn4"), running()["wn4"]
    move = ("-e", "oscarv_select=wn4", "-e", f"oscarv_to={other(source)}")
    assert "built without shadow paging" in cluster.play("migrate", *move, fails=True)
    assert running()["wn4"] == [source]
    cluster.play("migrate", *move, "-e", "oscarv_mode=cold")
    assert running()["wn4"] == [other(source)]
    cluster.play("deploy")
    assert identity(cluster, "wn4") == before
    cluster.change("pvs", state="absent")
    cluster.play("deploy", "-e", "oscarv_remove_disks=true")
    assert "wn4" not in running()


def test_evacuate_within_xen(cluster: Cluster) -> None:
    cluster.play("evacuate", "-e", "oscarv_hosts=node22", "-e", "oscarv_mode=cold")
    assert running() == {"wn1": ["node21"], "wn2": ["node21"], "wn3": ["node21"]}
    cluster.play("deploy")


def test_teardown_leaves_no_trace_on_the_hostoses(cluster: Cluster) -> None:
    cluster.play("teardown", "-e", "oscarv_confirm=mxen")
    assert running() == {}
    folders = "/var/lib/oscarv /var/lib/oscarv-san /var/lib/oscarv-host"
    for name in XEN:
        listing = machine(name).check_output("virsh -c xen:///system list --all --name").split()
        assert listing == ["Domain-0"]
        left = machine(name).check_output(f"find {folders} -type f ! -name lock ! -path '*/network/*'")
        assert left == ""


def test_absent_goes_back_to_plain_debian(cluster: Cluster) -> None:
    cluster.play("hostos", "--limit", "node22", "-e", "hostos_xen_state=absent")
    plain = machine("node22")
    assert not plain.file("/sys/hypervisor/type").exists or plain.file("/sys/hypervisor/type").content_string != "xen\n"
    assert "Xen" not in plain.check_output("grep 'set default=' /boot/grub/grub.cfg")
    again = cluster.play("hostos", "--limit", "node22", "-e", "hostos_xen_state=absent")
    assert changed(again)["node22"] == 0
