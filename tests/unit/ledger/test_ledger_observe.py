# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, effective
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_observe import observe
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Outcome, Refused
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_seen import read_sight, read_sights

HOSTS = ("node01", "node02", "node03")


def look(state: rows.LedgerState, **answers: t.Any) -> Outcome:
    return observe(state, read_sights(answers, "demo", HOSTS), ledgers.STAMP, 3600)


def only(outcome: Outcome) -> rows.GuestRow:
    (row,) = outcome.changes.guests
    return row


@pytest.mark.parametrize(
    ("seen", "known", "becomes"),
    [
        ("running", "planned", "running"),
        ("running", "absent", "running"),
        ("paused", "running", "paused"),
        ("stopped", "running", "stopped"),
        ("saved", "running", "saved"),
        ("crashed", "running", "stopped"),
        ("moving", "running", None),
        ("running", "running", None),
        ("running", "leaving", None),
    ],
)
def test_what_is_seen_becomes_the_state(seen: str, known: str, becomes: str | None) -> None:
    state = ledgers.state(
        ledgers.guest(1, state=known), host_keys={ledgers.uuid(1): rows.HostKeyRow(ledgers.uuid(1), ledgers.KEY, "x")}
    )
    outcome = look(state, node01=ledgers.answer(ledgers.entry(1, state=seen)))
    if becomes is None:
        assert outcome.changes == rows.Changes()
        return
    assert only(outcome) == ledgers.guest(1, state=becomes)
    assert outcome.result["states"] == {"wn1": becomes}
    (history,) = outcome.changes.history
    assert (history.at, history.who, history.job, history.subject) == (ledgers.NOW, "alice", "17", "wn1")
    assert history.why == f"seen {becomes} on node01, was {known}"


def test_a_second_look_changes_nothing() -> None:
    state = ledgers.state(ledgers.guest(1, state="planned"), ledgers.guest(2, state="leaving"), nics=[ledgers.nic(2)])
    answers = {"node01": ledgers.answer(ledgers.entry(1))}
    outcome = look(state, **answers)
    assert not outcome.changes.empty
    after = applied(state, effective(state, outcome.changes))
    assert effective(after, look(after, **answers).changes).empty


def test_the_module_guest_answers_by_name() -> None:
    state = ledgers.state(ledgers.guest(1, state="planned"), ledgers.guest(2), ledgers.guest(3, state="leaving"))
    result = {
        "guests": {
            "wn1": {"uuid": ledgers.uuid(1), "state": "running", "epoch": 1, "failed": False, "host_key": ledgers.KEY},
            "wn2": {"uuid": ledgers.uuid(2), "failed": True, "msg": "no", "state": None},
        }
    }
    outcome = look(state, node01=result)
    assert only(outcome) == ledgers.guest(1)
    assert outcome.changes.host_keys == (rows.HostKeyRow(ledgers.uuid(1), ledgers.KEY, ledgers.NOW),)
    assert outcome.result["host_keys"] == ["wn1"]


