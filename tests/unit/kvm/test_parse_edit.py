# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_edit as edit
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import (
    Disk,
    Nic,
    View,
    parse,
    restart_required,
    view,
)
from ansible_collections.oscarv.virt.plugins.module_utils._spec import NicSpec

#: As libvirt 9 writes it, with things that a person added: a secret, a topology, a NIC, a disk, qemu:commandline.
DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>wn001</name>
  <uuid>6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11</uuid>
  <metadata><note xmlns='urn:somebody'>keep me</note></metadata>
  <memory unit='KiB'>131072</memory>
  <currentMemory unit='KiB'>98304</currentMemory>
  <vcpu placement='static' current='1'>8</vcpu>
  <vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/></vcpus>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <firmware><feature enabled='no' name='secure-boot'/></firmware>
    <boot dev='hd'/>
  </os>
  <cpu mode='custom' match='exact' check='partial'>
    <model fallback='forbid'>EPYC</model>
    <topology sockets='1' dies='1' cores='8' threads='1'/>
    <feature policy='disable' name='svm'/>
  </cpu>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/pool/demo/wn001-root.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <serial>root</serial>
      <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>
    </disk>
    <disk type='block' device='disk'>
      <source dev='/dev/sdx'/>
      <target dev='vdb' bus='virtio'/>
      <shareable/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/pool/demo/wn001-seed.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
      <serial>seed</serial>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default' portgroup='x'/>
      <model type='virtio'/>
      <mtu size='1400'/>
      <driver queues='2'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
    <interface type='bridge'>
      <mac address='52:54:00:AA:BB:CC'/>
      <source bridge='added'/>
    </interface>
    <graphics type='vnc' passwd='secret'/>
  </devices>
  <qemu:commandline><qemu:arg value='-snapshot'/></qemu:commandline>
