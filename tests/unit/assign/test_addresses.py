# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MACs and addresses: each once, the same on every run, resting after release, never changed under a running guest."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import pathlib
import random
import tempfile
import typing as t

from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import LedgerState
from hypothesis import given, settings
from hypothesis import strategies as st
from world import LATER, NOW, SOON, World


def test_a_mac_is_locally_administered_and_the_same_in_every_run(world: World) -> None:
    first = world.decide(random=random.Random(1)).after.nics
    second = world.decide(random=random.Random(2)).after.nics
    assert set(first) == set(second) and len(first) == 3
    assert all(mac.startswith("52:") and len(mac) == 17 for mac in first)


def test_a_mac_that_is_taken_is_passed_over(world: World) -> None:
    wanted = next(nic.mac for nic in world.decide().after.nics.values() if "10.0.4.21" in nic.addresses)
    world.state = dataclasses.replace(world.state, foreign_macs=frozenset([wanted]))
    world.run()
    assert world.macs("wn1") != [wanted] and world.macs("wn1")[0].startswith("52:")


def test_addresses_skip_gateway_reserved_nameservers_network_and_broadcast(world: World) -> None:
    compute = world.data["networks"]["compute"]
    compute["ranges"] = ["10.0.4.0/29"]
    compute["gateway"] = "10.0.4.2"
    compute["reserved"] = ["10.0.4.4"]
    compute["nameservers"] = ["10.0.4.5"]
    world.run()
    assert [world.addresses(f"wn{n}") for n in (1, 2, 3)] == [["10.0.4.1"], ["10.0.4.3"], ["10.0.4.6"]]


def test_addresses_of_other_clusters_in_the_same_ledger_are_taken(world: World) -> None:
    world.state = dataclasses.replace(world.state, foreign_addresses=frozenset([("default", "10.0.4.21")]))
    world.run()
    assert world.addresses("wn1") == ["10.0.4.22", "fd12:3456::2"]


def test_a_full_network_is_refused_by_name(world: World) -> None:
    world.data["networks"]["compute"] = {"bridge": "br0", "ranges": ["10.0.4.0/29"]}
    world.workers["members"] = "wn[1:6]"
    taken = frozenset([("default", "10.0.4.1")])
    world.state = dataclasses.replace(world.state, foreign_addresses=taken)
    assert "guest wn6" in world.refuse() and "no free IPv4 address left (10.0.4.0/29)" in world.refuse()


# -- fixed addresses --------------------------------------------------------------------------------------------


def fix(world: World, name: str, **nic: str) -> None:
    world.workers.setdefault("override", {})[name] = {"networks": [{"name": "compute", **nic}]}


def test_fixed_address_and_mac_are_honoured_and_given_to_nobody_else(world: World) -> None:
    fix(world, "wn3", ip="10.0.4.21", mac="52:54:00:00:00:77")
    world.run()
    assert world.addresses("wn3") == ["10.0.4.21", "fd12:3456::4"] and world.macs("wn3") == ["52:54:00:00:00:77"]
    assert world.addresses("wn1")[0] == "10.0.4.22"


def test_a_fixed_address_that_another_guest_has_is_refused(world: World) -> None:
    world.run()
    world.boot()
    world.workers["members"] = "wn[1:4]"
    fix(world, "wn4", ip="10.0.4.21")
    text = world.refuse()
    assert "guest wn4" in text and "ip 10.0.4.21 of network compute: it is guest wn1's" in text


def test_a_fixed_mac_that_another_guest_has_is_refused(world: World) -> None:
    world.run()
    world.boot()
    world.workers["members"] = "wn[1:4]"
    fix(world, "wn4", mac=world.macs("wn1")[0])
    assert "another NIC has it in the ledger" in world.refuse()


def test_a_fixed_address_that_rests_is_refused_with_the_time(world: World) -> None:
    world.run()
    world.release("wn3", LATER)
    world.workers["members"] = "wn[1:2],wn4"
    fix(world, "wn4", ip="10.0.4.23")
    assert f"it was guest wn3's and rests until {LATER}" in world.refuse(SOON)


