# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that boot the kernel of their build from outside their disk (`boot: kernel`), under Xen and KVM."""

from __future__ import annotations

import pathlib
import types
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_boot, _kvm_xml, _xen_xml
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_across as across
from ansible_collections.oscarv.virt.plugins.module_utils._dialect import KVM, XEN, Dialect, boot_for
from ansible_collections.oscarv.virt.plugins.module_utils._difference import Difference
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError, Unsupported
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import mark_of_spec
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import Boot, parse, view
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec, SpecError
from ansible_collections.oscarv.virt.plugins.module_utils._xen_platform import XenPlatform
from lxml import etree
from xen_played import PATHS, SEED, plain

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"
BUILD = "ab" * 32
LINE = "root=UUID=1234 ro console=tty0 console=hvc0 console=ttyS0,115200"
KERNEL, INITRD = f"/pool/builds/{BUILD}.vmlinuz", f"/pool/builds/{BUILD}.initrd.img"


def spec(**changes: t.Any) -> GuestSpec:
    return GuestSpec.from_plain(plain(**{"command_line": LINE, **changes}))


def made(dialect: Dialect, xen_type: str = "pvh", *, disk: bool = False) -> ET.Element:
    """A domain as a new guest gets it; with `disk` one that boots its disk."""
    wish = spec(hypervisor=dialect.hypervisor)
    mark = mark_of_spec(wish, build_id=BUILD, host_key="ssh-ed25519 AAAA")
    boot = None if disk else boot_for(dialect.hypervisor, wish, "/pool")
    if dialect is XEN:
        xml = _xen_xml.domain(wish, xen_type=xen_type, disks=PATHS, seed=SEED, mark=mark, boot=boot)
    else:
        cpu = ("host-model", ())
        xml = _kvm_xml.domain(wish, domain_type="kvm", cpu=cpu, disks=PATHS, seed=SEED, mark=mark, boot=boot)
    return parse(ET.tostring(xml, encoding="unicode"))


def system(domain: ET.Element) -> list[str]:
    """<os> as sorted lines: libvirt does not look at the order."""
    return sorted(ET.tostring(child, encoding="unicode").strip() for child in t.cast(ET.Element, domain.find("os")))


DOMAINS = [(XEN, "pv"), (XEN, "pvh"), (KVM, "")]


@pytest.mark.parametrize(("dialect", "xen_type"), DOMAINS)
def test_the_builds_kernel_is_in_the_domain_and_is_read_back(dialect: Dialect, xen_type: str) -> None:
    domain = made(dialect, xen_type)
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(ET.tostring(domain)))
    line = LINE + (" console=hvc0" if dialect is XEN else "")
    assert view(domain).boot == Boot(KERNEL, INITRD, line)
    assert view(made(dialect, xen_type, disk=True)).boot is None, "pvgrub is no build's kernel"


@pytest.mark.parametrize(("dialect", "xen_type"), DOMAINS)
def test_to_the_disk_and_back_leaves_what_a_new_guest_has(dialect: Dialect, xen_type: str) -> None:
    domain = made(dialect, xen_type)
    dialect.put_boot(domain, None)
    assert system(domain) == system(made(dialect, xen_type, disk=True))
    dialect.put_boot(domain, boot_for(dialect.hypervisor, spec(), "/pool"))
    assert system(domain) == system(made(dialect, xen_type))
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(ET.tostring(domain)))


def test_another_type_keeps_the_kernel(platform: XenPlatform) -> None:
    domain = made(XEN, "pv")
    platform.set_type(domain, "pvh")
    assert system(domain) == system(made(XEN, "pvh"))
    platform.set_type(domain, "hvm")
    assert view(domain).boot is None


def test_pv_and_pvh_need_no_grub_for_it_and_hvm_is_refused(platform: XenPlatform) -> None:
    for path in _xen_xml.GRUB.values():
        pathlib.Path(path).unlink()
    for xen_type in ("pv", "pvh"):
        platform.refuse(spec(xen_type=xen_type))
        with pytest.raises(Unsupported, match="grub-xen-host"):
            platform.refuse(spec(xen_type=xen_type, command_line=None))
    with pytest.raises(Unsupported, match="guest wn001: xen_type: found 'hvm', and its image says boot: kernel"):
        platform.refuse(spec(xen_type="hvm"))


