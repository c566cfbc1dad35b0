# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The specs that HostOSes get, what may be pruned there, and which guests a pattern selects."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.plugin_utils._assign_observed import prunable
from ansible_collections.oscarv.virt.plugins.plugin_utils._assign_result import builds_for
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import HostRow, MoveRow
from ansible_collections.oscarv.virt.plugins.plugin_utils._select import SelectError, select
from ansible_collections.oscarv.virt.plugins.plugin_utils._specs import SpecProblem, specs
from world import BUILD, LATER, NOW, World

GIB = 2**30


def spec(world: World, name: str, **more: t.Any) -> GuestSpec:
    found = [s for items in specs(world.cluster(), world.state, **more).values() for s in items if s.name == name]
    assert len(found) == 1
    return GuestSpec.from_plain(found[0].to_plain())


def test_a_spec_holds_everything_and_is_valid(world: World) -> None:
    world.data["networks"]["compute"]["nameservers"] = ["10.0.4.2"]
    world.workers["networks"] = ["compute", "storage"]
    world.workers["disks"] = [{"name": "scratch", "size": "5 GiB", "pool": "san"}]
    world.workers["authorized_keys"] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ1cm4gYWZ0ZXIgcmVhZGluZyBpdCBpcyBhIHRlc3Q= me"
    ]
    world.workers["cloud_init"] = {"timezone": "UTC"}
    world.run()
    made = spec(world, "wn1")
    assert (made.hypervisor, made.state, made.epoch, made.memory) == ("kvm", "running", 1, GIB)
    assert [(d.name, d.size, d.pool, d.shared, d.build_id) for d in made.disks] == [
        ("root", 10 * GIB, "local", False, BUILD),
        ("scratch", 5 * GIB, "san", True, None),
    ]
    first, second = made.nics
    assert (first.name, first.bridge, first.addresses) == ("eth0", "br0", ("10.0.4.21/24", "fd12:3456::2/64"))
    assert (first.gateways, first.nameservers) == (("10.0.4.1", "fd12:3456::1"), ("10.0.4.2",))
    assert (second.name, second.bridge, second.mtu, second.gateways) == ("eth1", "br1v7", 9000, ())
    assert made.seed is not None and made.seed.hostname == "wn1" and made.seed.cloud_init == {"timezone": "UTC"}
    assert not made.first_contact and not made.recreate and made.cpu.model == "default"


def test_data_disks_may_be_raw(world: World) -> None:
    world.workers["disks"] = [{"name": "scratch", "size": "5 GiB"}]
    world.run()
    hashed = world.row("wn1").spec_hash
    assert [disk.format for disk in spec(world, "wn1").disks] == ["qcow2", "qcow2"]
    world.workers["disks"][0]["format"] = "qcow2"
    world.run(now=LATER)
    assert world.row("wn1").spec_hash == hashed, "the default changes no hash that is recorded"
    world.workers["disks"][0]["format"] = "raw"
    world.run(now=LATER)
    assert [disk.format for disk in spec(world, "wn1").disks] == ["qcow2", "raw"]
    assert world.row("wn1").spec_hash != hashed


def with_manifest(world: World, **manifest: t.Any) -> None:
    build = dataclasses.replace(world.state.builds[BUILD], manifest=manifest)
    world.state = dataclasses.replace(world.state, builds={**world.state.builds, BUILD: build})


def test_an_image_that_says_so_boots_the_kernel_of_the_build(world: World) -> None:
    world.run()
    hashed = world.row("wn1").spec_hash
    assert spec(world, "wn1").command_line is None
    sums = {"vmlinuz": "1" * 64, "initrd.img": "2" * 64}
    with_manifest(world, command_line="root=UUID=1 ro", sha256={**sums, "other": "3" * 64})
    assert builds_for(world.cluster(), world.state, "node1", [spec(world, "wn1")])[0]["kernel"] == {}
    world.data["images"]["debian"]["boot"] = "kernel"
    world.run(now=LATER)
    assert world.row("wn1").spec_hash != hashed
    made = spec(world, "wn1")
    assert made.command_line == "root=UUID=1 ro"
    (found,) = builds_for(world.cluster(), world.state, "node1", [made])
    assert found["kernel"] == sums
    world.change("wn1", state="leaving")
    assert spec(world, "wn1", absent=True).command_line is None


