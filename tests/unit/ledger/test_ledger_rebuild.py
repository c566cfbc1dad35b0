# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, effective, problems
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_observe import observe
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Outcome, Refused
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rebuild import rebuild
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_seen import read_sights
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster

HOSTS = ("node01", "node02", "node03", "spare1", "box1")


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Cluster:
    return ledgers.cluster(tmp_path)


def recover(
    cluster: Cluster, answers: dict[str, t.Any], state: rows.LedgerState | None = None, fenced: t.Collection[str] = ()
) -> Outcome:
    """Rebuild from `answers`; HostOSes that are not named answered that they have nothing."""
    whole = {host: answers.get(host, ledgers.answer()) for host in HOSTS}
    outcome = rebuild(cluster, state or ledgers.state(), read_sights(whole, "demo", HOSTS), ledgers.STAMP, fenced)
    assert problems(state or ledgers.state(), effective(state or ledgers.state(), outcome.changes)) == []
    return outcome


def nic(number: int, address: str, mac: str | None = None) -> dict[str, t.Any]:
    mac = mac or f"52:54:00:00:00:{number:02x}"
    return {"name": "eth0", "network": "compute", "mac": mac, "addresses": [address]}


def test_every_row_of_a_guest_comes_from_its_mark(cluster: Cluster) -> None:
    entry = ledgers.entry(
        1,
        epoch=5,
        state="paused",
        nics=[nic(1, "10.0.4.1/24"), {**nic(1, "fd00::1/64", "52:54:00:00:01:01"), "name": "eth1"}],
    )
    outcome = recover(cluster, {"node02": ledgers.answer(entry, ledgers.entry(2, seed="/seed.iso", cluster="demo"))})
    first, second = outcome.changes.guests
    assert first == ledgers.guest(1, host="node02", epoch=5, state="paused", first_contact=ledgers.NOW)
    assert second.first_contact is None, "its seed is still there: nobody has reached it yet"
    assert outcome.changes.nics[:2] == (
        ledgers.nic(1),
        ledgers.nic(1, mac="52:54:00:00:01:01", position=1, addresses=("fd00::1",)),
    )
    assert outcome.changes.host_keys[0] == rows.HostKeyRow(ledgers.uuid(1), ledgers.KEY, ledgers.NOW)
    assert outcome.result["guests"] == ["wn1", "wn2"] and outcome.result["stale"] == []
    assert [row.what for row in outcome.changes.history] == ["rebuild", "rebuild"]


def test_a_lost_ledger_is_as_it_was(cluster: Cluster) -> None:
    """What the marks can tell is exactly what the ledger had."""
    lost = ledgers.state(
        *(ledgers.guest(number, host=f"node0{1 + number % 2}", first_contact=ledgers.NOW) for number in (1, 2, 3)),
        nics=[ledgers.nic(number) for number in (1, 2, 3)],
        host_keys={
            ledgers.uuid(number): rows.HostKeyRow(ledgers.uuid(number), ledgers.KEY, ledgers.NOW)
            for number in (1, 2, 3)
        },
    )
    answers = {
        "node01": ledgers.answer(ledgers.entry(2)),
        "node02": ledgers.answer(ledgers.entry(1), ledgers.entry(3)),
    }
    found = applied(ledgers.state(), recover(cluster, answers).changes)
    assert (found.guests, found.nics, found.host_keys) == (lost.guests, lost.nics, lost.host_keys)
    again = recover(cluster, answers, found)
    assert again.changes == rows.Changes() and again.result["known"] == ["wn1", "wn2", "wn3"]


def test_rows_that_are_there_are_never_changed(cluster: Cluster) -> None:
    state = ledgers.state(ledgers.guest(1, host="node03", epoch=9), nics=[ledgers.nic(1)])
    outcome = recover(cluster, {"node01": ledgers.answer(ledgers.entry(1), ledgers.entry(2))}, state)
    assert [row.name for row in outcome.changes.guests] == ["wn2"]
    assert outcome.result["known"] == ["wn1"]


