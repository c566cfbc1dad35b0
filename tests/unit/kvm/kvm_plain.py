# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest as plain data, for the tests of the KVM driver."""

from __future__ import annotations

import contextlib
import copy
import typing as t

import libvirt

MIB = 2**20
UUID = "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11"

PLAIN: dict[str, t.Any] = {
    "cluster": "demo",
    "name": "wn001",
    "uuid": UUID,
    "partition": "workers",
    "epoch": 1,
    "hypervisor": "kvm",
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
            "addresses": ["10.0.4.21/22", "fd12:3456::15/64"],
            "gateways": ["10.0.4.1", "fd12:3456::1"],
            "nameservers": ["10.0.4.2"],
            "mtu": 9000,
        },
        {
            "name": "eth1",
            "network": "storage",
            "mac": "52:54:00:00:00:02",
            "bridge": "br1",
            "addresses": ["10.1.0.21/24"],
        },
    ],
    "seed": {"hostname": "wn001.cluster.example", "authorized_keys": ["ssh-ed25519 AAAA admin"]},
}


def plain(**changes: t.Any) -> dict[str, t.Any]:
    return {**copy.deepcopy(PLAIN), **changes}


def clear(connection: libvirt.virConnect) -> None:
    """libvirt's simulator begins with a guest, and lives as long as the process has a connection to it."""
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        with contextlib.suppress(libvirt.libvirtError):  # a transient one is gone by now
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