@pytest.mark.parametrize("manifest", [{}, {"command_line": "x"}, {"command_line": "x", "sha256": {"vmlinuz": "1"}}])
def test_a_build_without_a_known_kernel_cannot_be_booted_so(world: World, manifest: dict[str, t.Any]) -> None:
    world.run()
    world.data["images"]["debian"]["boot"] = "kernel"
    with_manifest(world, **manifest)
    with pytest.raises(SpecProblem, match="guest wn1: its image debian says boot: kernel, but its build aaaaaaaaaaaa"):
        specs(world.cluster(), world.state)


def test_after_first_contact_there_is_no_seed(world: World) -> None:
    world.run()
    assert spec(world, "wn1").host_key is None
    world.boot()
    made = spec(world, "wn1")
    assert made.seed is None and made.first_contact
    assert made.host_key == world.state.host_keys[made.uuid].key


def test_every_host_has_a_list_and_unplaced_or_moving_guests_are_in_none(world: World) -> None:
    world.run()
    world.change("wn2", host=None)
    row = world.row("wn3")
    move = MoveRow("m", row.uuid, str(row.host), "node1", 1, 2, "live", "in_flight", NOW)
    world.state = dataclasses.replace(world.state, moves={row.uuid: move})
    made = specs(world.cluster(), world.state)
    assert set(made) == {"node1", "node2", "node3"} and [s.name for items in made.values() for s in items] == ["wn1"]


def test_teardown_specs_are_absent(world: World) -> None:
    world.run()
    world.run(teardown=True, confirm="test")
    assert not any(specs(world.cluster(), world.state).values())
    made = spec(world, "wn1", absent=True)
    assert made.state == "absent" and made.seed is None


def test_recreate_is_for_the_named_only(world: World) -> None:
    world.run()
    assert spec(world, "wn1", recreate=["wn1"]).recreate and not spec(world, "wn2", recreate=["wn1"]).recreate


def test_baseline_is_what_the_ledger_has_for_the_partition(world: World) -> None:
    world.workers["cpu_model"] = "baseline"
    world.run()
    with pytest.raises(SpecProblem, match="no baseline is recorded for host partition hosts: run oscarv.virt.hostos"):
        specs(world.cluster(), world.state)
    cpu = {"baseline": {"model": "Westmere", "features": {"aes": "require"}}}
    world.state = dataclasses.replace(world.state, hosts={"node2": HostRow("node2", "kvm", cpu=cpu)})
    assert (spec(world, "wn1").cpu.model, spec(world, "wn1").cpu.features) == ("Westmere", {"aes": "require"})


def test_a_network_that_the_definition_no_longer_has_is_named(world: World) -> None:
    world.workers["networks"] = ["compute", "storage"]
    world.run()
    world.workers["networks"] = ["compute"]
    del world.data["networks"]["storage"]
    with pytest.raises(SpecProblem, match="guest wn1: the ledger has a NIC in network storage"):
        specs(world.cluster(), world.state)


# -- prune ------------------------------------------------------------------------------------------------------


def names(found: dict[str, list[dict[str, t.Any]]]) -> dict[str, list[str]]:
    return {host: [item["name"] for item in items] for host, items in found.items() if items}


def seen(world: World, name: str, epoch: int, uuid: str | None = None) -> dict[str, t.Any]:
    uuid = uuid or world.row(name).uuid
    return {"guests": {uuid: {"name": name, "uuid": uuid, "state": "running", "epoch": epoch}}, "tombstones": {}}


