# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains for libvirt's LXC: valid by its schema, read back as what was asked for, and edited."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_edit as edit
from ansible_collections.oscarv.virt.plugins.module_utils import _lxc_xml
from ansible_collections.oscarv.virt.plugins.module_utils._dialect import LXC, dialect_of
from ansible_collections.oscarv.virt.plugins.module_utils._driver import CAPABILITIES, Unsupported
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_capabilities import capabilities
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import mark_of_spec, read_mark
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import parse, restart_required, view
from ansible_collections.oscarv.virt.plugins.module_utils._lxc_parse import name_of, processors
from ansible_collections.oscarv.virt.plugins.module_utils._lxc_platform import LxcPlatform
from ansible_collections.oscarv.virt.plugins.module_utils._paths import disk_name_of, disk_path, format_of
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec, NicSpec
from lxc_plain import MIB, PATHS, UUID, plain
from lxml import etree

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"


class NoConnection:
    def getType(self) -> str:  # noqa: N802
        return "LXC"


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> LxcPlatform:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return LxcPlatform(NoConnection(), "/nowhere")


def render() -> ET.Element:
    spec = GuestSpec.from_plain(plain())
    mark = mark_of_spec(spec, build_id=spec.root.build_id, host_key="ssh-ed25519 AAAA")
    return parse(ET.tostring(_lxc_xml.domain(spec, disks=PATHS, mark=mark), encoding="unicode"))


def test_a_new_domain_is_valid_by_libvirts_schema() -> None:
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(ET.tostring(render())))


def test_a_new_domain_says_what_the_spec_says() -> None:
    domain = render()
    seen = view(domain)
    assert (seen.name, seen.uuid, seen.domain_type) == ("ct001", UUID, "lxc")
    assert (seen.vcpus, seen.memory, seen.memory_max) == (2, 512 * MIB, 512 * MIB)
    found = {name: seen.disk(name) for name in ("root", "scratch")}
    assert {name: (disk.target, disk.path) for name, disk in found.items() if disk} == {
        "root": ("/", PATHS["root"]),
        "scratch": ("/mnt/scratch", PATHS["scratch"]),
    }
    assert [(nic.mac, nic.bridge, nic.mtu) for nic in seen.nics] == [("52:54:00:00:00:01", "br0", 9000)]
    assert domain.find("devices/interface/guest").attrib == {"dev": "eth0"}
    mark = read_mark(domain)
    assert mark is not None and (mark.cluster, mark.epoch) == ("demo", 1)


def test_processors_are_what_the_quota_is_worth() -> None:
    domain = render()
    edit.set_vcpus(domain, vcpus=3, most=3)
    assert (domain.findtext("cputune/quota"), domain.findtext("vcpu")) == ("300000", "3")
    assert view(domain).vcpus == 3
    for quota, worth in (("150000", 2), ("-1", None), ("100000", 1)):
        domain.find("cputune/quota").text = quota
        assert processors(domain) == worth
    assert restart_required(view(render()), view(domain))


def test_disks_are_edited_by_their_place() -> None:
    domain = render()
    edit.put_disk(domain, "root", "/elsewhere.raw")
    edit.put_disk(domain, "more", "/more.raw")
    edit.remove_disk(domain, "scratch")
    shown = {disk.target: disk.path for disk in view(domain).disks}
    assert shown == {"/": "/elsewhere.raw", "/mnt/more": "/more.raw"}
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(ET.tostring(domain)))


def test_what_others_mounted_is_no_disk_of_ours() -> None:
    domain = render()
    foreign = _lxc_xml.disk_element("root", "/srv/data.raw")
    foreign.find("target").set("dir", "/srv")
    domain.find("devices").append(foreign)
    assert [disk.serial for disk in view(domain).disks] == ["root", "scratch", None]
    assert [name_of(mount) for mount in ("/", "/mnt/a", "/mnt", "/srv/b")] == ["root", "a", None, None]


def test_a_nic_is_added_with_its_name() -> None:
    domain = render()
    edit.put_nic(domain, NicSpec("eth1", "storage", "52:54:00:00:00:02", "br1"))
    assert view(domain).nic("52:54:00:00:00:02") is not None
    etree.RelaxNG(file=SCHEMA).assertValid(etree.fromstring(ET.tostring(domain)))


def test_every_capability_is_answered(platform: LxcPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: True)
    found = capabilities(platform)
    assert set(found) == set(CAPABILITIES)
    lacking = {name for name, one in found.items() if not one.supported}
    assert lacking == {"save", "live_disk", "live_disk_growth", "live_move", "live_move_local_disk", "uefi", "overlay"}
    assert all(found[name].reason for name in lacking)


def test_without_loop_devices_nothing_runs(platform: LxcPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: False)
    assert platform.acceleration.kind == "none" and "loop" in platform.acceleration.reason


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"firmware": "uefi"}, "uefi"),
        ({"cpu": {"model": "host-model"}}, "cpu.model"),
        ({"hypervisor": "kvm"}, "lxc driver"),
        ({"command_line": "root=UUID=1 ro"}, "boot: kernel; a container boots none"),
    ],
)
def test_refusals(platform: LxcPlatform, changes: dict[str, object], named: str) -> None:
    with pytest.raises(Unsupported, match=named):
        platform.refuse(GuestSpec.from_plain(plain(**changes)))


@pytest.mark.parametrize("format_", ["qcow2", "raw"])
def test_disks_are_file_systems_whatever_their_format(platform: LxcPlatform, format_: str) -> None:
    assert platform.dialect.disk_kind(format_) == "ext4"
    path = disk_path("/pool", "demo", "ct001", "scratch", platform.dialect.disk_kind(format_))
    assert disk_name_of(path, "demo", "ct001") == "scratch" and format_of(path) == "raw"


def test_the_dialect_is_told_by_the_domain() -> None:
    assert dialect_of("lxc") is LXC and dialect_of("qemu").hypervisor == "kvm"
