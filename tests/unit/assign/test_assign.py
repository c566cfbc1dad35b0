# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `decide` decides: new guests, what stays for ever, leaving, renaming, lost HostOSes, rebuilding."""

from __future__ import annotations

import dataclasses
import random

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import BuildRow, HostRow, MoveRow
from ansible_collections.oscarv.virt.plugins.plugin_utils._specs import specs
from world import BUILD, NEWER, NOW, World

GIB = 2**30


def newer_build(world: World) -> None:
    build = BuildRow(NEWER, "debian", "r2", 1000, 2**31, None, "2026-11-10T00:00:00+00:00")
    world.state = dataclasses.replace(world.state, builds={**world.state.builds, NEWER: build})


def test_new_guests_get_uuid_host_build_and_addresses(world: World) -> None:
    decision = world.run()
    row = world.row("wn1")
    assert (row.state, row.epoch, row.hypervisor, row.image, row.build_id) == ("planned", 1, "kvm", "debian", BUILD)
    assert {world.row(f"wn{n}").host for n in (1, 2, 3)} == {"node1", "node2", "node3"}
    assert world.addresses("wn1") == ["10.0.4.21", "fd12:3456::2"]
    assert world.addresses("wn3") == ["10.0.4.23", "fd12:3456::4"]
    assert (row.vcpus, row.memory, row.disk) == (1, GIB, 10 * GIB)
    assert [place.guest for place in decision.plan.places] == ["wn1", "wn2", "wn3"]
    assert [(h.what, h.subject, h.who) for h in decision.changes.history][0] == ("assign", "wn1", "tester")
    assert "placed on node" in decision.changes.history[0].why


def test_a_second_run_changes_nothing(world: World) -> None:
    world.run()
    world.boot()
    again = world.run()
    assert again.changes.empty and again.changes.history == () and again.plan.empty


def test_uuids_come_from_the_given_randomness_and_nothing_else_does(world: World) -> None:
    one, two = world.decide(random=random.Random(1)), world.decide(random=random.Random(2))
    assert set(one.after.guests).isdisjoint(two.after.guests)
    assert all(uuid[14] == "4" for uuid in one.after.guests)
    assert set(one.after.nics) == set(two.after.nics)
    where = [{row.name: row.host for row in d.after.guests.values()} for d in (one, two)]
    assert where[0] == where[1]


def test_numbers_in_names_sort_as_numbers(world: World) -> None:
    world.workers["members"] = "wn[1:12]"
    world.run()
    assert world.addresses("wn2")[0] == "10.0.4.22" and world.addresses("wn10")[0] == "10.0.4.30"


def test_an_image_without_a_build_is_refused_for_a_deploy_and_noted_for_a_plan(world: World) -> None:
    world.state = dataclasses.replace(world.state, builds={})
    assert "image debian has no build, which wn1, wn2, wn3 need: run oscarv.virt.image" in world.refuse()
    decision = world.decide(need_builds=False)
    assert decision.errors == () and len(decision.plan.places) == 3
    assert decision.plan.notes == ("image debian has no build, which wn1, wn2, wn3 need: run oscarv.virt.image",)


def test_a_newer_build_is_for_new_guests_only(world: World) -> None:
    world.run()
    newer_build(world)
    world.workers["members"] = "wn[1:4]"
    world.run()
    assert world.row("wn1").build_id == BUILD and world.row("wn4").build_id == NEWER


def test_what_fits_nowhere_keeps_its_addresses_and_is_placed_later(world: World) -> None:
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "512 MiB"
    decision = world.run()
    assert [stay.guest for stay in decision.plan.stays] == ["wn1", "wn2", "wn3"]
    assert decision.plan.stays[0].rejected["node1"] == "memory: needs 1 GiB, 512 MiB free"
    assert world.row("wn1").host is None and world.row("wn1").build_id is None
    before = world.addresses("wn1")
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "16 GiB"
    world.run()
    assert world.row("wn1").host and world.row("wn1").build_id == BUILD and world.addresses("wn1") == before


def test_capacity_is_measured_where_the_definition_is_silent(world: World) -> None:
    hosts = world.data["partitions"]["hosts"]
    del hosts["capacity"]
    hosts["overcommit"] = {"vcpus": 2}
    hosts["reserve"] = {"memory": "1 GiB"}
    measured = HostRow("node2", "kvm", vcpus=1, memory=4 * GIB, disk=100 * GIB, foreign_memory=GIB)
    world.state = dataclasses.replace(world.state, hosts={"node2": measured})
    decision = world.run()
    assert {p.host for p in decision.plan.places} == {"node2"} and len(decision.plan.places) == 2
    assert "vcpus: needs 1, 0 free" in decision.plan.stays[0].rejected["node2"]
    assert any("2 hosts (node1, node3) can take nothing: capacity not known" in note for note in decision.plan.notes)


def test_hosts_in_maintenance_take_nothing_new(world: World) -> None:
    rows = {n: HostRow(n, "kvm", maintenance="new disks") for n in ("node1", "node2")}
    world.state = dataclasses.replace(world.state, hosts=rows)
    assert {place.host for place in world.run().plan.places} == {"node3"}


