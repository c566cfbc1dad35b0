# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a reboot is needed, and what GRUB would boot, as role hostos_xen reads it from the machine."""

from __future__ import annotations

import importlib.util
import pathlib
import typing as t

import pytest

PATH = pathlib.Path(__file__).resolve().parents[3] / "roles/hostos_xen/files/look.py"
#: As Debian's update-grub writes it with and without Xen.
MENU = 'if [ "${{next_entry}}" ] ; then\n   set default="${{next_entry}}"\nelse\n   set default="{}"\nfi\n'


@pytest.fixture(scope="module")
def look() -> t.Any:
    spec = importlib.util.spec_from_file_location("hostos_xen_look", PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("running", "holds"),
    [
        ("placeholder dom0_mem=640M,max:640M dom0_max_vcpus=1", True),
        ("dom0_mem=640M,max:640M dom0_max_vcpus=1", True),
        ("placeholder dom0_mem=640M,max:640M", False),
        ("placeholder dom0_mem=640M,max:640M dom0_max_vcpus=1 iommu=off", False),
        ("placeholder dom0_mem=6400M,max:640M dom0_max_vcpus=1", False),
        ("", False),
    ],
)
def test_a_reboot_is_needed_for_other_arguments_only(look: t.Any, running: str, holds: bool) -> None:
    assert look.holds("dom0_mem=640M,max:640M dom0_max_vcpus=1", running) is holds


@pytest.mark.parametrize(
    ("default", "xen"),
    [("Debian GNU/Linux, with Xen hypervisor", True), ("Debian GNU/Linux", False), ("0", False)],
)
def test_the_default_of_the_menu_is_read(look: t.Any, default: str, xen: bool) -> None:
    assert look.menu_boots_xen(MENU.format(default)) is xen
    assert look.menu_boots_xen("") is False


def test_the_menu_tells_what_the_hypervisor_will_be_started_with(look: t.Any) -> None:
    entry = "\tmultiboot2\t/boot/xen-4.17-amd64.gz placeholder  {} ${{xen_rm_opts}}\n"
    recovery = entry.format("")
    menu = entry.format("dom0_mem=640M,max:640M dom0_max_vcpus=1") + recovery
    assert look.menu_arguments(menu) == "dom0_mem=640M,max:640M dom0_max_vcpus=1"
    assert look.menu_arguments(recovery) == look.menu_arguments("") == ""


def test_the_kernel_for_clouds_cannot_be_dom0(look: t.Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "config-6.1.0-56-cloud-amd64").write_text("CONFIG_XEN=y\n# CONFIG_XEN_DOM0 is not set\n")
    assert look.dom0_kernels(str(tmp_path)) == []
    (tmp_path / "config-6.1.0-56-amd64").write_text("CONFIG_XEN=y\nCONFIG_XEN_DOM0=y\n")
    assert look.dom0_kernels(str(tmp_path)) == ["6.1.0-56-amd64"]


def test_dom0_and_dying_domains_are_no_guests(look: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["Name ID Mem VCPUs State Time(s)", "Domain-0 0 640 1 r----- 203.5", "wn1 3 320 1 -b---- 1.0"]
    rows.append("(null) 2 0 1 --p--d 9")
    listing = "\n".join(rows)
    monkeypatch.setattr(look, "output", lambda *_command: listing)
    assert look.guests() == ["wn1"]
