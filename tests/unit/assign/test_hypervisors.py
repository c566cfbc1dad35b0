# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that may run on more than one hypervisor: where the planner looks, and where they go when somebody says so."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.oscarv.virt.plugins.plugin_utils._assign_problem import ask
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import HostRow
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Plan
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner import solve
from world import World


def two_hypervisors(world: World) -> None:
    """One KVM host with a guest that Xen hosts may run too."""
    hosts = world.data["partitions"]["hosts"]
    hosts["members"] = "node1"
    world.data["partitions"]["xens"] = {**hosts, "hypervisor": "xen", "members": "xen[1:2]"}
    world.workers.update({"on": ["hosts", "xens"], "members": "wn1"})
    world.data["rules"] = [{"pin": "wn1", "to": "node1", "soft": True}]
    world.run()
    world.boot()
    assert world.row("wn1").host == "node1"


def plan(world: World, verb: str, *subjects: str, **options: t.Any) -> Plan:
    return solve(ask(world.cluster(), world.state, verb, subjects, {"moves_per_host": 1, **options}))


def test_a_guest_goes_to_the_hypervisor_that_was_named(world: World) -> None:
    two_hypervisors(world)
    found = plan(world, "move", "wn1", to="xen1")
    assert [(move.source, move.target) for move in found.moves] == [("node1", "xen1")]
    assert found.stays == ()


def test_nobody_is_sent_to_another_hypervisor_unasked(world: World) -> None:
    two_hypervisors(world)
    found = plan(world, "evacuate", "node1")
    assert found.moves == ()
    assert "the guest may run on hosts" in (found.stays[0].rejected or {})["xen1"]


def test_a_guest_is_not_said_to_be_rebuilt_where_its_hostos_cannot(world: World) -> None:
    world.run()
    world.boot()
    host = str(world.row("wn1").host)
    cannot = {"capabilities": {"rebuild": {"supported": False, "reason": "no root is made anew"}}}
    world.state = dataclasses.replace(
        world.state, hosts={**world.state.hosts, host: dataclasses.replace(HostRow(host, "kvm"), facts=cannot)}
    )
    before = world.row("wn1")
    text = world.refuse(rebuild=["wn1"], confirm="test")
    assert f"rebuild: guest wn1: its HostOS {host} lacks capability rebuild: no root is made anew" in text
    assert world.row("wn1") == before
