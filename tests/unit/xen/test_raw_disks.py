# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data disks of format raw, under KVM and Xen: made, grown and read by what their name says, not by their contents."""

from __future__ import annotations

import os
import pathlib
import subprocess
import types
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_disks as disks
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_target as target
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_storage as storage
from ansible_collections.oscarv.virt.plugins.module_utils._dialect import KVM, XEN, Dialect
from ansible_collections.oscarv.virt.plugins.module_utils._difference import Difference
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import Disk
from ansible_collections.oscarv.virt.plugins.module_utils._paths import disk_name_of, disk_path
from ansible_collections.oscarv.virt.plugins.module_utils._qcow2 import Header, read_header
from ansible_collections.oscarv.virt.plugins.module_utils._spec import DiskSpec, GuestSpec, SpecError
from xen_played import MIB, plain


def with_format(**formats: str) -> GuestSpec:
    wish = plain()
    for disk in wish["disks"]:
        disk["format"] = formats.get(disk["name"], "qcow2")
    return GuestSpec.from_plain(wish)


def test_data_disks_may_be_raw_and_root_disks_not() -> None:
    made = with_format(scratch="raw")
    assert [disk.format for disk in made.disks] == ["qcow2", "raw"]
    assert GuestSpec.from_plain(made.to_plain()) == made
    with pytest.raises(SpecError, match="guest wn001: disks.root.format: found 'raw'; allowed: qcow2"):
        with_format(root="raw")
    with pytest.raises(SpecError, match="disks.scratch.format: found 'vmdk'; allowed: qcow2, raw"):
        with_format(scratch="vmdk")


def test_its_name_tells_the_format_and_is_ours() -> None:
    path = disk_path("/pool", "demo", "wn001", "scratch", "raw")
    assert path == "/pool/demo/wn001-scratch.raw"
    assert disk_name_of(path, "demo", "wn001") == "scratch"
    assert disk_name_of("/pool/demo/wn001-scratch.img", "demo", "wn001") is None


@pytest.mark.parametrize("dialect", [KVM, XEN])
@pytest.mark.parametrize("format_", ["qcow2", "raw"])
def test_the_domain_says_the_format_and_qemu_reads_it(dialect: Dialect, format_: str) -> None:
    driver = t.cast(ET.Element, dialect.disk("scratch", f"/pool/demo/wn001-scratch.{format_}", "x").find("driver"))
    assert (driver.get("name"), driver.get("type")) == ("qemu", format_)
    volume = target._volume("a", 1, format_)
    assert t.cast(ET.Element, volume.find("target/format")).get("type") == format_


def test_a_raw_disk_is_made_and_grown_and_what_is_in_it_is_not_asked(tmp_path: pathlib.Path) -> None:
    raw, other = str(tmp_path / "demo" / "wn1-a.raw"), str(tmp_path / "demo" / "wn1-b.qcow2")
    disks.create(other, MIB, None, "wn1")
    disks.create(raw, MIB, None, "wn1")
    assert read_header(raw) == Header(MIB, None) and os.stat(raw).st_size == MIB
    content = pathlib.Path(other).read_bytes()[:512]  # a guest writes a qcow2 header into its raw disk
    with open(raw, "r+b") as file:
        file.write(content)
    assert read_header(raw) == Header(MIB, None)
    disks.grow(raw, 2 * MIB, "wn1")
    assert os.stat(raw).st_size == 2 * MIB and pathlib.Path(raw).read_bytes()[:512] == content
    disks.grow(raw, MIB, "wn1")
    assert os.stat(raw).st_size == 2 * MIB, "never shrunk"


def test_a_disk_that_is_there_keeps_its_format(tmp_path: pathlib.Path) -> None:
    world = types.SimpleNamespace(platform=types.SimpleNamespace(dialect=KVM))
    plan = t.cast(t.Any, types.SimpleNamespace(error=DriverError, world=world))
    there = tmp_path / "wn1-a.qcow2"
    disk = DiskSpec("a", MIB, "local", format="raw")
    disks.refuse_format(plan, disk, str(there))
    there.touch()
    with pytest.raises(DriverError, match=r"disks.a.format: found 'raw', but .*wn1-a.qcow2 is there"):
        disks.refuse_format(plan, disk, str(there))
    disks.refuse_format(plan, DiskSpec("a", MIB, "local"), str(there))


@pytest.mark.parametrize("format_", ["qcow2", "raw"])
def test_an_external_snapshot_is_no_other_format(tmp_path: pathlib.Path, format_: str) -> None:
    """`virsh snapshot-create-as wn001 s1 --disk-only` puts wn001-a.s1, always qcow2, on wn001-a.<format>."""
    world = types.SimpleNamespace(platform=types.SimpleNamespace(dialect=KVM), pools={"local": str(tmp_path)})
    plan = t.cast(t.Any, types.SimpleNamespace(error=DriverError, world=world, difference=Difference("wn001")))
    below, active = str(tmp_path / "demo" / f"wn001-a.{format_}"), str(tmp_path / "demo" / "wn001-a.s1")
    disks.create(below, MIB, None, "wn001")
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", format_, active]
    subprocess.run(make, check=True, timeout=60)
    there = Disk("vdb", "disk", active, "a", readonly=False, shareable=False)
    storage._plan_existing(plan, DiskSpec("a", MIB, "local", format=format_), there)
    assert not plan.difference.changed
