# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every pair of what the two sides of a move can show, and what may be concluded from it."""

from __future__ import annotations

import itertools
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, effective, problems
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Outcome, Refused
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_seen import read_sights
from ansible_collections.oscarv.virt.plugins.plugin_utils._settle import ACTIONS, settle

HELD = ledgers.stone(1, 1)


def there(state: str, epoch: int, **more: t.Any) -> dict[str, t.Any]:
    return ledgers.answer(ledgers.entry(1, state=state, epoch=epoch, autostart=False, **more))


GONE = ledgers.answer()
#: What a side may show, by a word for it.
SOURCE: dict[str, t.Any] = {
    "runs": there("running", 1),
    "paused": there("paused", 1),
    "stopped": there("stopped", 1),
    "saved": there("saved", 1),
    "halted": there("moving", 1),
    "busy": there("moving", 1, jobs=["migration_out"]),
    "gone": GONE,
    "silent": None,
}
TARGET: dict[str, t.Any] = {
    "runs": there("running", 2),
    "paused": there("paused", 2),
    "stopped": there("stopped", 2),
    "saved": there("saved", 2),
    "halted": there("moving", 2),
    "busy": there("paused", 2, jobs=["migration_in"]),
    "gone": GONE,
    "silent": None,
}

PAIRS = list(itertools.product(SOURCE, TARGET))


def run(
    source: t.Any,
    target: t.Any,
    *,
    guest: rows.GuestRow | None = None,
    hosts: t.Iterable[rows.HostRow] = (),
    resolve: dict[str, str] | None = None,
    **move: t.Any,
) -> tuple[dict[str, t.Any], Outcome, rows.LedgerState]:
    state = ledgers.state(
        guest or ledgers.guest(1), moves=[ledgers.move(1, **move)], hosts=hosts, epochs={ledgers.uuid(1): 2}
    )
    sights = read_sights({"node01": source, "node02": target}, "demo", ("node01", "node02"))
    outcome = settle(state, sights, ledgers.STAMP, resolve)
    (decision,) = outcome.result["decisions"]
    assert problems(state, effective(state, outcome.changes)) == []
    return decision, outcome, applied(state, outcome.changes)


def steps(outcome: Outcome) -> list[tuple[str, str, int]]:
    assert all(item["action"] in ACTIONS for item in outcome.result["cleanup"])
    return [(item["host"], item["action"], item["epoch"]) for item in outcome.result["cleanup"]]


def expected(source: str, target: str) -> str:
    """DESIGN.md's table, written a second time and differently."""
    if "busy" in (source, target):
        return "wait"
    if "silent" in (source, target):
        return "leave"
    return {(True, True): "riddle", (True, False): "commit", (False, True): "abort"}.get(
        (source == "gone", target == "gone"), "riddle"
    )


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_table(source: str, target: str) -> None:
    decision, outcome, after = run(SOURCE[source], TARGET[target])
    assert decision["decision"] == expected(source, target)
    row = after.guests[ledgers.uuid(1)]
    if decision["decision"] == "commit":
        assert (row.host, row.epoch, after.moves) == ("node02", 2, {})
        assert outcome.changes.moves[0].state == "committed"
    elif decision["decision"] == "abort":
        assert (row.host, row.epoch, after.moves) == ("node01", 1, {})
        assert outcome.changes.moves[0].state == "aborted"
    else:
        assert outcome.changes == rows.Changes(), "nothing is recorded"
        assert outcome.result["cleanup"] == [], "nothing is touched"
        assert outcome.result["refused"] == ["wn1"]
        assert (outcome.result["waiting"] == ["wn1"]) == (decision["decision"] == "wait")
        assert ("wn1" in " ".join(outcome.result["riddles"])) == (decision["decision"] == "riddle")
        assert "wn1" in outcome.warnings[0] and "move-1" in outcome.warnings[0]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_nothing_is_ever_started_or_removed_that_might_run(source: str, target: str) -> None:
    decision, outcome, _after = run(SOURCE[source], TARGET[target])
    for host, action, _epoch in steps(outcome):
        here = source if host == "node01" else target
        if action == "undefine":
            assert here == "stopped"
        if action == "accept":
            assert here != "gone" and source == "gone"
    if decision["decision"] == "riddle" and {source, target} <= {"runs", "paused"}:
        assert "BOTH RUN" in decision["reason"]


def test_after_a_commit_the_source_is_cleaned() -> None:
    _decision, outcome, _after = run(GONE, TARGET["runs"])
    assert steps(outcome) == [
        ("node01", "write_tombstone", 1),
        ("node02", "accept", 2),
        ("node01", "remove_leftovers", 1),
    ]
    first = outcome.result["cleanup"][0]
    assert (first["uuid"], first["guest"], first["move"]) == (ledgers.uuid(1), "wn1", "move-1")