def test_a_leaving_guest_is_released_when_its_host_proves_its_absence() -> None:
    nics = [ledgers.nic(1), ledgers.nic(2)]
    state = ledgers.state(ledgers.guest(1, state="leaving"), ledgers.guest(2), nics=nics)
    outcome = look(state, node01=ledgers.answer(ledgers.entry(2)))
    assert only(outcome) == ledgers.guest(1, state="released", released=ledgers.NOW)
    assert outcome.changes.nics == (ledgers.nic(1, free_after=ledgers.LATER),)
    assert outcome.result["released"] == ["wn1"]
    assert outcome.changes.history[0].what == "release"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, "nobody answered"),
        ({"node01": None}, "its host could not be reached"),
        ({"node01": {"unreachable": True, "msg": "timed out"}}, "its host could not be reached"),
        ({"node01": {"failed": True, "msg": "libvirtd is down"}}, "its host could not answer"),
        ({"node01": {"skipped": True, "changed": False}}, "its host was not asked"),
        ({"node02": ledgers.answer()}, "another host answered"),
        ({"node01": ledgers.answer(ledgers.entry(1, state="stopped"))}, "it is there"),
        ({"node01": ledgers.answer(ledgers.entry(1, epoch=9))}, "a copy is there, if not the ledger's"),
        ({"node01": {"guests": {}}}, "a list that need not be complete"),
        ({"node01": {"guests": {"wn2": {"uuid": ledgers.uuid(2), "state": "running", "epoch": 1}}}}, "by name"),
        ({"node01": {"guests": {"wn1": {"uuid": ledgers.uuid(1), "failed": True, "state": "absent"}}}}, "failed"),
        ({"node01": ledgers.answer(), "node02": ledgers.answer(ledgers.entry(1))}, "it is on another host"),
        ({"node01": ledgers.answer(stones=[ledgers.stone(1)])}, "its host says that it moved away"),
        ({"node01": ledgers.answer(stones=[ledgers.stone(1, 0, "unreadable")])}, "its tombstone cannot be read"),
    ],
)
def test_nothing_less_than_a_proof_releases(answers: dict[str, t.Any], why: str) -> None:
    state = ledgers.state(ledgers.guest(1, state="leaving"), nics=[ledgers.nic(1)])
    outcome = look(state, **answers)
    assert not outcome.result["released"], why
    assert not outcome.changes.nics and not outcome.changes.guests, why


@pytest.mark.parametrize(
    "answer",
    [
        {"guests": {"wn1": {"uuid": ledgers.uuid(1), "state": "absent", "epoch": 1}}},
        {"guests": {}, "pruned": [{"name": "wn1", "uuid": ledgers.uuid(1)}]},
        ledgers.answer(stones=[ledgers.stone(1, 0, "moved")]),
    ],
)
def test_a_guest_that_was_removed_is_released(answer: dict[str, t.Any]) -> None:
    state = ledgers.state(ledgers.guest(1, state="leaving"), nics=[ledgers.nic(1)])
    assert look(state, node01=answer).result["released"] == ["wn1"]


def test_a_leaving_guest_that_never_had_a_host_is_released() -> None:
    state = ledgers.state(ledgers.guest(1, state="leaving", host=None), nics=[ledgers.nic(1)])
    assert look(state).result["released"] == ["wn1"]


def test_a_move_in_flight_is_left_to_settle() -> None:
    state = ledgers.state(ledgers.guest(1, state="leaving"), ledgers.guest(2), moves=[ledgers.move(1), ledgers.move(2)])
    outcome = look(state, node01=ledgers.answer(), node02=ledgers.answer(ledgers.entry(2, epoch=2)))
    assert outcome.changes == rows.Changes() and outcome.warnings == ()


@pytest.mark.parametrize(("known", "becomes"), [("running", "absent"), ("stopped", "absent"), ("planned", None)])
def test_a_guest_that_is_not_where_it_should_be_is_absent_and_keeps_its_addresses(
    known: str, becomes: str | None
) -> None:
    state = ledgers.state(ledgers.guest(1, state=known), nics=[ledgers.nic(1)])
    outcome = look(state, node01=ledgers.answer())
    assert [row.state for row in outcome.changes.guests] == ([becomes] if becomes else [])
    assert outcome.changes.nics == ()