def test_the_newer_of_two_copies_is_the_guest(cluster: Cluster) -> None:
    answers = {
        "node01": ledgers.answer(ledgers.entry(1, state="stopped", epoch=1), stones=[ledgers.stone(1, 1)]),
        "node02": ledgers.answer(ledgers.entry(1, epoch=2)),
    }
    outcome = recover(cluster, answers)
    assert [(row.host, row.epoch) for row in outcome.changes.guests] == [("node02", 2)]
    (stale,) = outcome.result["stale"]
    assert (stale["guest"], stale["host"], stale["epoch"]) == ("wn1", "node01", 1)
    assert "node01" in outcome.warnings[0] and "stale" in outcome.warnings[0]
    assert [(item["host"], item["action"]) for item in outcome.result["cleanup"]] == [("node01", "write_tombstone")]


def test_a_move_that_was_cut_off_leaves_a_tombstone_to_drop(cluster: Cluster) -> None:
    outcome = recover(cluster, {"node01": ledgers.answer(ledgers.entry(1), stones=[ledgers.stone(1, 1)])})
    assert [(item["host"], item["action"]) for item in outcome.result["cleanup"]] == [("node01", "drop_tombstone")]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"node01": ledgers.answer(ledgers.entry(1)), "node02": ledgers.answer(ledgers.entry(1, epoch=2))},
            ["wn1", "runs on node02 (running, epoch 2) and on node01 (running, epoch 1)", "power one off"],
        ),
        (
            {
                "node01": ledgers.answer(ledgers.entry(1, state="stopped")),
                "node02": ledgers.answer(ledgers.entry(1, state="stopped")),
            },
            ["wn1", "copies of one epoch", "node01", "node02"],
        ),
        (
            {
                "node01": ledgers.answer(ledgers.entry(1)),
                "node02": ledgers.answer(ledgers.entry(1, state="stopped", epoch=2)),
            },
            ["wn1", "runs on node01", "newer copy is on node02"],
        ),
        (
            {
                "node01": ledgers.answer(ledgers.entry(1)),
                "node02": ledgers.answer(stones=[ledgers.stone(1, 3, "moved")]),
            },
            ["wn1", "tombstone has epoch 3", "only 1", "not among these HostOSes"],
        ),
        (
            {
                "node01": ledgers.answer(ledgers.entry(1)),
                "node02": ledgers.answer(ledgers.entry(2, nics=[nic(2, "10.0.4.1/24")])),
            },
            ["wn1", "wn2", "both marks claim 10.0.4.1", "realm default"],
        ),
        (
            {
                "node01": ledgers.answer(ledgers.entry(1)),
                "node02": ledgers.answer(ledgers.entry(2, nics=[nic(2, "10.0.4.2/24", "52:54:00:00:00:01")])),
            },
            ["wn1", "wn2", "both marks claim 52:54:00:00:00:01 (MAC)"],
        ),
        (
            {"node01": ledgers.answer(ledgers.entry(1)), "node02": ledgers.answer(ledgers.entry(2, guest="wn1"))},
            ["guest wn1: two guests of this name, on node01 and node02"],
        ),
        ({"node01": ledgers.answer(ledgers.entry(1, epoch=0))}, ["wn1", "node01", "no epoch"]),
        ({"node01": ledgers.answer(ledgers.entry(1, build_id="latest"))}, ["wn1", "build_id", "latest"]),
        ({"node01": ledgers.answer(ledgers.entry(1, partition=None))}, ["wn1", "partition"]),
        ({"node01": ledgers.answer(ledgers.entry(1, nics=[nic(1, "10.0.4.300/24")]))}, ["wn1", "10.0.4.300"]),
        ({"node01": ledgers.answer(ledgers.entry(1, nics=[{"network": "compute"}]))}, ["wn1", "NIC 0", "mac"]),
        ({"node02": None}, ["node02", "did not answer", "fenced"]),
        ({"node02": {"guests": {}}}, ["node02", "complete list", "guest_info"]),
    ],
)
def test_what_cannot_be_told_is_refused(cluster: Cluster, answers: dict[str, t.Any], words: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        recover(cluster, answers)
    for word in words:
        assert word in str(caught.value)


def test_everything_in_the_way_is_said_at_once(cluster: Cluster) -> None:
    with pytest.raises(Refused) as caught:
        recover(cluster, {"node01": None, "node02": None})
    assert len(caught.value.errors) == 2


def test_a_host_that_is_off_for_good_is_recorded_as_fenced(cluster: Cluster) -> None:
    outcome = recover(cluster, {"node02": None, "node01": ledgers.answer(ledgers.entry(1))}, fenced=["node02"])
    assert outcome.changes.hosts == (rows.HostRow("node02", "kvm", fenced=ledgers.NOW),)
    with pytest.raises(Refused, match="node02: is called fenced but it answered"):
        recover(cluster, {}, fenced=["node02"])
    with pytest.raises(Refused, match="host nowhere: fenced: not a HostOS"):
        recover(cluster, {}, fenced=["nowhere"])


def test_a_nic_that_somebody_added_by_hand_is_not_ours(cluster: Cluster) -> None:
    by_hand = {"mac": "52:54:00:00:00:99", "bridge": "br9", "model": "virtio"}
    second = {**nic(1, "10.0.4.9/24", "52:54:00:00:00:02"), "name": "eth1"}
    nics = [second, by_hand, nic(1, "10.0.4.1/24")]
    outcome = recover(cluster, {"node01": ledgers.answer(ledgers.entry(1, nics=nics))})
    assert sorted((row.position, row.mac) for row in outcome.changes.nics) == [
        (0, "52:54:00:00:00:01"),
        (1, "52:54:00:00:00:02"),
    ]
    assert "52:54:00:00:00:99" in outcome.warnings[0]


def test_the_realm_is_the_definitions(cluster: Cluster) -> None:
    lab = dataclasses.replace(cluster.networks["compute"], realm="lab")
    other = dataclasses.replace(cluster, networks={"compute": lab})
    assert recover(other, {"node01": ledgers.answer(ledgers.entry(1))}).changes.nics[0].realm == "lab"
    unknown = dataclasses.replace(cluster, networks={})
    outcome = recover(unknown, {"node01": ledgers.answer(ledgers.entry(1))})
    assert outcome.changes.nics[0].realm == "default" and "'compute' is not in the definition" in outcome.warnings[0]


def test_after_an_old_backup_was_restored_the_way_that_the_message_names_leads_to_reality(
    cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    """wn1 moved since the backup. With its row there a rebuild does nothing; with the ledger emptied it is found."""
    ledger = ledgers.ledger(tmp_path)
    with ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(1),), nics=(ledgers.nic(1),), moves=(ledgers.move(1),)))
    answers = {"node02": ledgers.answer(ledgers.entry(1, epoch=5))}
    sights = read_sights({host: answers.get(host, ledgers.answer()) for host in HOSTS}, "demo", HOSTS)
    backup = ledgers.state(ledgers.guest(1, host="node02"))
    (said,) = observe(backup, sights, ledgers.STAMP, 3600).warnings
    for word in ("import an empty document", "`replace: true`", "oscarv.virt.settle", "docs/how-to/ledger.md"):
        assert word in said
    assert recover(cluster, answers, ledger.state()).changes == rows.Changes()

    empty = {"format": "oscarv.virt ledger", "schema": 1, "cluster": "demo", "revision": 0}
    history = rows.HistoryRow(ledgers.NOW, "alice", None, "import", "demo", "a document")
    assert ledger.import_(empty, history, replace=True) is not None
    assert ledger.import_(empty, history, replace=True) is None, "there is nothing more to empty"
    assert (ledger.state().guests, ledger.state().moves, len(ledger.history())) == ({}, {}, 1)
    with ledger.transaction() as tx:
        tx.write(recover(cluster, answers, tx.state).changes)
    found = ledger.state().guests[ledgers.uuid(1)]
    assert (found.host, found.epoch, list(ledger.state().nics)) == ("node02", 5, [ledgers.nic(1).mac])
    assert observe(ledger.state(), sights, ledgers.STAMP, 3600).warnings == ()
