# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tolerate: yes comes with a witness, no with a loss that brute force cannot survive, and unknown says so."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _tolerate, _tolerate_proof
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._constraints import Board
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Rule, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import GuestState, Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_fit import first_homeless
from hypothesis import given
from problems import brute_force, examples, guest, host, problem, problems


def check(asked: Problem) -> _tolerate.Verdict:
    return _tolerate.check(asked, Board(asked), first_homeless, witness=True)


def settled(asked: Problem) -> Problem:
    return dataclasses.replace(asked, guests={n: g for n, g in asked.guests.items() if g.host})


def losses(asked: Problem, of: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = collections.defaultdict(set)
    for name, state in asked.hosts.items():
        level = dict(state.enclosures).get(of)
        found[name if of == "host" else level or f"host {name}"].add(name)
    return found


def after(asked: Problem, lost: set[str]) -> tuple[Problem, list[GuestState]]:
    """The cluster without these hosts, and who is to be placed again."""
    homeless = [dataclasses.replace(g, host=None, frozen="") for g in asked.guests.values() if g.host in lost]
    hosts = {n: dataclasses.replace(h, closed="lost") if n in lost else h for n, h in asked.hosts.items()}
    return dataclasses.replace(asked, hosts=hosts, guests={**asked.guests, **{g.name: g for g in homeless}}), homeless


def survives(asked: Problem, lost: set[str]) -> bool:
    left, homeless = after(asked, lost)
    racked = {n for r in asked.cluster.rules if r.over == "rack" and r.kind != "pin" and not r.soft for n in r.guests}

    def broken(choice: dict[str, str]) -> bool:
        if any(not left.hosts[there].enclosures for name, there in choice.items() if name in racked):
            return True  # the checker cannot see it for a lonely guest
        return bool(complaints(left, Plan(places=tuple(Place(g, h, "") for g, h in choice.items()))))

    return brute_force(left, homeless, broken)


@examples(250)
@given(problems(max_hosts=4, max_guests=6, tolerate=True))
def test_every_answer_is_true_by_brute_force(asked: Problem) -> None:
    asked = settled(asked)
    (clause,) = asked.cluster.guest_partitions["workers"].tolerate
    every = losses(asked, clause.of)
    verdict = check(asked)
    if verdict.answer == "no":
        (broken,) = verdict.broken
        assert not survives(asked, every[broken.lost[0]])
    elif verdict.answer == "yes":
        assert {lost for _lose, _of, (lost,) in verdict.witness} == set(every)
    for (_lose, _of, (lost,)), where in verdict.witness.items():
        left, homeless = after(asked, every[lost])
        assert set(where) == {g.name for g in homeless}
        places = tuple(Place(g, h, "") for g, h in where.items())
        assert complaints(left, Plan(places=places)) == []
    tied = any(rule.kind == "together" and not rule.soft for rule in asked.cluster.rules)
    assert verdict.answer != "unknown" or tied  # so small, only groups are left unsearched


def test_the_search_finds_what_neither_fit_does_and_without_it_the_answer_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_tolerate, "search", lambda _board, homeless: _tolerate_proof.Refusal(homeless[0].name, ""))
    hosts = [host("h1", vcpus=99, memory=99), host("h2", vcpus=99, memory=10), host("h3", vcpus=99, memory=10)]
    guests = [guest(f"g{n}", memory=size, host="h1") for n, size in enumerate((2, 2, 2, 2, 3, 4, 5))]
    hard = problem(hosts, guests, tolerate=[Tolerate(1, "host")])
    verdict = check(hard)
    assert verdict.answer == "unknown" and verdict.broken[0].proof == ""
    assert "no place was found for guest" in str(verdict.broken[0]) and "within 300 steps" in str(verdict.broken[0])
    monkeypatch.undo()
    assert check(hard).answer == "yes"


def test_gaps_that_are_just_enough_are_no_proof() -> None:
    hosts = [host("h1", vcpus=99, memory=99), host("h2", vcpus=4, memory=10), host("h3", vcpus=3, memory=10)]
    sizes = (2, 2, 2, 2, 3, 4, 5)
    guests = [guest(f"g{n}", memory=size, disk=0) for n, size in enumerate(sizes)]
    asked = problem(hosts, guests)
    assert _tolerate_proof.impossible(Board(asked), list(asked.guests.values())[4:]) is None
    board = Board(dataclasses.replace(asked, hosts={n: h for n, h in asked.hosts.items() if n != "h1"}))
    assert _tolerate_proof.impossible(board, list(asked.guests.values())) is None
    assert _tolerate_proof.search(board, list(asked.guests.values())) is None and len(board.where) == 7


def refusals() -> t.Iterator[t.Any]:
    three = [guest(f"g{n}", memory=3, host="h1") for n in range(3)]
    yield pytest.param([host("h2", memory=2)], three, [], "no host that is left takes it", id="alone")
    yield pytest.param([host("h2", memory=4), host("h3", memory=4)], three, [], "are free", id="sum")
    gaps = [host(f"h{n}", memory=5) for n in (2, 3)]
    yield pytest.param(gaps, three, [], "3 guests of 3 GiB memory or more, room for 2", id="gaps")
    apart = [Rule("apart", ("g0", "g1", "g2"))]
    two = [host(f"h{n}", memory=8) for n in (2, 3)]
    yield pytest.param(two, three, apart, "every way to place them was tried", id="search")


@pytest.mark.parametrize(("hosts", "guests", "rules", "words"), list(refusals()))
def test_each_no_says_why(hosts: t.Any, guests: t.Any, rules: t.Any, words: str) -> None:
    asked = problem([host("h1", vcpus=99, memory=99), *hosts], guests, rules, tolerate=[Tolerate(1, "host")])
    verdict = check(asked)
    assert verdict.answer == "no" and words in verdict.broken[0].proof and verdict.broken[0].lost == ("h1",)
    assert "fits nowhere" in str(verdict.broken[0])


def test_more_losses_than_can_be_tried_leave_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tolerate, "BOUND", 2)
    asked = problem([host(f"h{n}") for n in range(3)], [guest("a", host="h0")], tolerate=[Tolerate(1, "host")])
    verdict = check(asked)
    assert verdict.answer == "unknown" and "only the fullest 2 were tried" in verdict.notes[0]
