# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves that libvirt does not make by itself: between Xen HostOSes, and from one hypervisor to the other."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import types
import typing as t
import xml.etree.ElementTree as ET

import libvirt
import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_across as across
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_job as job
from ansible_collections.oscarv.virt.plugins.module_utils._driver import MoveRequest
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import mark_of_spec, read_mark
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import parse, view
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from lxml import etree
from xen_played import PATHS, SEED, UUID, plain

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"
CAPS = "<capabilities>{}</capabilities>"
GUEST = "<guest><os_type>{}</os_type></guest>"


class PlayedTarget:
    """Another HostOS: what was defined there, and what it offers."""

    host, address, uri, encrypted = "node02", "10.0.0.2", "xen+tls://10.0.0.2/system", True

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.defined: list[str] = []
        self.connection = types.SimpleNamespace(getCapabilities=self.capabilities, defineXML=self.define)

    def capabilities(self) -> str:
        return CAPS.format("".join(map(GUEST.format, self.kinds)))

    def define(self, text: str) -> None:
        self.defined.append(text)


class PlayedDomain:
    def __init__(self, xml: ET.Element, target: PlayedTarget) -> None:
        self.xml, self.target = xml, target
        self.undefined: list[int] = []
        self.migrated: list[tuple[str, dict[str, t.Any], int]] = []

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 (libvirt's name)
        return ET.tostring(self.xml, encoding="unicode")

    def undefineFlags(self, flags: int) -> None:  # noqa: N802
        assert self.target.defined, "undefined before it was anywhere else: a crash here would lose it"
        self.undefined.append(flags)

    def migrateToURI3(self, uri: str, params: dict[str, t.Any], flags: int) -> None:  # noqa: N802
        self.migrated.append((uri, params, flags))


def spec_of(**changes: t.Any) -> GuestSpec:
    return GuestSpec.from_plain(plain(epoch=2, **changes))


def planned(
    target: PlayedTarget, here: str, there: str, *, live: bool = False, acceleration: str = "", **changes: t.Any
) -> t.Any:
    """A plan of a move of a guest that was made by hypervisor `here`."""
    spec = spec_of(hypervisor=here, **changes)
    old = dataclasses.replace(mark_of_spec(spec, build_id="ab" * 32, host_key="ssh-ed25519 AAAA"), epoch=1)
    if here == "xen":
        from ansible_collections.oscarv.virt.plugins.module_utils import _xen_xml

        xml = _xen_xml.domain(spec, xen_type="pvh", disks=PATHS, seed=SEED, mark=old)
    else:
        from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_xml

        xml = _kvm_xml.domain(spec, domain_type="kvm", cpu=("host-model", ()), disks=PATHS, seed=SEED, mark=old)
    request = MoveRequest(spec, "node02", "10.0.0.2", "cold", hypervisor=there, acceleration=acceleration)
    return types.SimpleNamespace(
        guest=spec.name,
        uuid=spec.uuid,
        request=request,
        live=live,
        crosses=across.crosses(here, request),
        disks=tuple(types.SimpleNamespace(name=name, path=path) for name, path in PATHS.items()),
        copied=(),
        seen=types.SimpleNamespace(seed=SEED),
        config=view(parse(ET.tostring(xml, encoding="unicode"))),
        domain=PlayedDomain(xml, target),
        mark=old,
    )


def move(plan: t.Any, target: PlayedTarget) -> ET.Element:
    mark = dataclasses.replace(plan.mark, epoch=2)
    job.migrate(plan, t.cast(t.Any, target), mark, job.Clock(None))
    assert len(target.defined) == 1 and len(plan.domain.undefined) == 1
    made = ET.fromstring(target.defined[0])
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(target.defined[0]))
    found = read_mark(made)
    assert found == mark, "the mark travels, with the new epoch"
    return made


def same_guest(made: ET.Element) -> None:
    seen = view(made)
    assert (seen.name, seen.uuid) == ("wn001", UUID)
    found = [seen.disk(name) for name in PATHS]
    assert [disk.path for disk in found if disk] == list(PATHS.values())
    assert [nic.mac for nic in seen.nics] == ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    assert seen.drive is not None and seen.drive.path == SEED


