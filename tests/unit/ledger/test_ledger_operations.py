# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_operations as operations
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, effective
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Outcome, Refused
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster

S = ledgers.STAMP
AFTERWARDS = dataclasses.replace(S, now=ledgers.LATER)
INFO: dict[str, t.Any] = {
    "hostos": {
        "hypervisor": "kvm",
        "versions": {"libvirt": "9.0.0"},
        "capacity": {"vcpus": 8, "memory": 2**36, "disk": 2**40},
        "acceleration": "tcg",
        "acceleration_reason": "no vmx or svm flag",
        "cpu": {"model": "qemu64", "features": ["sse"], "xml": "<cpu/>"},
        "capabilities": {"pause": {"supported": True, "reason": ""}},
        "foreign": {"vcpus": 1, "memory": 2**30, "disk": 0, "guests": 1},
    }
}
BUILD_FIELDS: dict[str, t.Any] = {
    "build_id": ledgers.BUILD,
    "image": "worker",
    "recipe_id": "cd" * 32,
    "size": 100,
    "virtual_size": 200,
    "url": "http://builder/x.qcow2",
}


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Cluster:
    return ledgers.cluster(tmp_path)


def again(state: rows.LedgerState, operation: t.Callable[[rows.LedgerState], Outcome]) -> rows.LedgerState:
    """Apply an operation; it changes something and leaves history; a second time it changes nothing."""
    changes = effective(state, operation(state).changes)
    assert not changes.empty and changes.history
    after = applied(state, changes)
    assert effective(after, operation(after).changes).empty
    assert not operation(after).changes.history
    return after


def test_a_measured_host_is_recorded(cluster: Cluster) -> None:
    state = again(ledgers.state(), lambda state: operations.record_hosts(cluster, state, {"node01": INFO}, S))
    row = state.hosts["node01"]
    assert (row.hypervisor, row.vcpus, row.memory, row.disk, row.seen) == ("kvm", 8, 2**36, 2**40, ledgers.NOW)
    assert (row.foreign_vcpus, row.foreign_memory, row.foreign_disk) == (1, 2**30, 0)
    assert (
        row.cpu["xml"] == "<cpu/>"
        and row.facts["acceleration"] == "tcg"
        and set(row.facts)
        == {
            "versions",
            "acceleration",
            "acceleration_reason",
            "capabilities",
        }
    )
    later = operations.record_hosts(cluster, state, {"node01": INFO}, AFTERWARDS)
    assert effective(state, later.changes).empty, "the same measures at another time are no news"


def test_measuring_keeps_what_operators_said(cluster: Cluster) -> None:
    state = ledgers.state(hosts=[rows.HostRow("node01", "kvm", maintenance="fan", fenced="x")])
    (row,) = operations.record_hosts(cluster, state, {"node01": INFO["hostos"]}, S).changes.hosts
    assert (row.maintenance, row.fenced, row.vcpus) == ("fan", "x", 8)


def test_a_baseline_is_the_same_for_all_of_a_partition_and_outlives_a_measure(cluster: Cluster) -> None:
    both = {"node01": INFO, "node02": INFO}
    state = again(ledgers.state(), lambda state: operations.record_hosts(cluster, state, both, S))
    for model in ("Skylake", "Haswell"):
        cpu = {**INFO["hostos"]["cpu"], "baseline": {"model": model, "features": {}}}
        brought = {"node01": INFO, "node02": {"hostos": {**INFO["hostos"], "cpu": cpu}}}
        state = again(state, lambda state, infos=brought: operations.record_hosts(cluster, state, infos, S))
        state = applied(state, operations.record_hosts(cluster, state, both, S).changes)
        assert {state.hosts[name].cpu["baseline"]["model"] for name in both} == {model}


def test_a_capacity_may_be_written_with_units(cluster: Cluster) -> None:
    info = {**INFO["hostos"], "capacity": {"vcpus": 4, "memory": "4 GiB", "disk": "20 GB"}}
    (row,) = operations.record_hosts(cluster, ledgers.state(), {"node01": info}, S).changes.hosts
    assert (row.vcpus, row.memory) == (4, 4 * 2**30)
    assert row.disk is not None and 0 <= row.disk - 20 * 10**9 < 2**20


