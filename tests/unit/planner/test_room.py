# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make_room: others move only where nothing else helps, and in an order that keeps every rule."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _planner_room_exact as exact
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._constraints import Board
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Rule, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Move, Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner import solve
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_room import make_room
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_room_bound import least_moves
from hypothesis import given
from problems import examples, guest, host, needs_solver, problem, problems


def answer(asked: Problem, *, solver: bool = False) -> Plan:
    asked = dataclasses.replace(asked, options={"make_room": True, "solver": solver})
    plan = solve(asked)
    assert complaints(asked, plan, always_together=True) == []
    return plan


@examples(400)
@given(problems())
def test_nothing_is_broken_and_nobody_loses_a_place(asked: Problem) -> None:
    plain, plan = solve(asked), answer(asked)
    assert len(plan.stays) <= len(plain.stays)
    if not plain.stays:
        assert plan == plain
    assert all(stay.reason and stay.rejected for stay in plan.stays)


@examples(100)
@given(problems(tolerate=True))
def test_room_is_not_made_at_the_cost_of_a_tolerated_loss(asked: Problem) -> None:
    plain, plan = solve(asked), answer(asked)
    assert {place.guest for place in plain.places} <= {place.guest for place in plan.places}
    where = {p.guest: p.host for p in plan.places} | {m.guest: m.target for m in plan.moves}
    guests = {n: dataclasses.replace(g, host=where.get(n, g.host)) for n, g in asked.guests.items()}
    then = solve(dataclasses.replace(asked, guests=guests))
    before = {note.split("}")[0] for note in plain.notes if note.startswith("broken before")}
    assert {note.split("}")[0] for note in then.notes if note.startswith("broken before")} <= before


def fewest(asked: Problem) -> int | None:
    """The fewest moved guests of all final states that place everybody; None: there is none."""
    names = [g.name for g in asked.guests.values() if not g.frozen]
    best = None
    for choice in itertools.product(asked.hosts, repeat=len(names)):
        where = dict(zip(names, choice, strict=True))
        moved = [n for n in names if asked.guests[n].host not in (None, where[n])]
        if best is not None and len(moved) >= best:
            continue
        # all at once from nowhere, so that only the end is judged
        lifted = {n: dataclasses.replace(g, host=None) if n in moved else g for n, g in asked.guests.items()}
        plan = Plan(places=tuple(Place(n, where[n], "") for n in names if lifted[n].host is None))
        if not complaints(dataclasses.replace(asked, guests=lifted), plan):
            best = len(moved)
    return best


@examples(250)
@given(problems(max_hosts=4, max_guests=5))
def test_no_answer_undercuts_the_bound_or_brute_force(asked: Problem) -> None:
    board = Board(asked)
    homeless = [g for g in asked.guests.values() if g.host is None and not g.frozen]
    bound = least_moves(board, homeless)
    best = fewest(asked)
    if best is not None:
        assert bound is not None and bound <= best
    plan = answer(asked)
    if best is not None and not plan.stays:
        assert best <= len({move.guest for move in plan.moves})
    if best is None:
        assert plan.stays
    if best == 1:
        assert len(plan.moves) <= 3


@needs_solver
@examples(100)
@given(problems(max_hosts=4, max_guests=6))
def test_the_exact_model_is_never_worse_and_keeps_every_rule(asked: Problem) -> None:
    without, with_it = answer(asked), answer(asked, solver=True)
    assert (len(with_it.stays), len(with_it.moves)) <= (len(without.stays), len(without.moves))


@needs_solver
@examples(150)
@given(problems(max_hosts=4, max_guests=5))
def test_the_bound_of_the_model_is_never_above_brute_force(asked: Problem) -> None:
    homeless = [g for g in asked.guests.values() if g.host is None and not g.frozen]
    room = make_room(Board(asked), homeless)
    best = fewest(asked)
    assert best is None or (room.bound is not None and room.bound <= best)


# -- examples -------------------------------------------------------------------------------------------------------


