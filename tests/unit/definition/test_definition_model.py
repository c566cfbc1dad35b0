# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a good definition becomes."""

from __future__ import annotations

import ipaddress
import pathlib

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import DefinitionErrors, load
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition_networks import free_count
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition_vault import VaultError, reveal
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Resources, Vaulted
from definer import GOOD, KEY, Definer

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_example_of_the_documentation() -> None:
    cluster = load(str(ROOT / "inventories/example/example.oscarv.yml"))
    assert (cluster.name, len(cluster.hosts), len(cluster.guests)) == ("tcd", 32, 166)
    assert cluster.definition == str(ROOT / "inventories/example/example.oscarv.yml")
    assert cluster.files[1].endswith("parts/login.oscarv-part.yml")
    assert cluster.hosts["node17"].enclosures == (("rack", "rack2"), ("room", "room1"))
    assert cluster.host_partitions["kvmhosts"].capacity == Resources(32, 64 * 2**30, 2**40)
    assert cluster.host_partitions["kvmhosts"].overcommit_vcpus == 4
    assert cluster.host_partitions["kvmhosts"].reserve == Resources(0, 2 * 2**30, 0)
    assert cluster.host_partitions["xenhosts"].capacity is None
    assert cluster.networks["compute"].device == "br0v12"
    assert cluster.networks["compute"].gateway == (ipaddress.ip_address("10.0.4.1"),)
    assert cluster.guests["wn002"].memory == 4 * 2**30
    worker = cluster.guests["wn001"]
    assert worker.memory == 8 * 2**30
    assert worker.networks[0].mac == "52:54:00:00:00:77"
    assert [(disk.name, disk.pool, disk.shared) for disk in worker.disks] == [
        ("root", "local", False),
        ("scratch", "san", True),
    ]
    assert worker.demand == Resources(2, 8 * 2**30, 20 * 2**30), "a shared disk takes nothing from a host"
    assert [(rule.kind, rule.guests, rule.over, rule.hosts) for rule in cluster.rules] == [
        ("apart", ("wn001", "wn017"), "host", ()),
        ("together", ("wn002", "wn003"), "rack", ()),
        ("pin", ("wn004",), "host", ("node01", "node02")),
        ("apart", ("login1", "login2"), "rack", ()),
    ]
    assert cluster.images["rocky9"].builder == "import"
    assert cluster.images["debian-worker"].options["packages"] == ["openmpi-bin", "slurmd"]
    assert (cluster.max_release, cluster.quarantine) == (0.1, 3600)


def test_what_is_left_out(define: Definer) -> None:
    text = GOOD.replace('pools:\n  local: {type: dir}\n  san: {type: nfs, source: "nas:/export"}\n', "")
    cluster = define.load(text)
    assert [(pool.name, pool.type, pool.path) for pool in cluster.pools.values()] == [
        ("local", "dir", "/var/lib/oscarv")
    ]
    guest = cluster.guests["wn02"]
    assert (guest.state, guest.cpu_model, guest.firmware, guest.autostart) == ("running", "default", "bios", True)
    assert (guest.cloud_init, guest.renamed_from, guest.authorized_keys) == ({}, None, (KEY,))
    assert cluster.ledger == "sqlite:///.oscarv/ledger.sqlite"
    partition = cluster.guest_partitions["workers"]
    assert partition.spread is not None
    assert (partition.spread.level, partition.spread.soft, partition.roles) == ("rack", False, ())


def test_everything_that_can_be_said_of_a_guest(define: Definer) -> None:
    text = GOOD.replace(
        "      wn01: {memory: 8 GiB}\n",
        """\
      "wn[01:02]":
        state: stopped
        vcpus: 3
        disk: 500 MB
        disks: [{name: a, size: 1.5 GiB}, {name: b, size: 1 TB, pool: san}]
        cpu_model: host-passthrough
        firmware: uefi
        autostart: false
        on: kvmhosts
        authorized_keys: []
        cloud_init: {timezone: Europe/Dublin, ssh_pwauth: no, 'on': [1, 2.5, null]}
      wn01:
        renamed_from: old01
        networks:
          - store
          - {name: compute, ip: [10.0.4.77, "fd12:3456::77"], mac: 52-54-00-AB-00-07}
""",
    )
    guest = define.load(text).guests["wn01"]
    assert (guest.state, guest.vcpus, guest.cpu_model, guest.firmware, guest.autostart, guest.on) == (
        "stopped",
        3,
        "host-passthrough",
        "uefi",
        False,
        ("kvmhosts",),
    )
    assert [(disk.name, disk.size, disk.pool) for disk in guest.disks] == [
        ("root", 477 * 2**20, "local"),
        ("a", 1536 * 2**20, "local"),
        ("b", 953675 * 2**20, "san"),
    ], "sizes are rounded up to whole MiB"
    assert guest.authorized_keys == ()
    assert guest.cloud_init == {"timezone": "Europe/Dublin", "ssh_pwauth": False, "on": [1, 2.5, None]}
    assert guest.renamed_from == "old01"
    assert [nic.network for nic in guest.networks] == ["store", "compute"]
    assert [str(address) for address in guest.networks[1].ip] == ["10.0.4.77", "fd12:3456::77"]
    assert guest.networks[1].mac == "52:54:00:ab:00:07"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"wn[01:03]"', ["wn01", "wn02", "wn03"]),
        ('"wn[1:3]"', ["wn1", "wn2", "wn3"]),
        ('"wn[1:9:4]"', ["wn1", "wn5", "wn9"]),
        ('"wn[098:101]"', ["wn098", "wn099", "wn100", "wn101"]),
        ('"r[1:2]n[01:02]"', ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ('"a,b[1:2,7] , c"', ["a", "b1", "b2", "b7", "c"]),
        ('[z, "a[1:2]"]', ["z", "a1", "a2"]),
    ],
)
def test_ranges_keep_the_order_in_which_they_are_written(define: Definer, text: str, names: list[str]) -> None:
    body = GOOD.replace('members: "wn[01:20]"', f"members: {text}")
    body = body.replace("      wn01: {memory: 8 GiB}\n", f"      {names[0]}: {{}}\n")
    body = body[: body.index("rules:")] + body[body.index("images:") :]
    assert list(define.load(body).guests) == names


