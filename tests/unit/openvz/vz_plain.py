# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest as plain data, for the tests of the OpenVZ driver."""

from __future__ import annotations

import copy
import typing as t

MIB = 2**20
UUID = "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11"

PLAIN: dict[str, t.Any] = {
    "cluster": "demo",
    "name": "wn001",
    "uuid": UUID,
    "partition": "workers",
    "epoch": 1,
    "hypervisor": "openvz",
    "state": "running",
    "vcpus": 2,
    "memory": 512 * MIB,
    "disks": [{"name": "root", "size": 3072 * MIB, "pool": "local"}],
    "nics": [
        {
            "name": "eth0",
            "network": "compute",
            "mac": "52:54:00:00:00:01",
            "bridge": "br0",
            "addresses": ["10.0.4.21/22"],
            "gateways": ["10.0.4.1"],
            "nameservers": ["10.0.4.2"],
        }
    ],
    "seed": {"hostname": "wn001.cluster.example", "authorized_keys": ["ssh-ed25519 AAAA admin"]},
}


def plain(**changes: t.Any) -> dict[str, t.Any]:
    return {**copy.deepcopy(PLAIN), **changes}