def test_after_an_abort_the_source_may_start_again_and_the_target_is_cleaned() -> None:
    _decision, outcome, _after = run(SOURCE["stopped"], GONE)
    assert steps(outcome) == [("node01", "drop_tombstone", 1), ("node02", "remove_leftovers", 2)]


def test_rounds_keep_the_order_of_each_guest_and_let_hosts_work_at_the_same_time() -> None:
    state = ledgers.state(
        ledgers.guest(1),
        ledgers.guest(2, host="node02"),
        ledgers.guest(3),
        moves=[ledgers.move(1), ledgers.move(2, source="node02", target="node01"), ledgers.move(3)],
    )
    answers = {
        "node01": ledgers.answer(ledgers.entry(2, epoch=2), ledgers.entry(3)),
        "node02": ledgers.answer(ledgers.entry(1, epoch=2)),
    }
    result = settle(state, read_sights(answers, "demo", ("node01", "node02")), ledgers.STAMP).result
    shown = [[(item["guest"], item["host"], item["action"]) for item in part] for part in result["cleanup_rounds"]]
    assert shown == [
        [
            ("wn1", "node01", "write_tombstone"),
            ("wn2", "node02", "write_tombstone"),
            ("wn3", "node01", "drop_tombstone"),
        ],
        [("wn1", "node02", "accept"), ("wn2", "node01", "accept"), ("wn3", "node02", "remove_leftovers")],
        [("wn1", "node01", "remove_leftovers"), ("wn2", "node02", "remove_leftovers")],
    ]


@pytest.mark.parametrize("target", ["runs", "paused"])
def test_an_old_copy_behind_its_tombstone_is_cleaned_away(target: str) -> None:
    """The one case of two copies that needs no person: the one runs, the other cannot."""
    source = ledgers.answer(ledgers.entry(1, state="stopped", autostart=False), stones=[HELD])
    decision, outcome, after = run(source, TARGET[target])
    assert decision["decision"] == "commit" and after.guests[ledgers.uuid(1)].host == "node02"
    assert [(host, action) for host, action, _epoch in steps(outcome)] == [
        ("node01", "write_tombstone"),
        ("node01", "undefine"),
        ("node02", "accept"),
        ("node01", "remove_leftovers"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        ledgers.answer(ledgers.entry(1, state="stopped", autostart=False)),
        ledgers.answer(ledgers.entry(1, state="stopped", autostart=True), stones=[HELD]),
        ledgers.answer(ledgers.entry(1, state="running", autostart=False), stones=[HELD]),
        ledgers.answer(ledgers.entry(1, state="moving", autostart=False), stones=[HELD]),
        ledgers.answer(ledgers.entry(1, state="stopped", autostart=False), stones=[ledgers.stone(1, 0, "moved")]),
    ],
)
def test_an_old_copy_that_could_run_is_a_riddle(source: dict[str, t.Any]) -> None:
    assert run(source, TARGET["runs"])[0]["decision"] == "riddle"


def test_two_stopped_copies_are_a_riddle_even_behind_a_tombstone() -> None:
    source = ledgers.answer(ledgers.entry(1, state="stopped", autostart=False), stones=[HELD])
    assert run(source, TARGET["stopped"])[0]["decision"] == "riddle"


@pytest.mark.parametrize(
    ("source", "target", "word"),
    [
        (there("running", 5), GONE, "node01 is newer than epoch 1"),
        (GONE, there("running", 7), "node02 should have epoch 2"),
        (GONE, there("running", 1), "node02 should have epoch 2"),
    ],
)
def test_a_copy_of_another_move_is_a_riddle(source: t.Any, target: t.Any, word: str) -> None:
    decision, _outcome, _after = run(source, target)
    assert decision["decision"] == "riddle" and word in decision["reason"]


def test_an_older_mark_on_the_source_is_the_copy_that_was_to_leave() -> None:
    decision, _outcome, _after = run(
        there("running", 1), GONE, guest=ledgers.guest(1, epoch=3), epoch_from=3, epoch_to=4
    )
    assert decision["decision"] == "abort"


FENCED = {name: rows.HostRow(name, "kvm", fenced="x") for name in ("node01", "node02")}


