# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a HostOS is, measured on this machine; and whether its KVM works, tried on a real QEMU."""

from __future__ import annotations

import os
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _hostos
from ansible_collections.oscarv.virt.plugins.module_utils._driver import CAPABILITIES
from run_module import run_module

if t.TYPE_CHECKING:
    from conftest import HostOS

GIB = 2**30


def measure(host: HostOS, **options: t.Any) -> dict[str, t.Any]:
    arguments = {"uri": host.daemon.qemu_uri, "state_dir": str(host.state_dir), **options}
    checked, done = run_module("hostos_info", arguments, check=True), run_module("hostos_info", arguments)
    assert checked == done
    assert done["changed"] is False
    return done


def test_a_hostos_is_measured(host: HostOS) -> None:
    found = measure(host)["hostos"]
    assert found["hypervisor"] == "kvm"
    assert found["capacity"]["vcpus"] == os.cpu_count()
    assert found["capacity"]["memory"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    space = os.statvfs(host.pool)
    assert abs(found["capacity"]["disk"] - space.f_bavail * space.f_frsize) < 2 * GIB
    assert found["capacity"]["disk"] % GIB == 0
    assert found["pools"] == {"local": str(host.pool)}
    assert set(found["capabilities"]) == set(CAPABILITIES)
    assert all(one == {"supported": True, "reason": ""} for one in found["capabilities"].values())
    assert found["versions"]["kernel"] == os.uname().release
    assert all(part.isdigit() for part in found["versions"]["qemu"].split("."))


def test_only_what_is_not_ours_is_foreign(host: HostOS) -> None:
    host.guest([host.spec()])
    xml = "<domain type='qemu'><name>x</name><memory unit='MiB'>96</memory><vcpu>3</vcpu>{}</domain>"
    with host.libvirt() as connection:
        connection.defineXML(xml.format("<os><type>hvm</type></os>"))
    assert measure(host)["hostos"]["foreign"] == {"guests": 1, "vcpus": 3, "memory": 96 * 2**20, "disk": 0}
    other = measure(host, cluster="another")["hostos"]["foreign"]
    assert other == {"guests": 2, "vcpus": 4, "memory": 160 * 2**20, "disk": 32 * 2**20}


def test_a_baseline_is_what_a_guest_can_be_started_with(host: HostOS) -> None:
    cpu = measure(host)["hostos"]["cpu"]
    both = measure(host, baseline_of=[cpu["xml"], cpu["xml"]])["baseline"]
    assert both["model"] == cpu["model"]
    done = host.guest([host.spec(state="running", cpu={"model": both["model"], "features": both["features"]})])
    assert done["guests"]["wn001"]["state"] == "running", done
    spec = host.spec(state="running", cpu={"model": both["model"], "features": both["features"]})
    assert not host.guest([spec])["changed"]


def test_a_machine_without_a_hypervisor_says_what_is_missing(host: HostOS) -> None:
    nowhere = {"uri": "qemu+unix:///system?socket=/nowhere", "state_dir": str(host.state_dir)}
    found = run_module("hostos_info", nowhere)["hostos"]
    assert found["hypervisor"] is None
    assert "cannot connect to libvirt at qemu+unix:///system?socket=/nowhere" in found["hypervisor_reason"]
    assert found["capacity"]["vcpus"] == os.cpu_count()
    assert not any(one["supported"] for one in found["capabilities"].values())
    failed = run_module("hostos_info", {**nowhere, "baseline_of": ["<cpu/>"]})
    assert failed["failed"]
    assert "baseline_of needs a hypervisor" in failed["msg"]


def test_another_hypervisor_is_not_taken_for_kvm(host: HostOS) -> None:
    """The simulator can be used, and says what it cannot do."""
    found = run_module("hostos_info", {"uri": host.daemon.test_uri, "state_dir": str(host.state_dir)})["hostos"]
    assert found["acceleration"] == "none"
    assert "simulator" in found["capabilities"]["live_move"]["reason"]
    assert found["capabilities"]["define"]["supported"]


def test_a_probe_tells_a_guest_that_runs_from_one_that_does_not() -> None:
    qemu = _hostos.qemu_binary()
    assert qemu is not None
    assert _hostos.probe(qemu, "tcg") is True
    assert _hostos.probe(qemu, "no-such-accelerator") is False
    assert _hostos.probe("/bin/true", "tcg") is False
    assert _hostos.probe(qemu, "tcg", seconds=0.0) is False


@pytest.mark.parametrize(
    ("flags", "device", "probe_says", "kind", "words"),
    [
        ("fpu vmx", True, None, "kvm", "flags are there"),
        ("fpu svm", True, None, "kvm", "flags are there"),
        ("fpu", True, None, "tcg", "neither vmx nor svm: it only pretends"),
        ("fpu vmx", False, None, "tcg", "there is no "),
        ("fpu vmx hypervisor", True, True, "kvm", "a probe started a guest"),
        ("fpu vmx hypervisor", True, False, "tcg", "does not run: it only pretends"),
    ],
)
def test_what_decides_about_acceleration(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: t.Any,
    flags: str,
    device: bool,
    probe_says: bool | None,
    kind: str,
    words: str,
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    if device:
        (tmp_path / "kvm").touch()
    monkeypatch.setattr(_hostos, "CPUINFO", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(_hostos, "KVM_DEVICE", str(tmp_path / "kvm"))
    probes: list[str] = []

    def probe(qemu: str) -> bool:
        probes.append(qemu)
        assert probe_says is not None, "no probe was needed"
        return probe_says

    monkeypatch.setattr(_hostos, "probe", probe)
    for _again in range(2):
        found = _hostos.acceleration(str(tmp_path))
        assert found.kind == kind
        assert words in found.reason
    assert len(probes) == (probe_says is not None), "the answer is kept until the next boot"