def test_anchors_and_merge_keys(define: Definer) -> None:
    text = GOOD.replace("  workers:\n", "  workers: &w\n") + ""
    text = text.replace("rules:\n", "  more: {<<: *w, members: x1, override: {}, vcpus: 7}\nrules:\n")
    cluster = define.load(text)
    assert (cluster.guests["x1"].vcpus, cluster.guests["x1"].memory) == (7, 4 * 2**30)


def test_key_files_are_read_relative_to_the_file_that_names_them(define: Definer) -> None:
    key_file = define.write(f"# mine\n{KEY}\n\n{KEY} second\n", "parts/me.pub")
    define.write(
        "partitions:\n  more: {image: base, members: x1, on: kvmhosts, vcpus: 1, memory: 1 GiB, disk: 1 GiB,"
        " authorized_keys: [me.pub]}\n",
        "parts/a.oscarv-part.yml",
    )
    cluster = define.load(GOOD.replace("networks:\n", "include: parts/a.oscarv-part.yml\nnetworks:\n", 1))
    assert cluster.guests["x1"].authorized_keys == (KEY, f"{KEY} second")
    assert key_file in cluster.files


def test_vaulted_values_stay_closed_until_a_spec_is_made(define: Definer) -> None:
    text = GOOD.replace(
        "    vcpus: 2\n",
        """\
    vcpus: 2
    cloud_init:
      users:
        - name: me
          passwd: !vault |
            $ANSIBLE_VAULT;1.1;AES256
            6162
          shell: !unsafe "{{ not a template }}"
""",
    )
    data = define.load(text).guests["wn05"].cloud_init
    closed = data["users"][0]["passwd"]
    assert closed == Vaulted("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    opened = reveal(data, lambda text: text.splitlines()[1].encode())
    assert opened == {"users": [{"name": "me", "passwd": "6162", "shell": "{{ not a template }}"}]}
    assert data["users"][0]["passwd"] is closed, "the model is not changed"

    def fail(_text: str) -> bytes:
        raise RuntimeError("no secret")

    with pytest.raises(VaultError, match=r"cloud_init\.users\[0\]\.passwd: cannot be decrypted: RuntimeError: no sec"):
        reveal(data, fail)


def test_a_real_vault_opens_it(define: Definer) -> None:
    from ansible.parsing.vault import VaultLib, VaultSecret

    vault = VaultLib([("default", VaultSecret(b"correct horse"))])
    closed = vault.encrypt("battery staple").decode()
    body = "".join(f"        {line}\n" for line in closed.splitlines())
    text = GOOD.replace("    vcpus: 2\n", f"    vcpus: 2\n    cloud_init:\n      password: !vault |\n{body}")
    guest = define.load(text).guests["wn05"]
    assert "battery" not in repr(guest)
    assert reveal(guest.cloud_init, vault.decrypt) == {"password": "battery staple"}


def test_addresses_that_a_network_has_for_guests(define: Definer) -> None:
    networks = define.load().networks
    assert free_count(networks["compute"], 4) == 254 - 9, "less the gateway and eight reserved ones"
    assert free_count(networks["compute"], 6) == 2**64 - 1, "less the routers' anycast address"
    assert free_count(networks["store"], 4) == 254
    assert free_count(networks["store"], 6) is None


def test_fixed_addresses_in_a_reserved_span_need_no_other_room(define: Definer) -> None:
    small = GOOD.replace("10.0.4.0/24,", "10.0.4.0/28,").replace('"wn[01:20]"', '"wn[01:06]"')
    with pytest.raises(DefinitionErrors, match="they need 6 addresses of 10.0.4.0/28, 5 are free"):
        load(define.write(small))
    fixed = small.replace("wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, ip: 10.0.4.3}]}")
    assert len(load(define.write(fixed)).guests) == 6


def test_two_realms_may_use_the_same_addresses(define: Definer) -> None:
    text = GOOD.replace("ranges: 10.0.5.0/24", "ranges: 10.0.4.0/24, realm: storage")
    assert define.load(text).networks["store"].realm == "storage"


def test_a_host_stands_in_enclosures_of_several_kinds(define: Definer) -> None:
    text = GOOD.replace("partitions:\n", '  pdu1: {level: pdu, members: "node[01:04]"}\npartitions:\n', 1)
    assert define.load(text).hosts["node04"].enclosures == (("rack", "rack2"), ("room", "room1"), ("pdu", "pdu1"))