def test_one_small_guest_leaves_so_that_a_big_one_fits() -> None:
    hosts = [host("h1", memory=8), host("h2", memory=8)]
    guests = [guest("a", memory=2, host="h1"), guest("b", memory=5, host="h2"), guest("big", memory=8)]
    plan = answer(problem(hosts, guests))
    assert [(m.guest, m.source, m.target, m.wave) for m in plan.moves] == [("a", "h1", "h2", 1)]
    assert plan.places == (Place("big", "h1", "others make room for it, then 100 % full", 2),)
    assert plan.moves[0].reason == "makes room on h1 for big" and plan.engine == "ejection"
    assert plan.notes == ("1 guest moved to make room for others; which is the fewest possible",)


def test_a_chain_over_two_hosts_is_found() -> None:
    hosts = [host("h1", memory=8), host("h2", memory=4), host("h3", memory=2)]
    guests = [guest("a", memory=4, host="h1"), guest("b", memory=2, host="h2"), guest("big", memory=8)]
    plan = answer(problem(hosts, guests))
    assert [(m.guest, m.target, m.wave) for m in plan.moves] == [("b", "h3", 1), ("a", "h2", 2)] and not plan.stays


@needs_solver
def test_the_model_proves_what_counting_cannot() -> None:
    hosts = [host("h1", memory=8), host("h2", memory=4), host("h3", memory=2)]
    guests = [guest("a", memory=4, host="h1"), guest("b", memory=2, host="h2"), guest("big", memory=8)]
    asked = problem(hosts, guests)
    alone = make_room(Board(asked), [asked.guests["big"]], solver=False)
    proved = make_room(Board(asked), [asked.guests["big"]])
    assert (alone.bound, proved.bound, len(proved.moved)) == (1, 2, 2) and proved.engine == "ejection, highspy"


def test_a_partner_that_is_in_the_way_is_moved() -> None:
    hosts = [host("h1"), host("h2", memory=1)]
    guests = [guest("a", host="h1"), guest("b", memory=4)]
    plan = answer(problem(hosts, guests, [Rule("apart", ("a", "b"))]))
    assert [(m.guest, m.target) for m in plan.moves] == [("a", "h2")] and plan.places[0].host == "h1"


def test_frozen_guests_do_not_make_room() -> None:
    hosts = [host("h1", memory=8), host("h2", memory=8)]
    guests = [guest("a", memory=1, host="h1", frozen="is being moved"), guest("b", host="h2", frozen="too")]
    plan = answer(problem(hosts, [*guests, guest("big", memory=8)]))
    assert plan.moves == () and plan.stays[0].reason.endswith("moving others made no room for it")
    assert plan.notes[-1].startswith("no moves of other guests make room for all of them")


def test_a_tolerated_loss_is_worth_more_than_a_place() -> None:
    hosts = [host("h1"), host("h2")]
    guests = [guest("a", memory=2, host="h1"), guest("b", memory=2, host="h2"), guest("big", memory=8)]
    plan = answer(problem(hosts, guests, tolerate=[Tolerate(1, "host")]))
    assert plan.moves == () and [stay.guest for stay in plan.stays] == ["big"]


def test_without_highspy_the_answer_comes_from_python_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", t.cast(t.Any, None))
    assert not exact.available()
    hosts = [host("h1", memory=8), host("h2", memory=8)]
    guests = [guest("a", memory=2, host="h1"), guest("b", memory=2, host="h2"), guest("big", memory=8)]
    assert answer(problem(hosts, guests), solver=True).engine == "ejection"


def test_make_room_moves_nobody_where_the_fullest_host_is_enough() -> None:
    hosts = [host("h1", memory=4, vcpus=9), host("h2", memory=4, vcpus=9)]
    asked = problem(hosts, [guest("c", host="h2"), guest("a", memory=3, vcpus=8), guest("b", memory=4)])
    room = make_room(Board(asked), [asked.guests["a"], asked.guests["b"]])
    assert room.moved == {} and room.places == {"a": 1, "b": 0} and room.engine == "first-fit"


def test_a_move_is_never_made_for_a_guest_that_no_host_can_hold() -> None:
    asked = problem([host("h1"), host("h2")], [guest("a", host="h1"), guest("huge", memory=9)])
    assert answer(asked).moves == ()
    assert Move not in map(type, answer(asked).stays)
