# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `status` says of each way in which definition, ledger and HostOSes can differ."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import BuildRow, HostRow, MoveRow
from ansible_collections.oscarv.virt.plugins.plugin_utils._status import GuestStatus, status, status_lines
from world import NEWER, NOW, World

GIB = 2**30


@pytest.fixture
def world(world: World) -> World:
    world.run()
    world.boot()
    return world


def answers(world: World, **changes: dict[str, t.Any] | None) -> dict[str, t.Any]:
    """What guest_info gives on every HostOS; `changes` by guest, None: it is not there."""
    found: dict[str, t.Any] = {f"node{n}": {"guests": {}, "foreign": [], "tombstones": {}} for n in (1, 2, 3)}
    for row in world.state.guests.values():
        change = changes.get(row.name, {})
        if row.host and change is not None:
            entry = {"name": row.name, "uuid": row.uuid, "state": "running", "epoch": row.epoch}
            found[row.host]["guests"][row.uuid] = {**entry, "vcpus": 1, "memory": GIB, **change}
    return found


def see(world: World, observed: dict[str, t.Any] | None = None) -> dict[str, GuestStatus]:
    found = status(world.cluster(), world.state, answers(world) if observed is None else observed)
    return {guest.guest: guest for guest in found.guests}


def test_without_drift_there_is_nothing_to_say(world: World) -> None:
    found = status(world.cluster(), world.state, answers(world))
    assert found.drifting == 0 and [host.state for host in found.hosts] == ["ok", "ok", "ok"]
    wn1 = see(world)["wn1"]
    assert (wn1.state, wn1.address, wn1.epoch, wn1.drift) == ("running", "10.0.4.21", 1, ())
    assert status_lines(world.cluster(), world.state, found)[-1] == "3 HostOSes, 3 guests: no drift"


@pytest.mark.parametrize(
    ("change", "state", "drift"),
    [
        ({"state": "stopped"}, "stopped", "is stopped, wanted running"),
        (None, "missing", "is missing, wanted running"),
        ({"memory": 2 * GIB}, "running", "memory 2 GiB, wanted 1 GiB"),
        ({"vcpus": 4}, "running", "vcpus 4, wanted 1"),
        ({"restart_required": True}, "running", "restart required"),
        ({"epoch": 9}, "running", "epoch 9, the ledger has 1"),
    ],
)
def test_each_difference_of_a_guest(world: World, change: t.Any, state: str, drift: str) -> None:
    found = see(world, answers(world, wn2=change))
    assert (found["wn2"].state, found["wn2"].drift) == (state, (drift,))
    assert found["wn1"].drift == ()


def test_two_running_copies_are_said_loudly(world: World) -> None:
    observed = answers(world)
    row = world.row("wn1")
    other = next(name for name in observed if name != row.host)
    observed[other]["guests"][row.uuid] = {**observed[row.host]["guests"][row.uuid], "epoch": 0}
    drift = see(world, observed)["wn1"].drift
    assert drift[0].startswith("RUNS TWICE: on node") and f"a copy is running on {other} (epoch 0)" in drift


def test_what_cannot_be_reached_is_unknown_not_missing(world: World) -> None:
    observed = answers(world)
    host = str(world.row("wn1").host)
    observed[host] = {"unreachable": True}
    found = status(world.cluster(), world.state, observed)
    by_name = {guest.guest: guest for guest in found.guests}
    assert (by_name["wn1"].state, by_name["wn1"].drift) == ("unreachable", ())
    lines = status_lines(world.cluster(), world.state, found)
    assert lines[-1] == f"3 HostOSes, 3 guests: no drift; not reached: {host}"


def test_a_limit_leaves_hosts_out_without_calling_them_lost(world: World) -> None:
    row = world.row("wn1")
    found = status(world.cluster(), world.state, {row.host: answers(world)[str(row.host)]})
    assert {host.state for host in found.hosts} == {"ok", "not asked"} and found.drifting == 0


def test_guests_that_come_go_or_move(world: World) -> None:
    row = world.row("wn2")
    move = MoveRow("m", row.uuid, str(row.host), "node1", 1, 2, "live", "in_flight", NOW)
    world.state = dataclasses.replace(world.state, moves={row.uuid: move})
    world.workers["members"] = "wn[1:2],wn4"
    found = see(world)
    assert found["wn4"].drift == ("not decided yet: deploy",)
    assert found["wn3"].drift == ("left the definition: deploy with oscarv_prune=remove",)
    assert found["wn2"].drift == (f"being moved from {row.host} to node1: settle",)


def test_an_older_build_is_drift(world: World) -> None:
    build = BuildRow(NEWER, "debian", "r2", 1000, 2**31, None, "2026-11-10T00:00:00+00:00")
    world.state = dataclasses.replace(world.state, builds={**world.state.builds, NEWER: build})
    assert see(world)["wn1"].drift == ("build outdated: rebuild",)


def test_a_guest_that_was_never_reached_is_named(world: World) -> None:
    world.change("wn1", first_contact=None)
    assert see(world)["wn1"].drift == ("never reached",)


def test_hosts_show_what_is_used_and_why_they_are_closed(world: World) -> None:
    rows = {
        "node1": HostRow("node1", "kvm", maintenance="new disks"),
        "node2": HostRow("node2", "kvm", fenced=NOW),
        "node3": HostRow("node3", "kvm", facts={"acceleration": "tcg"}),
    }
    world.state = dataclasses.replace(world.state, hosts=rows)
    found = status(world.cluster(), world.state, answers(world)).hosts
    assert [host.state for host in found] == ["maintenance", "fenced", "ok"]
    assert found[0].used == ("1/8", "1 GiB/16 GiB", "10 GiB/500 GiB")
    assert [host.notes for host in found] == [("new disks",), (), ("emulates (no KVM)",)]


def test_guests_that_the_ledger_does_not_know_are_noted(world: World) -> None:
    observed = answers(world)
    uuid = "11111111-1111-4111-8111-111111111111"
    observed["node1"]["guests"][uuid] = {"name": "who", "uuid": uuid, "state": "running", "epoch": 1}
    found = status(world.cluster(), world.state, observed)
    assert found.hosts[0].notes == ("guests that the ledger does not know: who",)
