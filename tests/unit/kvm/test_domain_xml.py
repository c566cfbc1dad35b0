# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._driver import Mark
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import (
    mark_of_spec,
    mark_xml,
    read_mark,
    replace_mark,
)
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import parse, serial_of, view
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_xml import MOST_VCPUS, domain, free_target, vcpus_max
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from kvm_plain import MIB, UUID, plain
from lxml import etree

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"
PATHS = {"root": "/pool/demo/wn001-root.qcow2", "scratch": "/pool/demo/wn001-scratch.qcow2"}


def render(
    spec: GuestSpec, domain_type: str = "kvm", cpu: t.Any = ("host-model", ()), seed: str | None = "/seed.iso"
) -> ET.Element:
    mark = mark_of_spec(spec, build_id=spec.root.build_id, host_key="ssh-ed25519 AAAA")
    return parse(
        ET.tostring(
            domain(spec, domain_type=domain_type, cpu=cpu, disks=PATHS, seed=seed, mark=mark), encoding="unicode"
        )
    )


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
@pytest.mark.parametrize("seed", [None, "/pool/demo/wn001-seed.iso"])
@pytest.mark.parametrize(
    ("domain_type", "cpu"),
    [
        ("kvm", ("host-model", ())),
        ("kvm", ("host-passthrough", ())),
        ("kvm", ("Skylake-Server", (("pdpe1gb", "disable"), ("ssbd", "require")))),
        ("qemu", ("qemu64", ())),
        ("test", ("default", ())),
    ],
)
def test_a_new_domain_is_valid_by_libvirts_schema(
    firmware: str, seed: str | None, domain_type: str, cpu: t.Any
) -> None:
    rendered = render(GuestSpec.from_plain(plain(firmware=firmware)), domain_type, cpu, seed)
    schema = etree.RelaxNG(file=SCHEMA)
    schema.assertValid(etree.fromstring(ET.tostring(rendered)))


def test_a_new_domain_says_what_the_spec_says(spec: GuestSpec) -> None:
    seen = view(render(spec))
    assert (seen.name, seen.uuid, seen.domain_type) == ("wn001", UUID, "kvm")
    assert (seen.vcpus, seen.vcpus_max, seen.memory, seen.memory_max) == (2, 8, 512 * MIB, 512 * MIB)
    assert (seen.cpu, seen.firmware) == ("host-model", "bios")
    assert [(disk.target, disk.serial, disk.path) for disk in seen.disks if disk.device == "disk"] == [
        ("vda", "root", PATHS["root"]),
        ("vdb", "scratch", PATHS["scratch"]),
    ]
    assert seen.drive is not None
    assert (seen.drive.path, seen.drive.readonly) == ("/seed.iso", True)
    assert [(nic.mac, nic.bridge, nic.mtu) for nic in seen.nics] == [
        ("52:54:00:00:00:01", "br0", 9000),
        ("52:54:00:00:00:02", "br1", None),
    ]
    assert view(render(GuestSpec.from_plain(plain(firmware="uefi")))).firmware == "uefi"


def test_there_are_spare_slots_for_what_is_plugged_later(spec: GuestSpec) -> None:
    rendered = render(spec)
    ports = rendered.findall("devices/controller[@model='pcie-root-port']")
    taken = len(spec.disks) + len(spec.nics) + 4
    assert len(ports) - taken == 8


def test_the_seed_hangs_on_a_controller_that_kernels_for_clouds_have(spec: GuestSpec) -> None:
    """Debian's linux-image-cloud-amd64 has virtio_scsi and sr_mod, but no AHCI for q35's SATA: it would see no seed."""
    rendered = render(spec)
    drive = rendered.find("devices/disk[@device='cdrom']/target")
    assert drive is not None and drive.get("bus") == "scsi"
    models = [found.get("model") for found in rendered.findall("devices/controller[@type='scsi']")]
    assert models == ["virtio-scsi"]


def test_memory_is_rounded_up_to_mib_as_qemu_does() -> None:
    assert view(render(GuestSpec.from_plain(plain(memory=100 * MIB + 1)))).memory_max == 101 * MIB


@pytest.mark.parametrize(("vcpus", "most"), [(1, 8), (4, 8), (5, 10), (100, 200), (200, MOST_VCPUS), (255, MOST_VCPUS)])
def test_vcpus_have_room_to_grow(vcpus: int, most: int) -> None:
    assert vcpus_max(vcpus) == most


def test_targets_go_on_after_z() -> None:
    used = {f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"}
    assert free_target(set()) == "vda"
    assert free_target({"vda", "vdc"}) == "vdb"
    assert free_target(used) == "vdaa"


def test_serials_stay_short_and_different() -> None:
    assert serial_of("scratch") == "scratch"
    long = [serial_of(f"a-very-long-name-of-a-disk-{number}") for number in (1, 2)]
    assert len(set(long)) == 2
    assert all(len(serial) == 20 for serial in long)


def test_the_mark_comes_back(spec: GuestSpec) -> None:
    mark = read_mark(render(spec))
    assert mark == Mark(
        cluster="demo",
        guest="wn001",
        uuid=UUID,
        partition="workers",
        epoch=1,
        build_id="ab" * 32,
        host_key="ssh-ed25519 AAAA",
        nics=(
            {
                "name": "eth0",
                "network": "compute",
                "mac": "52:54:00:00:00:01",
                "addresses": ["10.0.4.21/22", "fd12:3456::15/64"],
            },
            {"name": "eth1", "network": "storage", "mac": "52:54:00:00:00:02", "addresses": ["10.1.0.21/24"]},
        ),
    )


def test_a_clone_of_a_guest_is_not_ours(spec: GuestSpec) -> None:
    clone = render(spec)
    uuid = clone.find("uuid")
    assert uuid is not None
    uuid.text = "11111111-0f0e-4d55-9d3c-0a4b7d1f2c11"
    assert read_mark(clone) is None


def test_a_damaged_mark_is_no_mark(spec: GuestSpec) -> None:
    damaged = render(spec)
    mark = damaged.find("metadata/{urn:oscarv:virt:guest:1}guest")
    assert mark is not None
    mark.set("epoch", "three")
    assert read_mark(damaged) is None


def test_a_mark_is_replaced_and_others_metadata_stay(spec: GuestSpec) -> None:
    rendered = render(spec)
    metadata = rendered.find("metadata")
    assert metadata is not None
    ET.SubElement(metadata, "{urn:somebody:else}note", {"text": "mine"})
    old = read_mark(rendered)
    assert old is not None
    replace_mark(rendered, dataclasses.replace(old, epoch=7))
    again = parse(ET.tostring(rendered, encoding="unicode"))
    assert getattr(read_mark(again), "epoch", None) == 7
    assert len(again.findall("metadata/*")) == 2
    assert again.find("metadata/{urn:somebody:else}note") is not None


def test_a_mark_for_set_metadata_has_no_namespace(spec: GuestSpec) -> None:
    text = mark_xml(mark_of_spec(spec, build_id=None, host_key=None))
    assert text.startswith("<guest ")
    assert "xmlns" not in text
