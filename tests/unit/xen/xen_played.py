# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Xen HostOS, played: what `xl info` said on Debian 12's Xen 4.17 under QEMU's TCG, and one guest as plain data."""

from __future__ import annotations

import copy
import typing as t

MIB = 2**20
UUID = "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11"
INFO = """\
host                   : node21
release                : 6.1.0-56-amd64
nr_cpus                : 1
virt_caps              : pv hvm hap gnttab-v1 gnttab-v2
total_memory           : 2559
free_memory            : 1890
xen_version            : 4.17.7
xen_caps               : xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64
xen_commandline        : placeholder dom0_mem=640M,max:640M dom0_max_vcpus=1
"""
PATHS = {"root": "/pool/demo/wn001-root.qcow2", "scratch": "/pool/demo/wn001-scratch.qcow2"}
SEED = "/pool/demo/wn001-seed.iso"

PLAIN: dict[str, t.Any] = {
    "cluster": "demo",
    "name": "wn001",
    "uuid": UUID,
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
        {
            "name": "eth0",
            "network": "compute",
            "mac": "52:54:00:00:00:01",
            "bridge": "br0",
            "addresses": ["10.0.4.21/22"],
            "mtu": 9000,
        },
        {"name": "eth1", "network": "storage", "mac": "52:54:00:00:00:02", "bridge": "br1", "addresses": []},
    ],
    "seed": {"hostname": "wn001", "authorized_keys": ["ssh-ed25519 AAAA admin"]},
}


def plain(**changes: t.Any) -> dict[str, t.Any]:
    return {**copy.deepcopy(PLAIN), **changes}


class PlayedConnection:
    def getType(self) -> str:  # noqa: N802 (libvirt's name)
        return "Xen"