def test_an_absent_guest_gets_addresses_but_no_place(world: World) -> None:
    world.workers["state"] = "absent"
    decision = world.run()
    assert decision.plan.empty and decision.plan.stays == ()
    assert world.row("wn1").host is None and len(world.addresses("wn1")) == 2


def test_an_absent_guest_keeps_its_place_and_its_addresses(world: World) -> None:
    world.run()
    world.boot()
    host, addresses = world.row("wn1").host, world.addresses("wn1")
    world.workers["override"] = {"wn1": {"state": "absent"}}
    world.run()
    assert (world.row("wn1").host, world.addresses("wn1")) == (host, addresses)


# -- leaving -------------------------------------------------------------------------------------------------


def test_a_guest_that_left_is_leaving_and_keeps_its_addresses(world: World) -> None:
    world.workers["members"] = "wn[1:12]"
    world.run()
    world.boot()
    addresses = world.addresses("wn12")
    world.workers["members"] = "wn[1:11]"
    world.data["max_release"] = "20 %"
    decision = world.run()
    assert world.row("wn12").state == "leaving" and world.addresses("wn12") == addresses
    assert [(h.subject, h.why) for h in decision.changes.history] == [("wn12", "left the definition")]


def test_too_many_leaving_at_once_want_the_clusters_name(world: World) -> None:
    world.workers["members"] = "wn[1:12]"
    world.run()
    world.workers["members"] = "wn[1:10]"
    text = world.refuse()
    assert "2 of 12 guests would leave, which is more than 10 % (max_release): wn11, wn12" in text
    assert "-e oscarv_confirm=test" in text
    assert "found oscarv_confirm=yes" in world.refuse(confirm="yes")
    world.run(confirm="test")
    assert world.row("wn11").state == "leaving"


def test_a_tenth_ten_times_is_noticed(world: World) -> None:
    world.workers["members"] = "wn[1:10]"
    world.run()
    world.workers["members"] = "wn[1:9]"
    world.run()
    world.workers["members"] = "wn[1:8]"
    assert "2 of 10 guests would leave" in world.refuse()


def test_what_a_leaving_guest_holds_is_not_given_away(world: World) -> None:
    world.data["partitions"]["hosts"]["members"] = "node1"
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "3 GiB"
    world.run()
    world.workers["members"] = "wn[2:4]"
    decision = world.run(confirm="test")
    assert [stay.guest for stay in decision.plan.stays] == ["wn4"]


def test_a_guest_that_comes_back_is_the_same_guest(world: World) -> None:
    world.run()
    world.boot()
    before = world.row("wn3")
    world.workers["members"] = "wn[1:2]"
    world.run(confirm="test")
    world.workers["members"] = "wn[1:3]"
    world.run()
    assert world.row("wn3") == dataclasses.replace(before, state="planned")


def test_teardown_makes_all_leave_and_wants_the_clusters_name(world: World) -> None:
    world.run()
    world.boot()
    text = world.refuse(teardown=True)
    assert "teardown removes 3 guests of cluster test with their disks: wn1, wn2, wn3" in text
    assert "-e oscarv_confirm=test" in text
    world.run(teardown=True, confirm="test")
    assert {row.state for row in world.state.guests.values()} == {"leaving"}


# -- renaming ------------------------------------------------------------------------------------------------


def test_a_renamed_guest_keeps_everything(world: World) -> None:
    world.run()
    world.boot()
    before, macs = world.row("wn3"), world.macs("wn3")
    world.workers["members"] = "wn[1:2],big1"
    world.workers["override"] = {"big1": {"renamed_from": "wn3"}}
    decision = world.run()
    after = world.row("big1")
    assert dataclasses.replace(after, name="wn3") == before and world.macs("big1") == macs
    assert decision.changes.history[0].why == "renamed from wn3"
    assert world.run().changes.empty


def test_renaming_to_a_name_that_is_taken_is_refused(world: World) -> None:
    world.workers["members"] = "wn[1:12]"
    world.run()
    world.workers["members"] = "wn[1:11]"
    world.workers["override"] = {"wn1": {"renamed_from": "wn12"}}
    assert "guest wn1: renamed_from wn12: the ledger has both names" in world.refuse(confirm="test")


# -- growing -------------------------------------------------------------------------------------------------


def test_a_change_of_the_definition_is_told_in_the_history(world: World) -> None:
    world.run()
    world.workers["override"] = {"wn1": {"memory": "2 GiB"}}
    decision = world.run()
    assert [(h.subject, h.why) for h in decision.changes.history] == [
        ("wn1", "the definition changed: memory 2 GiB, was 1 GiB")
    ]


def test_a_guest_may_not_outgrow_its_host(world: World) -> None:
    world.run()
    world.boot()
    host = world.row("wn1").host
    world.workers["override"] = {"wn1": {"memory": "20 GiB"}}
    text = world.refuse()
    assert "test.oscarv.yml" in text
    assert f"memory grows from 1 GiB to 20 GiB, but {host} has only 15 GiB more" in text