def test_the_address_of_a_guest_that_booted_is_never_changed(world: World) -> None:
    world.run()
    fix(world, "wn1", ip="10.0.4.99")
    world.run()
    assert world.addresses("wn1")[0] == "10.0.4.99"  # nobody had told the guest
    world.boot()
    fix(world, "wn1", ip="10.0.4.98")
    text = world.refuse()
    assert "it has 10.0.4.99, fd12:3456::2 since its first boot" in text and "oscarv.virt.rebuild" in text
    world.run(rebuild=["wn1"], confirm="test")
    assert world.addresses("wn1") == ["10.0.4.98", "fd12:3456::2"]


def test_addresses_that_a_rebuilt_guest_gives_up_rest(world: World) -> None:
    world.run()
    world.boot()
    fix(world, "wn1", ip="10.0.4.98")
    world.run(rebuild=["wn1"], confirm="test")
    world.workers["members"] = "wn[1:4]"
    fix(world, "wn4", ip="10.0.4.21")
    assert "rests until" in world.refuse(SOON)
    world.run(LATER)
    assert world.addresses("wn4")[0] == "10.0.4.21"


def test_a_mac_may_be_changed_and_the_address_stays(world: World) -> None:
    world.run()
    world.boot()
    fix(world, "wn1", mac="52:54:00:00:00:01")
    before = world.addresses("wn1")
    world.run()
    assert world.macs("wn1") == ["52:54:00:00:00:01"] and world.addresses("wn1") == before
    assert len([nic for nic in world.state.nics.values() if nic.guest == world.row("wn1").uuid]) == 1


# -- quarantine ---------------------------------------------------------------------------------------------------


def test_released_addresses_rest_and_are_given_again_afterwards(world: World) -> None:
    world.run()
    world.release("wn1", LATER)
    world.workers["members"] = "wn[2:4]"
    world.run(SOON)
    assert world.addresses("wn4")[0] == "10.0.4.24"
    world.workers["members"] = "wn[2:5]"
    world.run(LATER)
    assert world.addresses("wn5") == ["10.0.4.21", "fd12:3456::2"]


def test_a_new_guest_of_the_same_name_takes_over_what_rests(world: World) -> None:
    world.run()
    before = (world.addresses("wn1"), world.macs("wn1"), world.row("wn1").uuid)
    world.release("wn1", LATER)
    world.run(SOON)
    assert (world.addresses("wn1"), world.macs("wn1")) == before[:2] and world.row("wn1").uuid != before[2]


def test_what_rests_is_not_taken_over_where_the_definition_gives_it_to_another(world: World) -> None:
    world.run()
    world.release("wn1", NOW)
    fix(world, "wn3", ip="10.0.4.21")
    world.change("wn3", state="planned")
    world.run(LATER)
    assert world.addresses("wn3")[0] == "10.0.4.21" and world.addresses("wn1")[0] != "10.0.4.21"


# -- NICs of a guest that has some ----------------------------------------------------------------------------------


def test_a_second_nic_leaves_the_first_alone(world: World) -> None:
    world.run()
    world.boot()
    before = (world.addresses("wn1"), world.macs("wn1"))
    world.workers["networks"] = ["storage", "compute"]
    world.run()
    assert world.addresses("wn1") == ["10.0.8.1", *before[0]] and world.macs("wn1")[1:] == before[1]
    assert world.run().changes.empty


def test_a_nic_that_left_keeps_its_address_until_the_guest_is_seen_without_it(world: World) -> None:
    world.workers["networks"] = ["compute", "storage"]
    world.run()
    world.boot()
    mac = world.macs("wn1")[1]
    world.workers["networks"] = ["compute"]
    world.run()
    nic = world.state.nics[mac]
    assert nic.position < 0 and nic.free_after is None and nic.addresses == ("10.0.8.1",)
    row = world.row("wn1")
    with_it = {row.host: {"guests": {row.uuid: {"nics": [{"mac": m} for m in (*world.macs("wn1"), mac)]}}}}
    assert world.run(observed=with_it).changes.empty
    elsewhere = {"nodeX": {"guests": {row.uuid: {"nics": []}}}}
    assert world.run(observed=elsewhere).changes.empty
    without = {row.host: {"guests": {row.uuid: {"nics": [{"mac": m} for m in world.macs("wn1")]}}}}
    world.run(observed=without)
    assert world.state.nics[mac].free_after == "2026-11-20T13:00:00+00:00"