@pytest.mark.parametrize(
    ("row", "host", "epoch", "words"),
    [
        (ledgers.guest(1, host="node02", epoch=2), "node01", 1, ["epoch 1", "node02", "epoch 2", "stale copy"]),
        (ledgers.guest(1, host=None), "node01", 1, ["stale copy"]),
        (ledgers.guest(1, state="released"), "node01", 1, ["released", "pruning"]),
        (ledgers.guest(1), "node01", 5, ["epoch 5", "only 1", "older than reality", "empty document", "settle"]),
        (ledgers.guest(1, epoch=3), "node01", 2, ["epoch 2", "ledger 3", "deploy"]),
    ],
)
def test_a_copy_that_the_ledger_does_not_mean_is_reported_and_not_believed(
    row: rows.GuestRow, host: str, epoch: int, words: list[str]
) -> None:
    outcome = look(
        ledgers.state(row), **{host: ledgers.answer(ledgers.entry(1, epoch=epoch, host_key=ledgers.OTHER_KEY))}
    )
    assert outcome.changes == rows.Changes()
    ((stale,), (warning,)) = outcome.result["stale"], outcome.warnings
    assert (stale["guest"], stale["host"], stale["epoch"]) == ("wn1", host, epoch)
    for word in ["wn1", host, *words]:
        assert word in warning


def test_a_marked_guest_that_the_ledger_does_not_have_is_reported() -> None:
    outcome = look(ledgers.state(), node01=ledgers.answer(ledgers.entry(1)))
    assert outcome.result["unknown"][0]["guest"] == "wn1"
    assert "not in the ledger" in outcome.warnings[0] and "rebuild" in outcome.warnings[0]


def test_guests_of_other_clusters_are_not_ours() -> None:
    outcome = look(ledgers.state(), node01=ledgers.answer(ledgers.entry(1, cluster="other")))
    assert outcome.result["unknown"] == [] and outcome.warnings == ()


def test_a_changed_host_key_is_recorded_with_its_history() -> None:
    old = rows.HostKeyRow(ledgers.uuid(1), ledgers.OTHER_KEY, "x")
    state = ledgers.state(ledgers.guest(1), host_keys={ledgers.uuid(1): old})
    outcome = look(state, node01=ledgers.answer(ledgers.entry(1)))
    assert outcome.changes.host_keys[0].key == ledgers.KEY
    assert outcome.changes.history[0].why.startswith("host key changed from node01")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (["wn1"], ["node01", "guest_info"]),
        ({"guests": ["wn1"]}, ["node01", "guests"]),
        ({"guests": {"wn1": "running"}}, ["node01", "wn1", "mapping"]),
        ({"guests": {"wn1": {"state": "running"}}}, ["node01", "wn1", "uuid"]),
        ({"guests": {"wn1": {"uuid": "X", "state": "running"}}}, ["wn1", "'X'"]),
        ({"guests": {"wn1": {"uuid": ledgers.uuid(1), "state": "up"}}}, ["wn1", "'up'", "running, paused"]),
        ({"guests": {"wn1": {"uuid": ledgers.uuid(1), "state": "running", "epoch": "1"}}}, ["wn1", "epoch"]),
        (
            ledgers.answer(ledgers.entry(1, host_key=f"{ledgers.KEY}\n* ssh-ed25519 AAAA")),
            ["wn1", "host_key", "public key"],
        ),
        (ledgers.answer(ledgers.entry(1, host_key=f"{ledgers.KEY}\n")), ["wn1", "host_key"]),
        (ledgers.answer(ledgers.entry(1, host_key="{{ lookup('pipe', 'id') }}")), ["host_key"]),
    ],
)
def test_what_a_host_says_is_checked(answer: t.Any, words: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        look(ledgers.state(), node01=answer)
    for word in words:
        assert word in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refused) as caught:
        look(ledgers.state(), node01=[], node02=[], nowhere=ledgers.answer())
    assert len(caught.value.errors) == 3
    assert "host nowhere: not a HostOS of cluster demo" in str(caught.value)


def test_complete_can_be_said() -> None:
    by_name = {"guests": {}}
    assert not read_sight("node01", by_name, "demo").complete
    assert read_sight("node01", by_name, "demo", complete=True).complete
    assert not read_sight("node01", ledgers.answer(), "demo", complete=False).lacks(ledgers.uuid(1))
    assert read_sight("node01", {"guests": {ledgers.uuid(1): ledgers.entry(1)}}, "demo").complete