@pytest.mark.parametrize(
    ("source", "target", "fenced", "decision"),
    [
        (None, "runs", ["node01"], "commit"),
        (None, "stopped", ["node01"], "commit"),
        (None, "gone", ["node01"], "abort"),
        ("runs", None, ["node02"], "abort"),
        ("stopped", None, ["node02"], "abort"),
        ("gone", None, ["node02"], "commit"),
        (None, None, ["node01", "node02"], "abort"),
        (None, None, ["node01"], "leave"),
        ("runs", "runs", ["node02"], "riddle"),
        ("busy", None, ["node02"], "wait"),
    ],
)
def test_a_fenced_host_counts_as_gone_unless_it_answers(
    source: str | None, target: str | None, fenced: list[str], decision: str
) -> None:
    seen = (SOURCE[source] if source else None, TARGET[target] if target else None)
    found, outcome, after = run(*seen, hosts=[FENCED[name] for name in fenced])
    assert found["decision"] == decision
    silent = {name for name, answer in zip(("node01", "node02"), seen, strict=True) if answer is None}
    assert not silent & {host for host, _action, _epoch in steps(outcome)}, "nobody can clean there"
    if decision == "abort" and "node02" in fenced:
        assert after.guests[ledgers.uuid(1)].epoch == 3, "newer than a copy that may come back with the target"
    elif decision == "abort":
        assert after.guests[ledgers.uuid(1)].epoch == 1


def test_an_answer_by_name_does_not_prove_absence() -> None:
    by_name = {"guests": {}}
    assert run(by_name, TARGET["runs"])[0]["decision"] == "leave"
    assert run(SOURCE["runs"], by_name)[0]["decision"] == "leave"


@pytest.mark.parametrize(
    ("source", "target", "host", "decision"),
    [
        ("stopped", "stopped", "node01", "abort"),
        ("stopped", "stopped", "node02", "commit"),
        ("runs", "stopped", "node01", "abort"),
        ("gone", "gone", "node01", "abort"),
        ("gone", "gone", "node02", "commit"),
    ],
)
def test_the_operators_word_solves_a_riddle(source: str, target: str, host: str, decision: str) -> None:
    found, outcome, after = run(SOURCE[source], TARGET[target], resolve={"wn1": host})
    assert found["decision"] == decision and after.guests[ledgers.uuid(1)].host == host
    assert outcome.result["riddles"] == [] and outcome.result["refused"] == []
    assert "operator" in outcome.changes.history[0].why
    assert not any(item[0] == host and item[1] in ("undefine", "remove_leftovers") for item in steps(outcome))


@pytest.mark.parametrize(
    ("source", "target", "resolve", "word"),
    [
        ("runs", "runs", {"wn1": "node02"}, "node01 is running; power it off"),
        ("halted", "runs", {"wn1": "node02"}, "node01 is moving; power it off"),
        ("stopped", "paused", {"wn1": "node01"}, "node02 is paused; power it off"),
        ("saved", "runs", {"wn1": "node02"}, "node01 is saved; throw its saved memory away"),
        ("silent", "runs", {"wn1": "node02"}, "resolve cannot help"),
        ("busy", "gone", {"wn1": "node01"}, "resolve cannot help"),
        ("stopped", "stopped", {"wn1": "node03"}, "allowed: node01, node02"),
        ("stopped", "stopped", {"wn2": "node01"}, "wn2: resolve: it has no move in flight"),
    ],
)
def test_an_operators_word_that_is_dangerous_or_idle_is_refused(
    source: str, target: str, resolve: dict[str, str], word: str
) -> None:
    with pytest.raises(Refused, match=word):
        run(SOURCE[source], TARGET[target], resolve=resolve)


def test_a_word_on_a_move_that_is_clear_changes_nothing() -> None:
    assert run(SOURCE["runs"], GONE, resolve={"wn1": "node02"})[0]["decision"] == "abort"


@pytest.mark.parametrize(
    ("row", "stone", "action"),
    [
        (ledgers.guest(1), ledgers.stone(1, 1), "drop_tombstone"),
        (ledgers.guest(1, epoch=3), ledgers.stone(1, 1), "drop_tombstone"),
        (ledgers.guest(1, host="node02", epoch=2), ledgers.stone(1, 1), "write_tombstone"),
        (ledgers.guest(1, host="node02", epoch=2), ledgers.stone(1, 1, "moved"), None),
        (ledgers.guest(1, host="node02", epoch=1), ledgers.stone(1, 1), None),
    ],
)
def test_a_tombstone_without_a_move_is_cleaned_up(
    row: rows.GuestRow, stone: dict[str, t.Any], action: str | None
) -> None:
    """The run that ended the move was cut off before its HostOS was told."""
    sights = read_sights({"node01": ledgers.answer(stones=[stone])}, "demo", ("node01",))
    outcome = settle(ledgers.state(row), sights, ledgers.STAMP)
    assert steps(outcome) == ([("node01", action, 1)] if action else [])
    assert outcome.changes == rows.Changes()


def test_a_second_settle_changes_nothing() -> None:
    _decision, _outcome, after = run(GONE, TARGET["runs"])
    sights = read_sights({"node01": GONE, "node02": TARGET["runs"]}, "demo", ("node01", "node02"))
    outcome = settle(after, sights, ledgers.STAMP)
    assert outcome.changes == rows.Changes() and outcome.result["decisions"] == []
