# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains for libxl: valid by libvirt's schema, and read back as what was asked for."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_edit as edit
from ansible_collections.oscarv.virt.plugins.module_utils import _xen_xml
from ansible_collections.oscarv.virt.plugins.module_utils._dialect import find_seed
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import mark_of_spec, read_mark
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import parse, view
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec, NicSpec, SpecError
from ansible_collections.oscarv.virt.plugins.module_utils._xen_platform import XenPlatform
from lxml import etree
from xen_played import MIB, PATHS, SEED, UUID, plain

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"
TYPES = ("pv", "pvh", "hvm")


def render(xen_type: str = "pvh", seed: str | None = SEED) -> ET.Element:
    spec = GuestSpec.from_plain(plain())
    mark = mark_of_spec(spec, build_id=spec.root.build_id, host_key="ssh-ed25519 AAAA")
    made = _xen_xml.domain(spec, xen_type=xen_type, disks=PATHS, seed=seed, mark=mark)
    return parse(ET.tostring(made, encoding="unicode"))


def valid(domain: ET.Element) -> None:
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(ET.tostring(domain)))


@pytest.mark.parametrize("seed", [None, SEED])
@pytest.mark.parametrize("xen_type", TYPES)
def test_a_new_domain_is_valid_by_libvirts_schema(xen_type: str, seed: str | None) -> None:
    valid(render(xen_type, seed))


@pytest.mark.parametrize("xen_type", TYPES)
def test_a_new_domain_says_what_the_spec_says(xen_type: str) -> None:
    domain = render(xen_type)
    seen = view(domain)
    assert (seen.name, seen.uuid, seen.domain_type) == ("wn001", UUID, "xen")
    assert (seen.vcpus, seen.memory, seen.memory_max) == (2, 512 * MIB, 512 * MIB)
    assert _xen_xml.xen_type_of(domain) == xen_type
    found = [(name, seen.disk(name)) for name in ("root", "scratch")]
    assert [(name, disk.target, disk.path) for name, disk in found if disk] == [
        ("root", "xvda", PATHS["root"]),
        ("scratch", "xvdb", PATHS["scratch"]),
    ]
    assert [(nic.mac, nic.bridge, nic.mtu) for nic in seen.nics] == [
        ("52:54:00:00:00:01", "br0", 9000),
        ("52:54:00:00:00:02", "br1", None),
    ]
    mark = read_mark(domain)
    assert mark is not None and (mark.cluster, mark.epoch, mark.build_id) == ("demo", 1, "ab" * 32)


@pytest.mark.parametrize("xen_type", ["pv", "pvh"])
def test_paravirtual_guests_boot_the_kernel_of_their_own_disk(xen_type: str) -> None:
    assert render(xen_type).findtext("os/kernel") == _xen_xml.GRUB[xen_type]


def test_hvm_guests_boot_as_a_pc_does() -> None:
    domain = render("hvm")
    assert domain.find("os/kernel") is None
    assert domain.find("features/acpi") is not None


def test_the_seed_is_a_read_only_disk_of_the_dom0_kernel() -> None:
    """QEMU 7.2 refuses a read-only xen-disk, and PV and PVH guests have no CD-ROM to eject."""
    domain = render()
    seed = find_seed(domain)
    assert seed is not None
    driver = seed.find("driver")
    assert driver is not None and driver.attrib == {"name": "phy", "type": "raw"}
    drive = view(domain).drive
    assert drive is not None and (drive.path, drive.device, drive.readonly) == (SEED, "disk", True)
    assert drive.target not in ("xvda", "xvdb", "xvdc", "xvdd"), "an HVM guest would have it as IDE, which is refused"


def test_a_disk_that_is_called_seed_is_not_the_seed() -> None:
    domain = render()
    edit.put_disk(domain, "seed", "/pool/demo/wn001-seed.qcow2")
    seen = view(domain)
    assert seen.drive is not None and seen.drive.path == SEED
    disk = seen.disk("seed")
    assert disk is not None and disk.path == "/pool/demo/wn001-seed.qcow2"


def test_the_seed_comes_and_goes_and_the_disks_stay() -> None:
    domain = render()
    edit.put_seed(domain, None)
    assert view(domain).drive is None
    assert [disk.target for disk in view(domain).disks] == ["xvda", "xvdb"]
    edit.put_seed(domain, "/new.iso")
    drive = view(domain).drive
    assert drive is not None and (drive.path, drive.target) == ("/new.iso", "xvdz")
    valid(domain)


def test_what_is_added_later_is_paravirtual_too() -> None:
    domain = render()
    assert edit.put_disk(domain, "more", "/pool/demo/wn001-more.qcow2") == "xvdc"
    edit.put_nic(domain, NicSpec("eth2", "c", "52:54:00:00:00:03", "br0"))
    added = edit.find_nic(domain, "52:54:00:00:00:03")
    model = added.find("model") if added is not None else None
    assert model is not None and model.get("type") == "netfront"
    valid(domain)


@pytest.mark.parametrize("before", TYPES)
@pytest.mark.parametrize("after", TYPES)
def test_a_type_is_changed_without_a_rest_of_the_old_one(platform: XenPlatform, before: str, after: str) -> None:
    domain = render(before)
    platform.set_type(domain, after)
    fresh = render(after)
    for path in ("os", "features"):
        texts = [[ET.tostring(each).strip() for each in one.findall(path)] for one in (domain, fresh)]
        assert texts[0] == texts[1], path
    assert platform.type_of(view(domain)) == after
    valid(domain)


def test_a_type_that_xen_does_not_have_is_refused() -> None:
    with pytest.raises(SpecError, match="guest wn001: xen_type: found 'pvhvm'; allowed: pv, pvh, hvm"):
        GuestSpec.from_plain(plain(xen_type="pvhvm"))