</domain>
"""


def edited(change: t.Callable[[ET.Element], object]) -> ET.Element:
    domain = parse(DOMAIN)
    change(domain)
    return parse(ET.tostring(domain, encoding="unicode"))


def others(domain: ET.Element, *tags: str) -> dict[str, str]:
    """Canonical text of each top-level child but these, and of each device but those that a test changes."""
    return {
        f"{number}:{child.tag}": ET.canonicalize(ET.tostring(child, encoding="unicode"), strip_text=True)
        for number, child in enumerate(child for child in domain if child.tag not in tags)
    }


def test_what_libvirt_writes_is_understood() -> None:
    seen = view(parse(DOMAIN))
    assert (seen.vcpus, seen.vcpus_max, seen.memory, seen.memory_max) == (1, 8, 96 * 2**20, 128 * 2**20)
    assert (seen.firmware, seen.cpu, seen.cpu_features) == ("uefi", "EPYC", (("svm", "disable"),))
    assert seen.disk("root") == Disk("vda", "disk", "/pool/demo/wn001-root.qcow2", "root", False, False)
    assert seen.disks[1] == Disk("vdb", "disk", None, None, False, True)
    assert seen.nic("52:54:00:00:00:01") == Nic("52:54:00:00:00:01", None, "virtio", 1400)
    assert seen.nic("52:54:00:aa:bb:cc") == Nic("52:54:00:aa:bb:cc", "added", None, None)


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        (lambda d: edit.set_vcpus(d, 3, 16), ("vcpu", "vcpus")),
        (lambda d: edit.set_memory(d, 256 * 2**20), ("memory", "currentMemory")),
        (lambda d: edit.set_cpu(d, "qemu64", ()), ("cpu",)),
        (lambda d: edit.set_firmware(d, "bios"), ("os",)),
        (lambda d: edit.put_nic(d, NicSpec("eth1", "c", "52:54:00:00:00:02", "br1")), ("devices",)),
        (lambda d: edit.put_disk(d, "scratch", "/pool/demo/wn001-scratch.qcow2"), ("devices",)),
        (lambda d: edit.put_seed(d, None), ("devices",)),
    ],
)
def test_an_edit_leaves_everything_else_as_it_was(
    change: t.Callable[[ET.Element], object], touched: tuple[str, ...]
) -> None:
    after = edited(change)
    assert others(after, *touched) == others(parse(DOMAIN), *touched)
    kept = [device for device in parse(DOMAIN).findall("devices/*") if "seed" not in device.itertext()]
    now = {
        ET.canonicalize(ET.tostring(device, encoding="unicode"), strip_text=True)
        for device in after.findall("devices/*")
    }
    for device in kept:
        assert ET.canonicalize(ET.tostring(device, encoding="unicode"), strip_text=True) in now


def test_vcpus_and_memory() -> None:
    seen = view(edited(lambda d: (edit.set_vcpus(d, 3, 16), edit.set_memory(d, 100 * 2**20 + 5))))
    assert (seen.vcpus, seen.vcpus_max, seen.memory, seen.memory_max) == (3, 16, 101 * 2**20, 101 * 2**20)


def test_a_cpu_keeps_its_topology() -> None:
    after = edited(lambda d: edit.set_cpu(d, "Skylake-Server", (("ssbd", "require"),)))
    assert (view(after).cpu, view(after).cpu_features) == ("Skylake-Server", (("ssbd", "require"),))
    assert after.find("cpu/topology[@cores='8']") is not None
    assert edited(lambda d: edit.set_cpu(d, "default", ())).find("cpu") is None


def test_firmware_there_and_back() -> None:
    bios = edited(lambda d: edit.set_firmware(d, "bios"))
    assert view(bios).firmware == "bios"
    assert bios.find("os/firmware") is None
    edit.set_firmware(bios, "uefi")
    assert view(bios).firmware == "uefi"
    assert bios.find("os/boot[@dev='hd']") is not None


def test_a_nic_is_moved_to_a_bridge_and_keeps_its_address_and_queues() -> None:
    after = edited(lambda d: edit.put_nic(d, NicSpec("eth0", "c", "52:54:00:00:00:01", "br7", mtu=None)))
    nic = edit.find_nic(after, "52:54:00:00:00:01")
    assert nic is not None
    assert nic.get("type") == "bridge"
    assert dict(nic.find("source").attrib) == {"bridge": "br7"}
    assert nic.find("mtu") is None
    assert nic.find("driver[@queues='2']") is not None
    assert nic.find("address[@bus='0x01']") is not None


def test_removing_a_nic_or_a_disk_removes_that_one() -> None:
    after = edited(lambda d: (edit.remove_nic(d, "52:54:00:00:00:01"), edit.remove_disk(d, "root")))
    assert [nic.mac for nic in view(after).nics] == ["52:54:00:aa:bb:cc"]
    assert [disk.target for disk in view(after).disks] == ["vdb", "sda"]


def test_a_disk_is_added_at_the_next_free_target_and_pointed_elsewhere() -> None:
    added = edited(lambda d: edit.put_disk(d, "scratch", "/pool/demo/wn001-scratch.qcow2"))
    assert view(added).disk("scratch") == Disk("vdc", "disk", "/pool/demo/wn001-scratch.qcow2", "scratch", False, False)
    moved = view(edited(lambda d: edit.put_disk(d, "root", "/pool/demo/wn2-root.qcow2"))).disk("root")
    assert moved is not None
    assert (moved.target, moved.path) == ("vda", "/pool/demo/wn2-root.qcow2")


def test_a_seed_is_taken_out_and_put_in() -> None:
    out = edited(lambda d: edit.put_seed(d, None))
    drive = view(out).drive
    assert drive is not None
    assert drive.path is None
    edit.put_seed(out, "/new.iso")
    again = view(out).drive
    assert again is not None
    assert again.path == "/new.iso"


SEEN = view(parse(DOMAIN))


@pytest.mark.parametrize(
    ("live", "waits"),
    [
        (SEEN, False),
        (dataclasses.replace(SEEN, vcpus=2), True),
        (dataclasses.replace(SEEN, memory=64 * 2**20), False),  # the guest has not followed its balloon yet
        (dataclasses.replace(SEEN, memory=64 * 2**20, memory_max=64 * 2**20), True),
        (dataclasses.replace(SEEN, nics=SEEN.nics[:1]), True),
        (dataclasses.replace(SEEN, disks=SEEN.disks[:2]), True),
        (dataclasses.replace(SEEN, pending=("cpu",)), True),
        (dataclasses.replace(SEEN, cpu="expanded-by-libvirt"), False),
    ],
)
def test_what_waits_for_a_restart(live: View, waits: bool) -> None:
    assert restart_required(SEEN, live) is waits
