# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Xen driver renders, by libvirt's own `virt-xml-validate` (packages libvirt-clients and libxml2-utils)."""

from __future__ import annotations

import pathlib
import subprocess
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _xen_xml
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import mark_of_spec
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import Boot
from ansible_collections.oscarv.virt.plugins.module_utils._spec import XEN_TYPES, GuestSpec

MIB = 2**20
SPEC = GuestSpec.from_plain(
    {
        "cluster": "demo",
        "name": "wn001",
        "uuid": "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11",
        "partition": "workers",
        "epoch": 1,
        "hypervisor": "xen",
        "state": "running",
        "vcpus": 2,
        "memory": 512 * MIB,
        "disks": [
            {"name": "root", "size": 4096 * MIB, "pool": "local", "build_id": "ab" * 32},
            {"name": "scratch", "size": 100 * MIB, "pool": "local"},
        ],
        "nics": [
            {"name": "eth0", "network": "a", "mac": "52:54:00:00:00:01", "bridge": "br0", "mtu": 9000},
            {"name": "eth1", "network": "b", "mac": "52:54:00:00:00:02", "bridge": "br1"},
        ],
    }
)
PATHS = {disk.name: f"/pool/demo/wn001-{disk.name}.qcow2" for disk in SPEC.disks}


def validate(path: pathlib.Path, domain: ET.Element) -> subprocess.CompletedProcess[str]:
    ET.ElementTree(domain).write(path)
    return subprocess.run(["virt-xml-validate", str(path), "domain"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seed", [None, "/pool/demo/wn001-seed.iso"])
@pytest.mark.parametrize("xen_type", XEN_TYPES)
def test_every_type_is_valid(tmp_path: pathlib.Path, xen_type: str, seed: str | None) -> None:
    mark = mark_of_spec(SPEC, build_id=SPEC.root.build_id, host_key="ssh-ed25519 AAAA")
    domain = _xen_xml.domain(SPEC, xen_type=xen_type, disks=PATHS, seed=seed, mark=mark)
    done = validate(tmp_path / "wn001.xml", domain)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("xen_type", ["pv", "pvh"])
def test_the_kernel_of_a_build_and_a_raw_disk_are_valid(tmp_path: pathlib.Path, xen_type: str) -> None:
    mark = mark_of_spec(SPEC, build_id=SPEC.root.build_id, host_key="ssh-ed25519 AAAA")
    boot = Boot("/pool/builds/1.vmlinuz", "/pool/builds/1.initrd.img", "root=UUID=1 ro console=hvc0")
    disks = {**PATHS, "scratch": "/pool/demo/wn001-scratch.raw"}
    domain = _xen_xml.domain(SPEC, xen_type=xen_type, disks=disks, seed=None, mark=mark, boot=boot)
    done = validate(tmp_path / "wn001.xml", domain)
    assert done.returncode == 0, done.stderr


def test_the_tool_sees_what_is_wrong(tmp_path: pathlib.Path) -> None:
    mark = mark_of_spec(SPEC, build_id=None, host_key=None)
    domain = _xen_xml.domain(SPEC, xen_type="pvh", disks=PATHS, seed=None, mark=mark)
    ET.SubElement(domain, "vcpus").text = "2"
    done = validate(tmp_path / "wn001.xml", domain)
    assert done.returncode != 0 and "fails to validate" in done.stderr
