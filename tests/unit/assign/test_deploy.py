# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks get from `assign` and make of the answers of the HostOSes."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.filter.per_host import per_host
from ansible_collections.oscarv.virt.plugins.plugin_utils._assign_result import (
    difference,
    idle_builds,
    idle_tombstones,
    result_of,
    sealed,
    unsealed,
)
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition_vault import reveal
from ansible_collections.oscarv.virt.plugins.plugin_utils._deploy import deploy_report
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Vaulted
from ansible_collections.oscarv.virt.plugins.plugin_utils._report import plan_lines
from ansible_collections.oscarv.virt.plugins.plugin_utils._specs import specs
from world import BUILD, NEWER, World


def decided(world: World, selected: list[str] | None = None, **more: t.Any) -> dict[str, t.Any]:
    result = result_of(world.cluster(), world.run(**more), selected, {})
    assert json.loads(json.dumps(result)) == result, "plain data only"
    return result


def entry(**more: t.Any) -> dict[str, t.Any]:
    return {"state": "running", "changed": False, "steps": [], "failed": False, "msg": "", **more}


# -- assign's result --------------------------------------------------------------------------------------------


def test_the_result_has_what_the_next_tasks_need(world: World) -> None:
    world.workers["roles"] = ["site.node"]
    found = decided(world)
    host = world.row("wn1").host
    assert set(found["specs"]) == set(found["builds"]) == set(found["prunable"]) == {"node1", "node2", "node3"}
    assert found["builds"][host] == [
        {
            "build_id": BUILD,
            "pool": "local",
            "path": f"/var/lib/oscarv/builds/{BUILD}.qcow2",
            "image": "debian",
            "url": "http://builder/a",
            "size": 1000,
            "verified": False,
            "kernel": {},
        }
    ]
    assert found["guests"]["wn1"]["address"] == "10.0.4.21" and found["guests"]["wn1"]["wanted"] == "running"
    assert found["roles"] == {"workers": ["site.node"]} and found["selected"] is None


def test_the_difference_shows_decisions_and_no_uuid(world: World) -> None:
    before = world.state
    decision = world.run()
    text = json.dumps(difference(world.cluster(), before, decision).before_after())
    assert "10.0.4.21" in text and "node" in text and world.row("wn1").uuid not in text
    assert not difference(world.cluster(), world.state, world.run()).changed


def test_builds_that_nobody_stands_on_are_idle(world: World) -> None:
    world.run()
    world.state = type(world.state)(
        **{**vars(world.state), "host_builds": frozenset([("node1", BUILD), ("node1", NEWER), ("node2", NEWER)])}
    )
    cluster = world.cluster()
    made = specs(cluster, world.state)
    assert [b["build_id"] for b in idle_builds(cluster, world.state, "node1", made["node1"])] == [NEWER, NEWER]
    paths = [b["path"] for b in idle_builds(cluster, world.state, "node2", made["node2"])]
    assert paths == [f"/var/lib/oscarv/builds/{NEWER}.qcow2", f"/mnt/san/builds/{NEWER}.qcow2"]


def test_tombstones_are_dropped_with_their_guests_only(world: World) -> None:
    world.run()
    row = world.row("wn1")
    stone = {"uuid": row.uuid, "epoch": 1, "state": "moved"}
    observed = {"node2": {"guests": {}, "tombstones": {row.uuid: stone}}}
    cluster = world.cluster()
    assert not any(idle_tombstones(cluster, world.state, observed, teardown=False).values())
    action = {"action": "forget", "uuid": row.uuid, "guest": "wn1", "epoch": 1}
    assert idle_tombstones(cluster, world.state, observed, teardown=True)["node2"] == [action]
    world.release("wn1", "2026-11-20T13:30:00+00:00")
    assert idle_tombstones(cluster, world.state, observed, teardown=False)["node2"] == [action]


def test_secrets_stay_sealed_until_they_are_opened() -> None:
    data = {"users": [{"name": "me", "passwd": Vaulted("$ANSIBLE_VAULT;1.1;AES256\n00")}], "plain": 1}
    shut = sealed(data)
    assert json.loads(json.dumps(shut)) == shut
    again, secret = unsealed(shut)
    assert secret and again == data
    assert unsealed({"plain": [1]}) == ({"plain": [1]}, False)
    assert reveal(again, lambda text: b"opened")["users"][0]["passwd"] == "opened"


def test_a_long_plan_is_cut_and_alike_reasons_are_told_once(world: World) -> None:
    world.workers["members"] = "wn[1:100]"
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "1 GiB"
    decision = world.decide()
    lines = plan_lines(decision.problem, decision.plan, rows=2)
    assert lines[0] == "Cluster test: 3 guests to place, 97 guests without a way"
    assert "... and 1 more" in lines
    assert sum("without a way: " in line for line in lines) == 1
    assert any("node1, node2, node3: memory: needs 1 GiB, 0 bytes free" in line for line in lines)
    assert any(line.startswith("guests placed") and "3 of 100" in line for line in lines)


