# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._difference import RESTART, Difference
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec, SpecError

PLAIN: dict[str, t.Any] = {
    "cluster": "demo",
    "name": "wn001",
    "uuid": "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11",
    "partition": "workers",
    "epoch": 1,
    "hypervisor": "kvm",
    "state": "running",
    "vcpus": 1,
    "memory": 512 * 2**20,
    "disks": [{"name": "root", "size": 4 * 2**30, "pool": "local", "build_id": "ab" * 32}],
    "nics": [
        {
            "name": "eth0",
            "network": "compute",
            "mac": "52:54:00:00:00:01",
            "bridge": "br0",
            "addresses": ["10.0.0.1/24"],
            "gateways": ["10.0.0.254"],
            "mtu": 1500,
        }
    ],
    "cpu": {"model": "qemu64", "features": {"ssse3": "require"}},
    "seed": {"hostname": "wn001", "authorized_keys": ["ssh-ed25519 AAAA"], "cloud_init": {"runcmd": [["true"]]}},
}


def test_round_trip_through_json() -> None:
    spec = GuestSpec.from_plain(PLAIN)
    again = GuestSpec.from_plain(json.loads(json.dumps(spec.to_plain())))
    assert again == spec
    assert spec.root.build_id == "ab" * 32
    assert spec.nics[0].mtu == 1500
    assert spec.autostart is True


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("memory",), "512", ["wn001", "memory", "int"]),
        (("memory",), 512, ["wn001", "memory", "16 MiB"]),
        (("vcpus",), True, ["wn001", "vcpus", "True"]),
        (("name",), "Wn 1", ["name", "Wn 1", "DNS"]),
        (("name",), "../etc", ["name"]),
        (("state",), "up", ["state", "up", "running, paused"]),
        (("disks",), [], ["disks", "root"]),
        (("disks", 0, "build_id"), "latest", ["root", "build_id", "64"]),
        (("nics", 0, "mac"), "52:54:00:00:00:0G", ["eth0", "mac"]),
        (("nics", 0, "bridge"), "br0/../../x", ["eth0", "bridge"]),
        (("nics", 0, "addresses"), ["10.0.0.1"], ["eth0", "ADDRESS/PREFIX"]),
        (("colour",), "red", ["wn001", "unknown key 'colour'"]),
        (("nics", 0, "speed"), 1, ["nics[0]", "unknown key 'speed'"]),
        (("uuid",), "abc", ["uuid", "abc"]),
        (("epoch",), 0, ["epoch"]),
    ],
)
def test_bad_spec_names_guest_key_and_what_is_allowed(path: tuple[t.Any, ...], value: t.Any, words: list[str]) -> None:
    plain = copy.deepcopy(PLAIN)
    target = plain
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(SpecError) as caught:
        GuestSpec.from_plain(plain)
    for word in words:
        assert word in str(caught.value)


def test_missing_key_is_named() -> None:
    plain = copy.deepcopy(PLAIN)
    del plain["uuid"]
    with pytest.raises(SpecError, match="wn001: key 'uuid' is missing"):
        GuestSpec.from_plain(plain)


def test_difference_decides_changed_restart_and_diff() -> None:
    difference = Difference("wn001")
    assert not difference.compare("vcpus", 1, 1)
    assert not difference.changed
    assert difference.compare("vcpus", 1, 2)
    assert difference.compare("cpu", "qemu64", "host-model", effect=RESTART)
    assert difference.compare("seed", {"password": "old"}, {"password": "new"}, secret=True)
    assert difference.changed
    assert difference.restart_keys == ("cpu",)
    shown = difference.before_after()
    assert json.loads(shown["before"])["vcpus"] == 1
    assert json.loads(shown["after"])["vcpus"] == 2
    assert "password" not in shown["before"] + shown["after"]
    assert json.loads(shown["before"])["seed"] != json.loads(shown["after"])["seed"]