@pytest.mark.parametrize("line", ["", "a\nb", "x" * 2001])
def test_a_command_line_is_one_line(line: str) -> None:
    with pytest.raises(SpecError, match="guest wn001: command_line: found"):
        spec(command_line=line)


def test_without_a_build_there_is_no_kernel() -> None:
    with pytest.raises(SpecError, match=r"guest wn001: disks.root.build_id: found None; allowed: with command_line"):
        spec(disks=[{"name": "root", "size": 2**30, "pool": "local"}])


# -- guests that are there ------------------------------------------------------------------------------------------


def planned(pool: pathlib.Path, wish: GuestSpec, domain: ET.Element, **more: t.Any) -> t.Any:
    """What `plan_boot` asks of a plan."""
    options = types.SimpleNamespace(builds_expected=more.pop("expected", frozenset()))
    platform = types.SimpleNamespace(hypervisor="xen")
    world = types.SimpleNamespace(
        has_files=True, options=options, platform=platform, pool_directory=lambda _spec, _disk: str(pool)
    )
    values = {"active": True, "build_outdated": False, **more}
    native = types.SimpleNamespace(config=view(domain))
    difference = Difference(wish.name)
    plan = types.SimpleNamespace(spec=wish, world=world, native=native, edits=[], difference=difference, **values)
    _kvm_boot.plan_boot(t.cast(t.Any, plan))
    return plan


@pytest.fixture
def pool(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "builds"
    folder.mkdir()
    for name in ("vmlinuz", "initrd.img"):
        (folder / f"{BUILD}.{name}").write_text(name)
    return tmp_path


def test_a_guest_learns_it_by_a_restart_and_then_nothing_changes(pool: pathlib.Path) -> None:
    domain = made(XEN, disk=True)
    plan = planned(pool, spec(), domain)
    assert "boot" in plan.difference.restart_keys and len(plan.edits) == 1
    plan.edits[0](domain)
    boot = view(domain).boot
    assert boot is not None and boot.kernel == str(pool / "builds" / f"{BUILD}.vmlinuz")
    again = planned(pool, spec(), domain)
    assert not again.edits and "boot" not in again.difference
    back = planned(pool, spec(command_line=None), domain, active=False)
    assert len(back.edits) == 1 and not back.difference.restart_keys
    back.edits[0](domain)
    assert domain.findtext("os/kernel") == _xen_xml.GRUB["pvh"] and domain.find("os/initrd") is None


def test_a_kernel_of_somebody_elses_stays(pool: pathlib.Path) -> None:
    domain = made(KVM, disk=True)
    ET.SubElement(t.cast(ET.Element, domain.find("os")), "kernel").text = "/boot/mine"
    assert not planned(pool, spec(command_line=None), domain).edits


def test_a_disk_on_an_older_build_keeps_that_ones_kernel(pool: pathlib.Path) -> None:
    assert not planned(pool, spec(), made(XEN, disk=True), build_outdated=True).edits


def test_a_kernel_that_is_not_there_is_refused_unless_the_run_brings_it(pool: pathlib.Path) -> None:
    (pool / "builds" / f"{BUILD}.initrd.img").unlink()
    with pytest.raises(DriverError, match=r"guest wn001: .*initrd.img is not on this HostOS: run oscarv.virt.deploy"):
        planned(pool, spec(), made(XEN, disk=True))
    assert planned(pool, spec(), made(XEN, disk=True), expected=frozenset({BUILD})).edits


# -- moves ----------------------------------------------------------------------------------------------------------


def move(here: Dialect, there: Dialect, **changes: t.Any) -> t.Any:
    request = types.SimpleNamespace(hypervisor=there.hypervisor, spec=spec(**changes))
    return types.SimpleNamespace(config=view(made(here)), request=request)


def test_across_hypervisors_the_console_is_the_others() -> None:
    kvm, xen = Boot(KERNEL, INITRD, LINE), Boot(KERNEL, INITRD, LINE + " console=hvc0")
    assert across.boot_there(move(KVM, XEN)) == xen
    assert across.boot_there(move(XEN, KVM)) == kvm


def test_a_move_to_hvm_is_refused() -> None:
    assert across.kernel_refusals(move(KVM, XEN)) == []
    assert across.kernel_refusals(move(XEN, KVM, xen_type="hvm")) == []
    (reason,) = across.kernel_refusals(move(KVM, XEN, xen_type="hvm"))
    assert "which xen_type: hvm cannot" in reason