# -- deploy's report ----------------------------------------------------------------------------------------------


def test_new_and_restarted_guests_are_waited_for(world: World) -> None:
    found = decided(world)
    host = {name: str(world.row(name).host) for name in ("wn1", "wn2", "wn3")}
    results = {host[name]: {"guests": {name: entry(changed=True, steps=["start"])}} for name in host}
    report = deploy_report(results, found)
    assert report["expected"] == ["wn1", "wn2", "wn3"] and report["new"][host["wn1"]] == ["wn1"]
    world.boot()
    found = decided(world)
    assert deploy_report(results, found)["expected"] == ["wn1", "wn2", "wn3"]
    assert deploy_report(results, found)["new"][host["wn1"]] == []
    quiet = {host[name]: {"guests": {name: entry()}} for name in host}
    report = deploy_report(quiet, found)
    assert (report["expected"], report["lines"], report["problems"]) == ([], [], [])


@pytest.mark.parametrize("change", [{"failed": True}, {"state": "stopped"}, {"state": "paused"}])
def test_who_does_not_run_is_not_waited_for(world: World, change: dict[str, t.Any]) -> None:
    found = decided(world)
    results = {str(world.row("wn1").host): {"guests": {"wn1": entry(**change)}}}
    assert deploy_report(results, found)["expected"] == []


def test_a_selection_narrows_what_is_waited_for_and_whose_roles_are_applied(world: World) -> None:
    world.workers["roles"] = ["site.node"]
    world.run()
    world.boot()
    found = decided(world, ["wn2"])
    results = {str(world.row(n).host): {"guests": {n: entry(steps=["start"])}} for n in ("wn1", "wn2")}
    report = deploy_report(results, found)
    assert report["expected"] == ["wn2"] and report["with_roles"] == ["wn2"]


def test_roles_are_for_guests_that_were_reached(world: World) -> None:
    world.workers["roles"] = ["site.node"]
    found = decided(world)
    results = {str(world.row(n).host): {"guests": {n: entry(steps=["start"])}} for n in ("wn1", "wn2")}
    assert deploy_report(results, found)["with_roles"] == []
    assert deploy_report(results, found, ["wn2"])["with_roles"] == ["wn2"]


def test_check_mode_does_not_tell_the_ledger_of_guests_that_it_does_not_know(world: World) -> None:
    found = result_of(world.cluster(), world.decide(), None, {})
    results = {"node1": {"guests": {"wn1": entry()}, "pruned": [{"name": "x", "uuid": "u"}]}}
    assert deploy_report(results, found)["observations"]["node1"]["guests"] == {"wn1": entry()}
    seen = deploy_report(results, found, check=True)["observations"]["node1"]
    assert seen == {"guests": {}, "pruned": [{"name": "x", "uuid": "u"}]}


def test_lines_and_problems_name_everything(world: World) -> None:
    world.data["partitions"]["hosts"]["capacity"]["memory"] = "1 GiB"
    world.workers["members"] = "wn[1:4]"
    found = decided(world)
    results = {
        "node1": {
            "guests": {
                "wn1": entry(changed=True, steps=["define", "start"]),
                "wn2": entry(failed=True, msg="no room"),
                "wn3": entry(restart_required=True, build_outdated=True),
            },
            "prunable_found": [{"name": "old"}, {"name": "gone"}, {"name": "stuck"}],
            "prune_failed": [{"name": "stuck", "msg": "still running"}],
            "pruned": [{"name": "gone"}],
            "unnamed_kept": [{"name": "who", "kept_because": "not in the ledger"}],
        },
        "node2": {"failed": True, "msg": "libvirtd is not there"},
    }
    report = deploy_report(results, found)
    assert report["lines"] == [
        "wn1 on node1: define, start",
        "Waiting for a restart, say -e oscarv_allow_restart=true: wn3",
        "On an older build, oscarv.virt.rebuild replaces the root disk: wn3",
        "node1: removed gone",
        "node1: old left the definition, or is a stale copy: say -e oscarv_prune=remove",
        "node1: who is in no spec and is kept: not in the ledger",
    ]
    assert report["problems"][0].startswith("wn4: no HostOS fits")
    assert report["problems"][1:] == [
        "wn2 on node1: no room",
        "stuck on node1: still running",
        "node2: libvirtd is not there",
    ]


def test_per_host() -> None:
    hostvars = {"a": {"x": {"y": 1}}, "b": {}}
    assert per_host(hostvars, ["a", "b", "c"], "x.y") == {"a": 1}
    assert per_host(hostvars, ["a", "b", "c"], "x.y", None) == {"a": 1, "b": None, "c": None}