@pytest.mark.parametrize(
    ("infos", "words"),
    [
        ({"elsewhere": INFO}, ["elsewhere", "not a HostOS", "demo.oscarv.yml"]),
        ({"node01": {"hostos": {**INFO["hostos"], "hypervisor": "xen"}}}, ["node01", "xen", "kvmhosts", "kvm"]),
        ({"node01": {}}, ["node01", "hostos_info"]),
        ({"node01": {"hostos": {**INFO["hostos"], "capacity": {"vcpus": "8"}}}}, ["node01", "capacity.vcpus", "'8'"]),
        ({"node01": {"hostos": {**INFO["hostos"], "foreign": {"disk": -1}}}}, ["node01", "foreign.disk", "-1"]),
        (
            {"node01": {"hostos": {**INFO["hostos"], "capacity": {"memory": "4096"}}}},
            ["node01", "capacity.memory", "unit"],
        ),
        ({"node01": {}, "node02": {}}, ["node01", "node02"]),
    ],
)
def test_a_measure_that_cannot_be_is_refused(cluster: Cluster, infos: dict[str, t.Any], words: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        operations.record_hosts(cluster, ledgers.state(), infos, S)
    for word in words:
        assert word in str(caught.value)


def test_a_build_is_recorded_once(cluster: Cluster) -> None:
    state = again(ledgers.state(), lambda state: operations.record_build(state, BUILD_FIELDS, S))
    assert state.builds[ledgers.BUILD].created == ledgers.NOW
    assert effective(state, operations.record_build(state, BUILD_FIELDS, AFTERWARDS).changes).empty
    moved = operations.record_build(state, {**BUILD_FIELDS, "url": "http://other/x"}, AFTERWARDS).changes.builds[0]
    assert (moved.url, moved.created) == ("http://other/x", ledgers.NOW)


def test_a_build_that_is_made_again_by_an_older_recipe_is_the_current_one(cluster: Cluster) -> None:
    other = {**BUILD_FIELDS, "build_id": "f" * 64, "recipe_id": "e" * 64}
    state = again(ledgers.state(), lambda state: operations.record_build(state, BUILD_FIELDS, S))
    state = again(state, lambda state: operations.record_build(state, other, AFTERWARDS))
    assert rows.newest_builds(state)[other["image"]].build_id == "f" * 64
    later = dataclasses.replace(AFTERWARDS, now="2031-01-01T00:00:00Z")
    state = again(state, lambda state: operations.record_build(state, BUILD_FIELDS, later))
    assert rows.newest_builds(state)[other["image"]].build_id == ledgers.BUILD
    assert effective(state, operations.record_build(state, BUILD_FIELDS, AFTERWARDS).changes).empty


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, ["'colour'", "known keys: build_id"]),
        ({"recipe_id": None}, ["'recipe_id' is missing"]),
        ({"size": "100"}, ["size", "'100'", "bytes"]),
    ],
)
def test_a_build_that_is_wrong_is_refused(change: dict[str, t.Any], words: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        operations.record_build(ledgers.state(), {**BUILD_FIELDS, **change}, S)
    for word in words:
        assert word in str(caught.value)


def test_builds_on_hosts_are_added_and_with_exact_forgotten(cluster: Cluster) -> None:
    first, second = "aa" * 32, "bb" * 32

    def add(builds: dict[str, list[str]], exact: bool) -> t.Callable[[rows.LedgerState], Outcome]:
        return lambda state: operations.record_host_builds(cluster, state, builds, S, exact=exact)

    state = again(ledgers.state(), add({"node01": [first, first], "node02": [first]}, False))
    state = again(state, add({"node01": [second]}, False))
    assert state.host_builds == {("node01", first), ("node01", second), ("node02", first)}
    state = again(state, add({"node01": [second]}, True))
    assert state.host_builds == {("node01", second), ("node02", first)}
    with pytest.raises(Refused, match="host nowhere: not a HostOS"):
        operations.record_host_builds(cluster, state, {"nowhere": [first]}, S, exact=False)


def test_first_contact_is_recorded_once() -> None:
    state = ledgers.state(ledgers.guest(1), ledgers.guest(2))
    state = again(state, lambda state: operations.first_contact(state, ["wn1", "wn1"], S))
    assert state.guests[ledgers.uuid(1)].first_contact == ledgers.NOW
    assert state.guests[ledgers.uuid(2)].first_contact is None
    with pytest.raises(Refused, match="guest wn8: not in the ledger of cluster demo\nguest wn9: "):
        operations.first_contact(state, ["wn8", "wn1", "wn9"], S)


def test_fence_unfence_and_maintenance(cluster: Cluster) -> None:
    state = ledgers.state(ledgers.guest(1), ledgers.guest(2, host="node02"))
    state = again(state, lambda state: operations.fence(cluster, state, "node01", S))
    assert state.hosts["node01"] == rows.HostRow("node01", "kvm", fenced=ledgers.NOW)
    assert operations.fence(cluster, state, "node01", S).result == {"guests": ["wn1"]}
    state = again(state, lambda state: operations.maintenance(cluster, state, "node01", "fan", S))
    state = again(state, lambda state: operations.unfence(cluster, state, "node01", S))
    assert state.hosts["node01"] == rows.HostRow("node01", "kvm", maintenance="fan")
    state = again(state, lambda state: operations.maintenance(cluster, state, "node01", "", S))
    assert state.hosts["node01"].maintenance is None
    for operation in (operations.fence, operations.unfence):
        with pytest.raises(Refused, match="host nowhere: not a HostOS of cluster demo"):
            operation(cluster, state, "nowhere", S)


def test_release_of_a_fenced_hosts_guests() -> None:
    state = ledgers.state(
        ledgers.guest(1, state="leaving"),
        ledgers.guest(2, state="leaving", host="node02"),
        ledgers.guest(3, state="leaving", host=None),
        ledgers.guest(4),
        nics=[ledgers.nic(1), ledgers.nic(2), ledgers.nic(4)],
        hosts=[rows.HostRow("node01", "kvm", fenced="x")],
    )
    after = again(state, lambda state: operations.release(state, None, S, 3600))
    assert {row.name: row.state for row in after.guests.values()} == {
        "wn1": "released",
        "wn2": "leaving",
        "wn3": "released",
        "wn4": "running",
    }
    assert [nic.free_after for nic in after.nics.values()] == [ledgers.LATER, None, None]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wn1", ["node01 must prove", "fence"]),
        ("wn2", ["is running", "leaving"]),
        ("wn3", ["move-3", "settle"]),
        ("wn4", ["not in the ledger"]),
    ],
)
def test_a_named_guest_that_cannot_be_released_is_refused(name: str, words: list[str]) -> None:
    state = ledgers.state(
        ledgers.guest(1, state="leaving"),
        ledgers.guest(2),
        ledgers.guest(3, state="leaving", host="node02"),
        moves=[ledgers.move(3)],
        hosts=[rows.HostRow("node02", "kvm", fenced="x")],
    )
    with pytest.raises(Refused) as caught:
        operations.release(state, [name], S, 3600)
    for word in [name, *words]:
        assert word in str(caught.value)