def test_leaving_guests_may_be_pruned_where_they_are(world: World) -> None:
    world.run()
    host = world.row("wn3").host
    assert names(prunable(world.cluster(), world.state, {})) == {}
    world.workers["members"] = "wn[1:2]"
    world.run(confirm="test")
    assert names(prunable(world.cluster(), world.state, {})) == {host: ["wn3"]}
    row = world.row("wn3")
    move = MoveRow("m", row.uuid, str(row.host), "node1", 1, 2, "live", "in_flight", NOW)
    world.state = dataclasses.replace(world.state, moves={row.uuid: move})
    assert names(prunable(world.cluster(), world.state, {})) == {}


def test_a_copy_with_an_older_epoch_on_another_host_may_be_pruned(world: World) -> None:
    world.run()
    world.change("wn1", host="node2", epoch=3)
    found = prunable(world.cluster(), world.state, {"node1": seen(world, "wn1", 2), "node2": seen(world, "wn1", 3)})
    newest = 3  # by which the driver knows that the copy is stale, and leaves shared disks to the newer one
    assert found["node1"] == [{"name": "wn1", "uuid": world.row("wn1").uuid, "epoch": newest}]
    assert names(found) == {"node1": ["wn1"]}
    assert names(prunable(world.cluster(), world.state, {"node1": seen(world, "wn1", 3)})) == {}


def test_strangers_are_never_pruned(world: World) -> None:
    world.run()
    stranger = seen(world, "who", 1, "11111111-1111-4111-8111-111111111111")
    assert names(prunable(world.cluster(), world.state, {"node1": stranger})) == {}


def test_released_guests_that_are_seen_again_may_be_pruned(world: World) -> None:
    world.run()
    row = world.row("wn3")
    again = seen(world, "wn3", 1)
    world.release("wn3", LATER)
    found = prunable(world.cluster(), world.state, {"node1": again})
    assert found["node1"] == [{"name": "wn3", "uuid": row.uuid, "epoch": 1}], "its files are its own"
    assert names(prunable(world.cluster(), world.state, {"node1": None})) == {}
    assert names(prunable(world.cluster(), world.state, None)) == {row.host: ["wn3"]}


def test_a_released_copy_whose_name_is_given_again_is_known_as_stale(world: World) -> None:
    """In a pool that is shared the new guest's files have the names of the old one's."""
    world.run()
    row = world.row("wn3")
    world.release("wn3", LATER)
    found = prunable(world.cluster(), world.state, {"node1": seen(world, "wn3", 1, row.uuid)})
    assert found["node1"][0]["epoch"] == 1
    again = dataclasses.replace(world.state.guests[row.uuid], name="wn1")  # which is another guest now
    world.state = dataclasses.replace(world.state, guests={**world.state.guests, row.uuid: again})
    found = prunable(world.cluster(), world.state, {"node1": seen(world, "wn1", 1, row.uuid)})
    assert found["node1"] == [{"name": "wn1", "uuid": row.uuid, "epoch": 2}]


# -- select -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, None),
        ("", None),
        ("wn2", ["wn2"]),
        ("wn3,wn1", ["wn1", "wn3"]),
        ("wn3 wn1", ["wn1", "wn3"]),
        (["wn1", "wn2"], ["wn1", "wn2"]),
        ("wn*", ["wn1", "wn2", "wn3"]),
        ("wn[1:2]", ["wn1", "wn2"]),
        ("workers", ["wn1", "wn2", "wn3"]),
        ("oscarv_partition_workers,!wn2", ["wn1", "wn3"]),
        ("!wn2", ["wn1", "wn3"]),
        ("wn[1:2,3]", ["wn1", "wn2", "wn3"]),
    ],
)
def test_patterns(world: World, pattern: t.Any, expected: list[str] | None) -> None:
    assert select(world.cluster(), pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("wm1", "no guest or guest partition of cluster test is called so; partitions: workers"),
        ("wn[1:9]", "there is no guest wn4 in cluster test"),
        ("wn[2:1]", "wn\\[2:1\\]"),
        ("wn1,!wn1", "selects no guest"),
    ],
)
def test_a_pattern_that_selects_nothing_is_refused(world: World, pattern: str, words: str) -> None:
    with pytest.raises(SelectError, match=words):
        select(world.cluster(), pattern)