def test_a_host_that_became_too_small_is_only_noted(world: World) -> None:
    world.run()
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "512 MiB"
    decision = world.run()
    assert "host node1 holds more than its capacity: memory" in decision.plan.notes


# -- lost HostOSes -------------------------------------------------------------------------------------------


def test_local_guests_of_a_fenced_host_wait_for_it_or_are_made_again_by_consent(world: World) -> None:
    world.run()
    world.boot()
    name = next(row.name for row in world.state.guests.values() if row.host == "node1")
    before = world.row(name)
    decision = world.run(fenced=["node1"])
    assert world.state.hosts["node1"].fenced == NOW and world.row(name) == before
    (stay,) = decision.plan.stays
    assert stay.guest == name and "-e oscarv_recreate=true" in stay.reason
    newer_build(world)  # is not for a guest that is only made again
    decision = world.run(recreate=None)
    after = world.row(name)
    assert after.host in ("node2", "node3") and after.epoch == 2 and after.first_contact is None
    assert decision.recreate == {name} and after.uuid == before.uuid and after.build_id == before.build_id
    assert world.run(recreate=None).changes.empty


def test_shared_guests_of_a_fenced_host_come_up_elsewhere(world: World) -> None:
    world.workers["pool"] = "san"
    world.run()
    world.boot()
    name = next(row.name for row in world.state.guests.values() if row.host == "node1")
    decision = world.run(fenced=["node1"])
    after = world.row(name)
    assert after.host != "node1" and after.epoch == 2 and after.first_contact == NOW and not decision.recreate
    why = next(h.why for h in decision.changes.history if h.subject == name)
    assert "was on node1, which is fenced (epoch 2)" in why
    # By this the new HostOS knows that the disks, which no claim names, are the guest's.
    told = next(spec for spec in specs(world.cluster(), world.state)[str(after.host)] if spec.name == name)
    assert all(disk.shared for disk in told.disks)
    assert (told.epoch, told.first_contact, told.seed) == (2, True, None)
    assert told.host_key == world.state.host_keys[after.uuid].key


def test_the_epoch_is_one_that_no_copy_ever_had(world: World) -> None:
    world.workers["pool"] = "san"
    world.run()
    uuid = next(row.uuid for row in world.state.guests.values() if row.host == "node1")
    world.state = dataclasses.replace(world.state, epochs={uuid: 7})
    world.run(fenced=["node1"])
    assert world.state.guests[uuid].epoch == 8


def test_a_guest_that_fits_nowhere_else_stays_on_the_fenced_host(world: World) -> None:
    world.workers["pool"] = "san"
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "1 GiB"
    world.run()
    before = dict(world.state.guests)
    decision = world.run(fenced=["node1"])
    assert world.state.guests == before and len(decision.plan.stays) == 1


def test_an_unknown_host_cannot_be_fenced(world: World) -> None:
    assert "fenced: there is no HostOS node9" in world.refuse(fenced=["node9"])


def test_a_host_that_left_the_definition_is_reported(world: World) -> None:
    world.run()
    world.data["partitions"]["hosts"]["members"] = "node[2:3]"
    decision = world.run()
    (stay,) = decision.plan.stays
    assert "its HostOS node1 is not in the definition" in stay.reason and "-e oscarv_fenced=node1" in stay.reason


def test_a_guest_whose_move_is_not_settled_is_left_alone(world: World) -> None:
    world.run()
    world.boot()
    row = world.row("wn1")
    move = MoveRow("m1", row.uuid, str(row.host), "node2", 1, 2, "live", "in_flight", NOW)
    world.state = dataclasses.replace(world.state, moves={row.uuid: move})
    decision = world.run()
    assert [stay.guest for stay in decision.plan.stays] == ["wn1"] and "oscarv.virt.settle" in decision.plan.stays[
        0
    ].reason
    assert decision.changes.empty


# -- rebuilding ----------------------------------------------------------------------------------------------


def test_a_rebuild_takes_the_newest_build_and_keeps_identity(world: World) -> None:
    world.run()
    world.boot()
    newer_build(world)
    before, macs, addresses = world.row("wn1"), world.macs("wn1"), world.addresses("wn1")
    assert "rebuild makes the root disk of 1 guest anew, what is on it is lost: wn1" in world.refuse(rebuild=["wn1"])
    decision = world.run(rebuild=["wn1"], confirm="test")
    after = world.row("wn1")
    assert after.build_id == NEWER and after.first_contact is None and decision.recreate == {"wn1"}
    assert (after.uuid, after.host, after.epoch) == (before.uuid, before.host, 2)
    assert (world.macs("wn1"), world.addresses("wn1")) == (macs, addresses)
    assert world.row("wn2").build_id == BUILD


@pytest.mark.parametrize("name", ["wn9", "wn3"])
def test_only_a_guest_that_has_a_place_is_rebuilt(world: World, name: str) -> None:
    world.run()
    world.change("wn3", host=None)
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "512 MiB"
    assert f"rebuild: guest {name}" in world.refuse(rebuild=[name], confirm="test")