def test_a_nic_that_comes_back_is_the_same(world: World) -> None:
    world.workers["networks"] = ["compute", "storage"]
    world.run()
    world.boot()
    before = (world.macs("wn1"), world.addresses("wn1"))
    world.workers["networks"] = ["compute"]
    world.run()
    world.workers["networks"] = ["compute", "storage"]
    world.run()
    assert (world.macs("wn1"), world.addresses("wn1")) == before


def test_new_ranges_are_for_new_guests_and_rebuilt_ones(world: World) -> None:
    world.run()
    world.boot()
    before = world.addresses("wn1")
    world.data["networks"]["compute"] = {"bridge": "br0", "ranges": ["10.9.0.0/24"]}
    world.workers["members"] = "wn[1:4]"
    world.run()
    assert world.addresses("wn1") == before and world.addresses("wn4") == ["10.9.0.1"]
    world.run(rebuild=["wn1"], confirm="test")
    assert world.addresses("wn1") == ["10.9.0.2"]


# -- properties -----------------------------------------------------------------------------------------------------


def unique(state: LedgerState) -> None:
    count = collections.Counter((n.realm, a) for n in state.nics.values() for a in n.addresses)
    assert not count or max(count.values()) == 1, count.most_common(3)


def given_out(world: World) -> None:
    """Every guest of the definition has its NICs, with addresses that the network may give."""
    cluster = world.cluster()
    for guest in cluster.guests.values():
        addresses = [ipaddress.ip_address(a) for a in world.addresses(guest.name)]
        assert len(addresses) == 2 and len(world.macs(guest.name)) == 1
        network = cluster.networks["compute"]
        for address in addresses:
            assert any(address.version == r.version and address in r for r in network.ranges)
            assert address not in network.gateway
            assert not any(
                first <= address <= last for first, last in network.reserved if first.version == address.version
            )


STEP = st.tuples(st.sampled_from(["grow", "shrink", "boot", "release", "rebuild"]), st.integers(1, 8))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=8), st.booleans())
def test_no_address_is_ever_given_twice(steps: list[tuple[str, int]], quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(pathlib.Path(folder))
        world.data["networks"]["compute"]["ranges"][0] = "10.0.4.0/26"
        members = {1, 2, 3}
        now = NOW
        resting: dict[str, tuple[str, str]] = {}  # address -> (name, until)
        for kind, number in steps:
            now = "2026-11-20T12:00:01+00:00" if quick else f"2026-11-20T{int(now[11:13]) + 1}:00:00+00:00"
            if kind == "grow":
                members.add(number)
            elif kind == "shrink" and len(members) > 1:
                members.discard(number)
            elif kind == "boot":
                world.boot()
            elif kind == "release":
                for row in [r for r in world.state.guests.values() if r.state == "leaving"]:
                    until = f"2026-11-20T{int(now[11:13]) + 1}:30:00+00:00"
                    resting.update(dict.fromkeys(world.addresses(row.name), (row.name, until)))
                    world.release(row.name, until)
            world.workers["members"] = ",".join(f"wn{n}" for n in sorted(members))
            rebuild = [f"wn{number}"] if kind == "rebuild" and number in members and known(world, number) else []
            world.run(now, confirm="test", rebuild=rebuild)
            unique(world.state)
            given_out(world)
            for row in world.state.guests.values():
                if row.state in ("released", "leaving"):
                    continue
                for address in world.addresses(row.name):
                    name, until = resting.get(address, (row.name, ""))
                    assert name == row.name or until <= now, (address, name, row.name)
            assert world.run(now, confirm="test").changes.empty


def known(world: World, number: int) -> bool:
    row = world.state.guest_named(f"wn{number}")
    return row is not None and row.host is not None


@settings(max_examples=30, deadline=None)
@given(st.permutations([f"wn{n}" for n in range(1, 9)]))
def test_the_order_in_the_definition_means_nothing(names: t.Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(pathlib.Path(folder))
        world.workers["members"] = ",".join(names)
        world.run()
        found = {name: (world.addresses(name), world.macs(name), world.row(name).host) for name in sorted(names)}
        world = World(pathlib.Path(folder))
        world.workers["members"] = "wn[1:8]"
        world.run()
        assert found == {n: (world.addresses(n), world.macs(n), world.row(n).host) for n in sorted(names)}
