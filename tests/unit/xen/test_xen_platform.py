# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xen can do is read from the hypervisor, and refused with its reason before anything changes."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _xen_platform as module
from ansible_collections.oscarv.virt.plugins.module_utils import _xen_xml
from ansible_collections.oscarv.virt.plugins.module_utils._driver import CAPABILITIES, DriverError, Unsupported
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_capabilities import capabilities
from ansible_collections.oscarv.virt.plugins.module_utils._qcow2 import ZLIB, ZSTD, read_header
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._xen_platform import XenPlatform, missing_for, parse_info
from xen_played import INFO, plain


def spec(**changes: t.Any) -> GuestSpec:
    return GuestSpec.from_plain(plain(**changes))


def with_caps(platform: XenPlatform, caps: str) -> XenPlatform:
    platform.info = parse_info(f"virt_caps : {caps}\n")
    return platform


def test_what_xl_says_is_understood() -> None:
    info = parse_info(INFO)
    assert info.caps >= {"pv", "hvm", "hap"} and "shadow" not in info.caps
    assert (info.processors, info.memory) == (1, 2559 * 2**20)


@pytest.mark.parametrize(("caps", "wanted"), [("pv hvm hap", "pvh"), ("pv hvm", "pv"), ("pv", "pv")])
def test_pvh_is_the_default_where_the_cpu_pages_for_guests(platform: XenPlatform, caps: str, wanted: str) -> None:
    assert with_caps(platform, caps).type_for(spec()) == wanted
    assert platform.type_for(spec(xen_type="hvm")) == "hvm"


@pytest.mark.parametrize("xen_type", [None, "pv", "pvh", "hvm"])
def test_a_host_with_hap_runs_every_type(platform: XenPlatform, xen_type: str | None) -> None:
    platform.refuse(spec(xen_type=xen_type))


@pytest.mark.parametrize(
    ("caps", "changes", "words"),
    [
        ("pv", {"xen_type": "pvh"}, "xen_type: found 'pvh'; Xen here has pv,"),
        ("pv hvm", {"xen_type": "hvm"}, "needs hvm with hap or shadow"),
        ("hvm hap", {"xen_type": "pv"}, "xen_type: found 'pv'"),
        ("pv hvm hap", {"firmware": "uefi"}, "capability 'uefi' is missing; kvm has it"),
        ("pv hvm hap", {"cpu": {"model": "host-model"}}, "cpu.model: found 'host-model'"),
        ("pv hvm hap", {"hypervisor": "kvm"}, "hypervisor 'kvm' was asked of the xen driver"),
    ],
)
def test_what_it_cannot_run_is_refused(platform: XenPlatform, caps: str, changes: dict[str, t.Any], words: str) -> None:
    with pytest.raises(Unsupported, match=f"guest wn001: .*{words}"):
        with_caps(platform, caps).refuse(spec(**changes))


def test_without_grub_for_guests_nothing_is_defined(platform: XenPlatform) -> None:
    pathlib.Path(_xen_xml.GRUB["pvh"]).unlink()
    with pytest.raises(Unsupported, match="is missing: install grub-xen-host"):
        platform.refuse(spec())


@pytest.mark.parametrize(
    ("caps", "xen_type", "live"),
    [
        ("pv hvm hap", "pv", False),
        ("pv hvm hap shadow", "pv", True),
        ("pv hvm hap", "pvh", True),
        ("pv hvm hap", "hvm", True),
    ],
)
def test_pv_guests_move_live_only_with_shadow_paging(caps: str, xen_type: str, live: bool) -> None:
    missing = missing_for(xen_type, caps.split())
    assert ("live_move" not in missing) == live
    assert live or "built without shadow paging" in missing["live_move"]
    assert "libxl copies no disks" in missing["live_move_local_disk"]


def test_the_matrix_answers_for_every_capability(platform: XenPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = platform.info.caps
    monkeypatch.setattr(module, "HYPERVISOR_TYPE", str(pathlib.Path(_xen_xml.GRUB["pv"]).with_name("type")))
    pathlib.Path(module.HYPERVISOR_TYPE).write_text("xen\n", encoding="ascii")
    found = capabilities(platform)
    assert set(found) == set(CAPABILITIES)
    assert found["live_move"].supported and not found["live_disk_growth"].supported
    assert all(one.supported or one.reason for one in found.values())
    assert "hap" in kind


def test_a_machine_that_did_not_boot_into_xen_can_do_nothing(
    platform: XenPlatform, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(module, "HYPERVISOR_TYPE", str(tmp_path / "none"))
    found = capabilities(platform)
    assert not any(one.supported for one in found.values())
    with pytest.raises(DriverError, match="did not boot into Xen: run oscarv.virt.hostos"):
        platform.require()


@pytest.mark.parametrize(("compression", "number"), [("zlib", ZLIB), ("zstd", ZSTD)])
def test_builds_that_xens_qemu_cannot_read_are_refused(
    platform: XenPlatform, tmp_path: pathlib.Path, compression: str, number: int
) -> None:
    """Debian builds qemu-system-xen without zstd: the guest would hang in GRUB, without a disk."""
    path = str(tmp_path / "build.qcow2")
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"compression_type={compression}", path, "1M"], check=True
    )
    header = read_header(path)
    assert header is not None and header.compression == number
    if compression == "zlib":
        platform.refuse_build("wn001", path)
        return
    with pytest.raises(DriverError, match="compressed with zstd.*say compression: zlib"):
        platform.refuse_build("wn001", path)


def test_what_a_running_guest_cannot_have_is_refused(platform: XenPlatform) -> None:
    with pytest.raises(Unsupported, match="cannot grow disk root while it runs: .*live_disk_growth.*stop it first"):
        platform.refuse_live("live_disk_growth", "wn001", "grow disk root")
    platform.refuse_live("live_nic", "wn001", "plug a NIC")
