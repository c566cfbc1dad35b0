# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import pathlib
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_moves as moves
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, problems
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Outcome, Refused
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Cluster:
    return ledgers.cluster(tmp_path)


def begin(cluster: Cluster, state: rows.LedgerState, *wishes: dict[str, t.Any]) -> Outcome:
    ids = itertools.count(1)
    return moves.begin(cluster, state, wishes, ledgers.STAMP, lambda: f"move-{next(ids)}")


def end(state: rows.LedgerState, outcome: str, id_: str = "move-1", *ended: rows.MoveRow) -> Outcome:
    wishes = [{"id": id_, "outcome": outcome, "message": "seen on both sides"}]
    return moves.end(state, {move.id: move for move in ended}, wishes, ledgers.STAMP)


def test_a_move_is_begun_with_the_next_epoch_and_the_guest_is_not_changed(cluster: Cluster) -> None:
    state = ledgers.state(ledgers.guest(1), ledgers.guest(2, epoch=4), epochs={ledgers.uuid(2): 6})
    outcome = begin(
        cluster, state, {"guest": "wn1", "target": "node02"}, {"guest": "wn2", "target": "node03", "mode": "cold"}
    )
    assert outcome.changes.guests == ()
    assert outcome.changes.moves == (
        ledgers.move(1),
        ledgers.move(2, target="node03", epoch_from=4, epoch_to=7, mode="cold"),
    )
    first = outcome.result["moves"][0]
    assert {
        key: first[key] for key in ("id", "guest", "uuid", "source", "target", "mode", "epoch_from", "epoch_to")
    } == {
        "id": "move-1",
        "guest": "wn1",
        "uuid": ledgers.uuid(1),
        "source": "node01",
        "target": "node02",
        "mode": "live",
        "epoch_from": 1,
        "epoch_to": 2,
    }
    assert [row.subject for row in outcome.changes.history] == ["wn1", "wn2"]
    assert problems(state, outcome.changes) == []


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"guest": "wn9", "target": "node02"}, ["wn9", "not in the ledger"]),
        ({"guest": "wn1", "target": "nowhere"}, ["wn1", "'nowhere'", "not a HostOS"]),
        ({"guest": "wn1", "target": "node01"}, ["wn1", "on node01 already"]),
        ({"guest": "wn1", "target": "box1"}, ["wn1", "kvm", "box1", "lxc"]),
        ({"guest": "wn1", "target": "spare1"}, ["wn1", "kvmhosts", "spare1", "partition spare"]),
        ({"guest": "wn1", "target": "node02", "source": "node03"}, ["wn1", "node01", "not on node03"]),
        ({"guest": "wn1", "target": "node02", "mode": "warm"}, ["wn1", "'warm'", "live, cold"]),
        ({"guest": "wn1", "target": "node02", "speed": 1}, ["wn1", "'speed'"]),
        ({"guest": "wn2", "target": "node02"}, ["wn2", "planned", "deploy"]),
        ({"guest": "wn3", "target": "node02"}, ["wn3", "move-3", "node01", "in flight", "settle"]),
        ({"guest": "wn4", "target": "node02"}, ["wn4", "leaving"]),
        ({"guest": "wn1", "target": "node03"}, ["wn1", "node03", "fenced since x"]),
        ({"guest": "wn6", "target": "node01"}, ["wn6", "node03", "fenced", "off"]),
        ({"guest": "wn6", "target": "node02"}, ["node02", "maintenance: fan"]),
    ],
)
def test_a_move_that_cannot_be_is_refused_and_so_are_all_with_it(
    cluster: Cluster, wish: dict[str, t.Any], words: list[str]
) -> None:
    hosts = [rows.HostRow("node03", "kvm", fenced="x")]
    if "maintenance: fan" in words:
        hosts.append(rows.HostRow("node02", "kvm", maintenance="fan"))
    state = ledgers.state(
        ledgers.guest(1),
        ledgers.guest(2, state="planned"),
        ledgers.guest(3),
        ledgers.guest(4, state="leaving"),
        ledgers.guest(5),
        ledgers.guest(6, host="node03"),
        moves=[ledgers.move(3)],
        hosts=hosts,
    )
    with pytest.raises(Refused) as caught:
        begin(cluster, state, {"guest": "wn5", "target": "node02"}, wish)
    for word in words:
        assert word in str(caught.value)


def test_a_guest_twice_in_one_list_is_refused(cluster: Cluster) -> None:
    with pytest.raises(Refused, match="wn1: is in the list twice"):
        wishes = {"guest": "wn1", "target": "node02"}, {"guest": "wn1", "target": "node03"}
        begin(cluster, ledgers.state(ledgers.guest(1)), *wishes)


