# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two plain machines that became Xen HostOSes, and their guests, in order; converge and idempotence ran before.

wn1 has a local disk, wn2 one on the shared pool. Every run of a playbook and every boot takes a minute or more here, so
a test does more than one thing where one does not hide the other.
"""

from __future__ import annotations

import shlex
import typing as t
import xml.etree.ElementTree as ET

from conftest import KVM, XEN, Counter, answers, becomes, machine, running
from scenario import FOLDER, Cluster, changed, has_data, write_data

MIB = 2**20
SHARED_DISK = "/var/lib/oscarv-san/mxen/wn2-root.qcow2"
SAVED = "/var/lib/libvirt/libxl/save"


def assert_unchanged(cluster: Cluster) -> None:
    assert set(changed(cluster.play("deploy")).values()) == {0}


def other(name: str) -> str:
    return next(host for host in XEN if host != name)


def boot_id(guest: str) -> str:
    return machine(guest).check_output("cat /proc/sys/kernel/random/boot_id")


def move(guest: str, target: str, mode: str = "auto") -> tuple[str, ...]:
    return ("-e", f"oscarv_select={guest}", "-e", f"oscarv_to={target}", "-e", f"oscarv_mode={mode}")


def test_dom0_runs_under_xen(xen: t.Any) -> None:
    assert xen.file("/sys/hypervisor/type").content_string.strip() == "xen"
    assert "dom0_mem=640M,max:640M" in xen.check_output("xl info xen_commandline")
    assert xen.socket("tcp://0.0.0.0:16514").is_listening
    assert xen.interface("br0").exists
    for pool in ("local", "san"):
        assert "running" in xen.check_output(f"virsh -c xen:///system pool-info {pool}")
    assert "sync" in xen.check_output("findmnt -n -o OPTIONS /var/lib/oscarv-san").split(",")


def test_each_guest_runs_once_on_xen_and_is_what_was_asked_for(cluster: Cluster) -> None:
    hosts = running()
    assert sorted(hosts) == ["wn1", "wn2"]
    assert all(len(found) == 1 and found[0] in XEN for found in hosts.values())
    for name, variables in cluster.guests().items():
        guest = machine(name)
        assert guest.check_output("hostname") == name
        assert variables["ansible_host"] in guest.interface("eth0").addresses
        assert guest.file("/sys/hypervisor/guest_type").content_string.strip() == "PVH"
        assert guest.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == variables["oscarv_host_key"]
    for name in XEN:  # taken away at first contact
        folders = "/var/lib/oscarv /var/lib/oscarv-san"
        assert machine(name).check_output(f"find {folders} -name '*-seed.iso'") == ""


def test_pause_and_resume(cluster: Cluster) -> None:
    boot = boot_id("wn1")
    cluster.change(state="paused")
    cluster.play("deploy")
    (host,) = running()["wn1"]
    (state,) = [line.split()[4] for line in machine(host).check_output("xl list wn1").splitlines()[1:]]
    assert "p" in state
    cluster.change(state=None)
    cluster.play("deploy")
    assert boot_id("wn1") == boot


def test_memory_and_disks_are_changed_while_it_runs(cluster: Cluster) -> None:
    boots = {name: boot_id(name) for name in ("wn1", "wn2")}

    def total() -> int:
        return int(machine("wn2").check_output("awk '/MemTotal/ {print $2}' /proc/meminfo"))

    before = total()
    cluster.change("workers", disks=[{"name": "scratch", "size": "64 MiB", "format": "raw"}])
    cluster.change("movers", memory="224 MiB")
    cluster.play("deploy")
    assert int(machine("wn1").check_output("blockdev --getsize64 /dev/xvdb")) == 64 * MIB
    assert becomes(lambda: before - total() == 32 * 1024), f"MemTotal was {before} KiB and is {total()} KiB"
    cluster.change("workers", disks=None)
    cluster.change("movers", memory="256 MiB")
    cluster.play("deploy", "-e", "oscarv_remove_disks=true")
    assert becomes(lambda: machine("wn1").run("test -e /dev/xvdb").rc != 0)
    assert becomes(lambda: total() == before)
    assert {name: boot_id(name) for name in boots} == boots
    assert_unchanged(cluster)


def test_a_live_move_on_a_shared_pool(cluster: Cluster) -> None:
    """The counter in its memory goes on, and what it writes to its disk all the while is whole."""
    guest = machine("wn2")
    write_data(guest)
    before = cluster.identity("wn2", machine("wn2"))
    (source,) = running()["wn2"]
    address, port = Counter.address
    settings = f"TARGET={address}:{port}\nINTERVAL=0.2\n"
    guest.check_output(f"printf {shlex.quote(settings)} > /etc/default/oscarv-counter")
    guest.check_output("systemctl restart oscarv-counter")
    writer = "i=0; while :; do i=$((i + 1)); echo $i >> /root/journal; sleep 0.1; done"
    guest.check_output(f"systemd-run --unit=writer sh -c {shlex.quote(writer)}")
    counter = Counter()
    counter.wait(25)
    said = cluster.play("migrate", *move("wn2", other(source)))
    assert "live" in said
    assert running()["wn2"] == [other(source)]
    counter.wait(50)
    silence = counter.close()
    (FOLDER / "live.txt").write_text(f"longest silence {silence:.1f} s\n{said}")
    assert cluster.identity("wn2", machine("wn2")) == before and has_data(machine("wn2"))
    guest.check_output("sh -c 'systemctl stop writer oscarv-counter && sync && echo 3 > /proc/sys/vm/drop_caches'")
    lines = [int(line) for line in guest.check_output("cat /root/journal").split()]
    assert lines == list(range(1, len(lines) + 1)) and len(lines) > 100
    assert_unchanged(cluster)


def test_a_live_move_with_local_disks_is_refused_before_anything_changes(cluster: Cluster) -> None:
    before = running()
    source = before["wn1"][0]
    assert "libxl copies no disks" in cluster.play("migrate", *move("wn1", other(source)), fails=True)
    assert running() == before


def test_a_cold_move_between_xen_hostoses(cluster: Cluster) -> None:
    write_data(machine("wn1"))
    before = cluster.identity("wn1", machine("wn1"))
    source = running()["wn1"][0]
    cluster.play("migrate", *move("wn1", other(source), "cold"))
    assert running()["wn1"] == [other(source)]
    answers("wn1")
    assert cluster.identity("wn1", machine("wn1")) == before and has_data(machine("wn1"))
    assert machine(source).check_output("find /var/lib/oscarv/mxen -name 'wn1-*'") == ""


def test_from_xen_to_kvm_and_back(cluster: Cluster) -> None:
    before = cluster.identity("wn1", machine("wn1"))
    home = running()["wn1"][0]
    said = cluster.play("migrate", *move("wn1", KVM), fails=True)
    assert "between hypervisors only mode cold" in said
    assert running()["wn1"] == [home]
    cluster.play("migrate", *move("wn1", KVM, "cold"), "--check")  # its build is not there yet
    assert running()["wn1"] == [home]
    for target in (KVM, home):
        cluster.play("migrate", *move("wn1", target, "cold"))
        assert running()["wn1"] == [target]
        answers("wn1")
        assert cluster.identity("wn1", machine("wn1")) == before and has_data(machine("wn1"))
        assert_unchanged(cluster)


def test_a_pv_guest_is_not_moved_live_but_cold(cluster: Cluster) -> None:
    """On the shared pool, where only its type speaks against it."""
    data = cluster.read()
    data["partitions"]["pvs"] = {**data["partitions"]["movers"], "members": "wn3", "xen_type": "pv"}
    cluster.write(data)
    cluster.play("deploy")
    assert machine("wn3").file("/sys/hypervisor/guest_type").content_string.strip() == "PV"
    write_data(machine("wn3"))
    before, (source,) = cluster.identity("wn3", machine("wn3")), running()["wn3"]
    assert "built without shadow paging" in cluster.play("migrate", *move("wn3", other(source)), fails=True)
    assert running()["wn3"] == [source]
    cluster.play("migrate", *move("wn3", other(source), "cold"))
    assert running()["wn3"] == [other(source)]
    answers("wn3")
    assert cluster.identity("wn3", machine("wn3")) == before and has_data(machine("wn3"))


def test_a_guest_that_left_the_definition_is_pruned_when_told(cluster: Cluster) -> None:
    data = cluster.read()
    del data["partitions"]["pvs"]
    cluster.write(data)
    confirm = ("-e", "oscarv_confirm=mxen")
    assert "wn3 left the definition" in cluster.play("deploy", *confirm)
    assert "wn3" in running()
    cluster.play("deploy", *confirm, "-e", "oscarv_prune=remove", "-e", "oscarv_remove_disks=true")
    assert sorted(running()) == ["wn1", "wn2"]
    assert machine("node21").check_output("find /var/lib/oscarv-san -name 'wn3*'") == ""


def test_evacuate_within_xen(cluster: Cluster) -> None:
    """Live, so of the HostOS that has none of the guests with local disks."""
    boot = boot_id("wn2")
    (home,) = running()["wn1"]
    if running()["wn2"] == [home]:
        cluster.play("migrate", *move("wn2", other(home)))
    cluster.play("evacuate", "-e", f"oscarv_hosts={other(home)}")
    assert running() == {"wn1": [home], "wn2": [home]}
    assert boot_id("wn2") == boot
    assert_unchanged(cluster)


def test_memory_is_saved_and_the_guest_goes_on_from_there(cluster: Cluster) -> None:
    boot = boot_id("wn2")
    (host,) = running()["wn2"]
    cluster.change("movers", state="saved")
    cluster.play("deploy")
    assert "wn2" not in running()
    assert machine(host).check_output(f"ls {SAVED}") == "wn2.save"
    assert "No errors were found" in machine(host).check_output(f"qemu-img check {SHARED_DISK}")
    assert_unchanged(cluster)
    refused = cluster.play("migrate", *move("wn2", other(host)), fails=True)
    assert "a saved one: with state running" in refused
    cluster.change("movers", state=None)
    cluster.play("deploy")
    assert running()["wn2"] == [host]
    assert boot_id("wn2") == boot
    assert machine(host).check_output(f"ls {SAVED}") == ""
    assert_unchanged(cluster)


def test_libxl_reads_back_what_was_rendered(cluster: Cluster) -> None:
    variables = cluster.guests()["wn2"]
    (host,) = running()["wn2"]
    virsh = "virsh -c xen:///system"
    xml = ET.fromstring(machine(host).check_output(f"{virsh} dumpxml --inactive wn2"))
    assert xml.findtext("uuid") == variables["oscarv_uuid"]
    native = machine(host).check_output(f"{virsh} domxml-to-native xen-xl --domain wn2")
    said = dict(line.split(" = ", 1) for line in native.splitlines() if " = " in line)
    assert (said["name"], said["type"]) == ('"wn2"', '"pvh"')
    assert (said["memory"], said["vcpus"]) == ("256", "1")
    assert said["kernel"].startswith('"/var/lib/oscarv-san/builds/') and said["kernel"].endswith('.vmlinuz"')
    mac = machine("wn2").check_output("cat /sys/class/net/eth0/address")
    assert f"mac={mac}" in said["vif"] and "bridge=br0" in said["vif"]
    assert "format=qcow2" in said["disk"] and f"target={SHARED_DISK}" in said["disk"]


def test_a_guest_boots_the_kernel_on_its_own_disk(cluster: Cluster) -> None:
    """By GRUB for PVH guests; the same build, so nothing is made anew but what the hypervisor starts."""
    boot = boot_id("wn2")
    (host,) = running()["wn2"]
    data = cluster.read()
    data["images"]["debian-grub"] = {**data["images"]["debian-worker"], "boot": "disk"}
    data["partitions"]["movers"]["image"] = "debian-grub"
    cluster.write(data)
    cluster.play("image")
    cluster.play("deploy", "-e", "oscarv_allow_restart=true", "-e", "oscarv_wait_timeout=1800")
    assert boot_id("wn2") != boot
    xml = ET.fromstring(machine(host).check_output("virsh -c xen:///system dumpxml wn2"))
    assert xml.findtext("os/kernel", "").endswith("grub-i386-xen_pvh.bin")


def test_xen_stays_the_default_when_the_menu_is_written_anew(xen: t.Any) -> None:
    """What a new kernel does: its package runs update-grub."""
    xen.check_output("update-grub")
    assert 'set default="Debian GNU/Linux, with Xen hypervisor"' in xen.file("/boot/grub/grub.cfg").content_string


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
