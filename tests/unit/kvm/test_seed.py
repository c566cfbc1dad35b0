# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._seed import (
    KeyPair,
    documents,
    merged,
    network_config,
    refuse,
    user_data,
)
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec, SeedSpec
from kvm_plain import UUID, plain

KEY = KeyPair("PRIVATE", "ssh-ed25519 PUBLIC")


def seeded(cloud_init: dict[str, t.Any]) -> GuestSpec:
    return GuestSpec.from_plain(plain(seed={"hostname": "wn001", "cloud_init": cloud_init}))


def test_the_files_are_what_nocloud_reads(spec: GuestSpec) -> None:
    files = documents(spec, t.cast(SeedSpec, spec.seed), KEY)
    assert set(files) == {"meta-data", "user-data", "network-config"}
    assert json.loads(files["meta-data"]) == {"instance-id": UUID, "local-hostname": "wn001.cluster.example"}
    head, _newline, body = files["user-data"].partition("\n")
    assert head == "#cloud-config"
    assert json.loads(body)["hostname"] == "wn001"
    assert json.loads(body)["fqdn"] == "wn001.cluster.example"


def test_the_host_key_is_the_only_one(spec: GuestSpec) -> None:
    data = user_data(spec, t.cast(SeedSpec, spec.seed), KEY)
    assert data["ssh_keys"] == {"ed25519_private": "PRIVATE", "ed25519_public": "ssh-ed25519 PUBLIC root@wn001"}
    assert data["ssh_deletekeys"] is True
    assert (data["disable_root"], data["ssh_pwauth"], data["locale"]) == (False, False, False)
    assert data["ssh_authorized_keys"] == ["ssh-ed25519 AAAA admin"]


@pytest.mark.parametrize("key", ["ssh_keys", "ssh_deletekeys", "ssh_genkeytypes"])
def test_a_definition_cannot_change_the_host_key(key: str) -> None:
    with pytest.raises(DriverError, match=f"wn001: cloud_init.{key}"):
        refuse(seeded({key: {}}))


def test_the_definitions_cloud_init_is_merged() -> None:
    spec = seeded(
        {"ssh_authorized_keys": ["another"], "growpart": {"mode": "off"}, "runcmd": [["true"]], "locale": "C"}
    )
    data = user_data(spec, SeedSpec("wn001", ("first",), t.cast(SeedSpec, spec.seed).cloud_init), KEY)
    assert data["ssh_authorized_keys"] == ["first", "another"]
    assert data["growpart"] == {"mode": "off", "devices": ["/"], "ignore_growroot_disabled": False}
    assert (data["runcmd"], data["locale"]) == ([["true"]], "C")


def test_merging() -> None:
    assert merged({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [2], "d": 3}}) == {"a": {"b": 2, "c": [1, 2], "d": 3}}


def test_nics_are_found_by_mac_and_nothing_waits_for_what_nobody_sends(spec: GuestSpec) -> None:
    config = network_config(spec.nics)
    assert config["version"] == 2
    first, second = config["ethernets"]["eth0"], config["ethernets"]["eth1"]
    assert (first["match"], first["set-name"]) == ({"macaddress": "52:54:00:00:00:01"}, "eth0")
    assert first["addresses"] == ["10.0.4.21/22", "fd12:3456::15/64"]
    assert first["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.4.1"}, {"to": "::/0", "via": "fd12:3456::1"}]
    assert (first["nameservers"], first["mtu"]) == ({"addresses": ["10.0.4.2"]}, 9000)
    assert "link-local" not in first
    assert second["link-local"] == []
    assert not {"routes", "nameservers", "mtu"} & set(second)
    assert all(nic["accept-ra"] is False and nic["dhcp4"] is False for nic in (first, second))


def test_a_guest_goes_on_trusting_its_seed_when_the_seed_is_gone(spec: GuestSpec) -> None:
    """Without it cloud-init asked DHCP for an address at the first boot after the first contact (seen under Xen)."""
    data = user_data(spec, t.cast(SeedSpec, spec.seed), KEY)
    (kept,) = data["write_files"]
    assert kept["path"].startswith("/etc/cloud/cloud.cfg.d/")
    assert kept["content"] == "manual_cache_clean: true\n"
    theirs = seeded({"write_files": [{"path": "/etc/motd", "content": "hello"}]})
    both = user_data(theirs, t.cast(SeedSpec, theirs.seed), KEY)["write_files"]
    assert [entry["path"] for entry in both] == [kept["path"], "/etc/motd"]