def test_a_committed_move_raises_the_guests_epoch_and_changes_its_host() -> None:
    state = ledgers.state(ledgers.guest(1), moves=[ledgers.move(1)])
    outcome = end(state, "committed")
    assert outcome.changes.guests == (ledgers.guest(1, host="node02", epoch=2),)
    over = ledgers.move(1, state="committed", ended=ledgers.NOW, message="seen on both sides")
    assert outcome.changes.moves == (over,)
    assert [row.what for row in outcome.changes.history] == ["commit"]
    after = applied(state, outcome.changes)
    assert after.moves == {}
    assert end(after, "committed", "move-1", over).changes == rows.Changes()


def test_an_aborted_move_leaves_the_guest_and_its_epoch_is_never_used_again(cluster: Cluster) -> None:
    state = ledgers.state(ledgers.guest(1), moves=[ledgers.move(1)])
    outcome = end(state, "aborted")
    assert outcome.changes.guests == (ledgers.guest(1),)
    after = applied(state, outcome.changes)
    (second,) = begin(cluster, after, {"guest": "wn1", "target": "node03"}).changes.moves
    assert (second.epoch_from, second.epoch_to) == (1, 3)


@pytest.mark.parametrize(
    ("id_", "outcome", "words"),
    [
        ("move-9", "committed", ["move-9", "not in the ledger"]),
        ("move-1", "won", ["move-1", "'won'", "committed, aborted"]),
        ("move-2", "committed", ["move-2", "aborted at x", "cannot become committed"]),
    ],
)
def test_an_end_that_cannot_be_is_refused(id_: str, outcome: str, words: list[str]) -> None:
    state = ledgers.state(ledgers.guest(1), moves=[ledgers.move(1)])
    with pytest.raises(Refused) as caught:
        end(state, outcome, id_, ledgers.move(2, state="aborted", ended="x"))
    for word in words:
        assert word in str(caught.value)


XEN = ledgers.DEFINITION.replace(
    '  lxchosts: {hypervisor: lxc, members: "box1"}\n',
    '  lxchosts: {hypervisor: lxc, members: "box1"}\n  xenhosts: {hypervisor: xen, members: "node21"}\n',
).replace("on: [kvmhosts]", "on: [kvmhosts, xenhosts, lxchosts]")


@pytest.fixture
def mixed(tmp_path: pathlib.Path) -> Cluster:
    from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load

    return load(str(ledgers.definition(tmp_path, XEN)))


def test_between_hypervisors_a_guest_only_moves_cold(mixed: Cluster) -> None:
    facts = {"acceleration": "xen"}
    xen = rows.HostRow("node21", "xen", facts=facts)
    state = ledgers.state(ledgers.guest(1), hosts=[xen])
    for mode in ({}, {"mode": "live"}):
        with pytest.raises(Refused, match="guest wn1: runs on kvm, target node21 has xen: between hypervisors only"):
            begin(mixed, state, {"guest": "wn1", "target": "node21", **mode})
    outcome = begin(mixed, state, {"guest": "wn1", "target": "node21", "mode": "cold"})
    begun = outcome.result["moves"][0]
    assert (begun["target_hypervisor"], begun["target_acceleration"]) == ("xen", "xen")
    after = applied(state, outcome.changes)
    row = end(after, "committed").changes.guests[0]
    assert (row.host, row.hypervisor, row.epoch) == ("node21", "xen", 2)


def test_a_container_leaves_openvz_for_lxc_and_not_back(tmp_path: pathlib.Path) -> None:
    from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load

    text = XEN.replace("  xenhosts: {hypervisor: xen", "  vzhosts: {hypervisor: openvz").replace("xenhosts", "vzhosts")
    cluster = load(str(ledgers.definition(tmp_path, text)))
    state = ledgers.state(ledgers.guest(1, host="node21", hypervisor="openvz"))
    with pytest.raises(Refused, match="between hypervisors only mode cold"):
        begin(cluster, state, {"guest": "wn1", "target": "box1"})
    begun = begin(cluster, state, {"guest": "wn1", "target": "box1", "mode": "cold"}).result["moves"][0]
    assert begun["target_hypervisor"] == "lxc"
    state = ledgers.state(ledgers.guest(1, host="box1", hypervisor="lxc"))
    with pytest.raises(Refused, match="target node21 has openvz: their guests' disks differ"):
        begin(cluster, state, {"guest": "wn1", "target": "node21", "mode": "cold"})


def test_a_container_host_takes_no_disks(mixed: Cluster) -> None:
    state = ledgers.state(ledgers.guest(1))
    with pytest.raises(Refused, match="target box1 has lxc: their guests' disks differ"):
        begin(mixed, state, {"guest": "wn1", "target": "box1", "mode": "cold"})