@pytest.mark.parametrize(
    ("kinds", "wish", "machine"),
    [
        (("xen", "hvm", "xenpvh"), None, "xenpvh"),
        (("xen",), None, "xenpv"),
        (("xen", "hvm", "xenpvh"), "pv", "xenpv"),
    ],
)
def test_from_kvm_to_xen(kinds: tuple[str, ...], wish: str | None, machine: str) -> None:
    target = PlayedTarget(*kinds)
    plan = planned(target, "kvm", "xen", xen_type=wish)
    made = move(plan, target)
    same_guest(made)
    assert (made.get("type"), view(made).machine) == ("xen", machine)
    assert plan.domain.undefined[0] & libvirt.VIR_DOMAIN_UNDEFINE_NVRAM


@pytest.mark.parametrize(("acceleration", "kind"), [("kvm", "kvm"), ("tcg", "qemu"), ("", "qemu")])
def test_from_xen_to_kvm(acceleration: str, kind: str) -> None:
    """libvirt would offer kvm wherever /dev/kvm is; a guest that is started with one that only pretends hangs."""
    target = PlayedTarget("hvm")
    plan = planned(target, "xen", "kvm", acceleration=acceleration)
    made = move(plan, target)
    same_guest(made)
    assert made.get("type") == kind
    assert plan.domain.undefined == [libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE], "libxl refuses any other flag"


def test_between_xen_hostoses_the_domain_stays_as_it_is() -> None:
    target = PlayedTarget("xen")
    plan = planned(target, "xen", "xen")
    plan.domain.xml.append(ET.fromstring("<description>mine</description>"))
    made = move(plan, target)
    same_guest(made)
    assert made.findtext("description") == "mine"
    assert plan.domain.migrated == []


@pytest.mark.parametrize("encrypted", [True, False])
def test_memory_of_xen_guests_goes_through_libvirts_tls(encrypted: bool) -> None:
    """libxl itself knows no encryption, and refuses flags and parameters of QEMU's."""
    target = PlayedTarget("xenpvh")
    target.encrypted = encrypted
    plan = planned(target, "xen", "xen", live=True)
    job.migrate(plan, t.cast(t.Any, target), dataclasses.replace(plan.mark, epoch=2), job.Clock(None))
    ((uri, params, flags),) = plan.domain.migrated
    assert uri == target.uri
    assert set(params) == {libvirt.VIR_MIGRATE_PARAM_DEST_XML}
    assert bool(flags & libvirt.VIR_MIGRATE_TUNNELLED) == encrypted
    assert flags & libvirt.VIR_MIGRATE_PAUSED, "the QEMU here still writes to the disks when the guest goes on there"
    allowed = ("LIVE", "PEER2PEER", "TUNNELLED", "PERSIST_DEST", "UNDEFINE_SOURCE", "PAUSED")
    assert not flags & ~sum(getattr(libvirt, f"VIR_MIGRATE_{name}") for name in allowed)


def refused(*, live: bool = False, kinds: tuple[str, ...] = ("xen", "xenpvh"), **changes: t.Any) -> str:
    request = MoveRequest(spec_of(hypervisor="kvm", **changes), "node02", "10.0.0.2", "cold", hypervisor="xen")
    return "; ".join(across.refusals("kvm", request, live, t.cast(t.Any, PlayedTarget(*kinds)), ()))


def test_what_cannot_cross_is_refused_with_its_reason() -> None:
    assert refused() == ""
    assert "memory means nothing to another hypervisor" in refused(live=True)
    assert "lacks capability uefi" in refused(firmware="uefi")
    assert "use default" in refused(cpu={"model": "host-model"})
    assert "offers no kind of Xen guest" in refused(kinds=())


@pytest.mark.parametrize("here", ["kvm", "xen", "lxc"])
@pytest.mark.parametrize("there", ["", "kvm", "xen", "lxc", "openvz"])
def test_machines_and_containers_do_not_change_into_each_other(here: str, there: str) -> None:
    request = MoveRequest(spec_of(hypervisor=here), "node02", "10.0.0.2", "cold", hypervisor=there)
    allowed = there in ("", here) or {here, there} == {"kvm", "xen"}
    why = across.pair_refusal(here, request)
    assert (why is None) == allowed
    assert why is None or f"node02 has {there}" in why


def test_a_build_that_xen_cannot_read_does_not_cross(tmp_path: pathlib.Path) -> None:
    build = str(tmp_path / "b.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", build, "1M"], check=True)
    request = MoveRequest(spec_of(hypervisor="kvm"), "node02", "10.0.0.2", "cold", hypervisor="xen")
    (reason,) = across.refusals("kvm", request, False, t.cast(t.Any, PlayedTarget("xen")), [build, None])
    assert "compressed with zstd" in reason
