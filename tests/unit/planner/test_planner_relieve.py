# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""relieve brings hosts under the threshold, pushes none above it, and its bound is below what brute force finds."""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Resources, Rule, Spread, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner import PlannerError
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_covers import Unit, covers, least
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_relieve import relieve
from hypothesis import given
from hypothesis import strategies as st
from problems import GIB, examples, guest, host, problem, problems

RACK1, RACK2 = (("rack", "r1"),), (("rack", "r2"),)


def full(asked: Problem, plan: Plan | None = None) -> dict[str, float]:
    """How full each host is after the plan, counted anew."""
    goes = {move.guest: move.target for move in plan.moves} if plan else {}
    answer = {}
    for name, state in asked.hosts.items():
        if state.capacity is None:
            continue
        here = [item.demand for item in asked.guests.values() if goes.get(item.name, item.host) == name]
        parts = []
        for kind in ("vcpus", "memory", "disk"):
            whole = getattr(state.capacity, kind)
            used = getattr(state.foreign, kind) + sum(getattr(demand, kind) for demand in here)
            parts += [used / whole] if whole > 0 else []
        answer[name] = max(parts, default=1.0)
    return answer


def said(plan: Plan) -> tuple[int, int, int, int]:
    """Moves, the bound, hosts above before and after, as the notes say."""
    words = r"moves: (\d+), at least (\d+) needed; hosts above \d+ %: (\d+) before, (\d+) after"
    found = re.fullmatch(words, plan.notes[0])
    assert found, plan.notes
    return int(found[1]), int(found[2]), int(found[3]), int(found[4])


def ask(hosts: t.Any, guests: t.Any, threshold: float = 0.75, **more: t.Any) -> Problem:
    return problem(hosts, guests, verb="relieve", options={"threshold": threshold}, **more)


# -- properties -----------------------------------------------------------------------------------------------------


@examples(300)
@given(problems(tolerate=True), st.sampled_from([0.5, 0.7, 0.8, 0.95]), st.data())
def test_every_moment_keeps_every_rule_and_no_host_is_pushed_above(
    asked: Problem, threshold: float, data: st.DataObject
) -> None:
    subjects = tuple(data.draw(st.lists(st.sampled_from(sorted(asked.hosts)), max_size=2, unique=True)))
    asked = dataclasses.replace(asked, verb="relieve", subjects=subjects, options={"threshold": threshold})
    plan = relieve(asked)
    assert complaints(asked, plan) == []
    before, after = full(asked), full(asked, plan)
    moves, bound, above, still = said(plan)
    scope = subjects or tuple(before)
    assert above == sum(before[name] > threshold + 1e-6 for name in scope)
    assert still <= above and bound <= moves or any("nothing is moved" in note for note in plan.notes)
    if plan.moves:
        assert still == sum(after[name] > threshold + 1e-6 for name in scope)
        assert len(plan.moves) == moves
    for name, load in after.items():
        assert load <= max(threshold + 1e-6, before[name])
    for name in scope:
        if after[name] > threshold + 1e-6 and not any("nothing is moved" in note for note in plan.notes):
            assert any(note.startswith(f"{name} stays ") for note in plan.notes)


@examples(100)
@given(problems(max_hosts=3, max_guests=6), st.sampled_from([0.5, 0.7, 0.9]))
def test_the_bound_is_no_more_than_brute_force_needs(asked: Problem, threshold: float) -> None:
    asked = dataclasses.replace(asked, verb="relieve", options={"threshold": threshold})
    plan = relieve(asked)
    moves, bound, _above, still = said(plan)
    if still:
        return  # then the bound is for the others alone
    start = {name: item.host for name, item in asked.guests.items() if item.host}
    fewest = [
        sum(start[name] != home for name, home in zip(start, choice, strict=True))
        for choice in itertools.product(asked.hosts, repeat=len(start))
        if not wrong(asked, dict(zip(start, choice, strict=True)), threshold)
    ]
    assert min(fewest, default=moves) >= bound
    assert moves >= min(fewest, default=0)


def wrong(asked: Problem, at: dict[str, str], threshold: float) -> bool:
    """Whether an end breaks a rule, or leaves a host above the threshold."""
    moved = {name: home for name, home in at.items() if asked.guests[name].host != home}
    bare = {n: dataclasses.replace(g, host=None) if n in moved else g for n, g in asked.guests.items()}
    anew = dataclasses.replace(asked, guests=bare, verb="place")
    found = complaints(anew, Plan(places=tuple(Place(name, home, "") for name, home in moved.items())))
    ends = {n: dataclasses.replace(g, host=at.get(n)) for n, g in asked.guests.items()}
    loads = full(dataclasses.replace(asked, guests=ends))
    return any("got no answer" not in text for text in found) or max(loads.values()) > threshold + 1e-6


SIZES = st.tuples(*(st.integers(0, 6) for _kind in range(3)))


@examples(200)
@given(st.lists(st.tuples(SIZES, st.integers(1, 2)), max_size=7), SIZES, st.integers(1, 4))
def test_covers_are_those_of_brute_force(made: list[t.Any], excess: tuple[int, int, int], cost: int) -> None:
    units = [
        Unit(tuple(f"u{number}{letter}" for letter in "ab"[:size]), demand, (demand, size))
        for number, (demand, size) in enumerate(made)
    ]

    def enough(chosen: t.Sequence[Unit]) -> bool:
        return all(sum(unit.demand[kind] for unit in chosen) >= excess[kind] for kind in range(3))

    every = [some for size in range(len(units) + 1) for some in itertools.combinations(units, size) if enough(some)]
    costs = {sum(unit.cost for unit in some) for some in every}
    bound = least(units, excess)
    assert (bound is None) == (not costs)
    assert bound is None or bound <= min(costs)
    found = covers(units, excess, cost, 10_000)
    assert found.complete and bool(found.sets) == (cost in costs)
    assert all(enough(some) and sum(unit.cost for unit in some) == cost for some in found.sets)
    kinds = {tuple(sorted(str(unit.alike) for unit in some)) for some in found.sets}
    wanted = {tuple(sorted(str(u.alike) for u in some)) for some in every if sum(u.cost for u in some) == cost}
    assert kinds == wanted


# -- examples -------------------------------------------------------------------------------------------------------


def test_one_big_guest_leaves_rather_than_two_small_ones() -> None:
    hosts = [host("h1"), host("h2")]
    guests = [guest("big", memory=3, host="h1"), *(guest(f"g{n}", memory=1, host="h1") for n in range(5))]
    plan = relieve(ask(hosts, guests, 0.625))
    assert said(plan) == (1, 1, 1, 0)
    assert [(move.guest, move.target, move.wave) for move in plan.moves] == [("big", "h2", 1)]
    assert plan.moves[0].reason == "h1 is 100 % full, above 62 %; h2 then 38 % full"


def test_the_smallest_guest_that_is_enough_leaves() -> None:
    guests = [guest(f"g{size}", memory=size, host="h1") for size in (1, 2, 4)]
    plan = relieve(ask([host("h1"), host("h2")], guests, 0.7))
    assert [move.guest for move in plan.moves] == ["g2"]


def test_the_fullest_of_the_three_resources_decides() -> None:
    guests = [guest("cpu", vcpus=4, host="h1"), guest("big", memory=4, host="h1"), guest("x", vcpus=3, host="h1")]
    plan = relieve(ask([host("h1"), host("h2")], guests, 0.75))
    assert [move.guest for move in plan.moves] == ["x"]


def test_a_guest_gives_way_where_no_host_has_room() -> None:
    hosts = [host("h1", memory=8), host("h2", memory=8), host("h3", memory=3)]
    guests = [guest("a", memory=4, host="h1"), guest("b", memory=4, host="h1"), guest("c", memory=2, host="h2")]
    guests += [guest("d", memory=2, host="h2")]
    asked = ask(hosts, guests, 0.8)
    plan = relieve(asked)
    assert said(plan) == (2, 1, 1, 0) and complaints(asked, plan) == []
    assert [(move.guest, move.target, move.wave) for move in plan.moves] == [("c", "h3", 1), ("a", "h2", 2)]
    assert plan.moves[0].reason.startswith("makes room on h2 for a")


def test_what_cannot_be_relieved_is_named_with_the_reason() -> None:
    hosts = [host("h1", memory=2), host("h2", memory=2, closed="is in maintenance: fan"), host("h3", memory=2)]
    guests = [guest("a", memory=2, host="h1"), guest("b", memory=2, host="h2")]
    guests += [guest("c", memory=2, host="h3", frozen="is being moved")]
    plan = relieve(ask(hosts, guests))
    assert said(plan) == (0, 0, 3, 3) and plan.moves == ()
    assert plan.notes[1:] == (
        "h1 stays 100 % full: a would have to leave and no HostOS takes it: closed (1 host), memory (1 host)",
        "h2 stays 100 % full: it is in maintenance: fan; evacuate it instead",
        "h3 stays 100 % full: what may not be moved from it is too much alone",
    )


def test_only_the_subjects_are_relieved() -> None:
    hosts = [host("h1"), host("h2"), host("h3")]
    guests = [guest(f"{name}{n}", memory=4, host=name) for name in ("h1", "h2") for n in range(2)]
    plan = relieve(ask(hosts, guests, subjects=("h2",)))
    assert [(move.source, move.target) for move in plan.moves] == [("h2", "h3")]


def test_guests_together_leave_together_and_apart_ones_stay_apart() -> None:
    hosts = [host("h1"), host("h2", memory=16), host("h3", memory=6)]
    guests = [guest(name, memory=4, host="h1") for name in ("a", "b")] + [guest("c", host="h2")]
    tied = ask(hosts, guests, 0.8, rules=[Rule("together", ("a", "b"))])
    plan = relieve(tied)
    assert said(plan) == (2, 2, 1, 0) and {move.target for move in plan.moves} == {"h2"} and not complaints(tied, plan)
    split = ask(hosts, guests, 0.8, rules=[Rule("apart", ("a", "c")), Rule("apart", ("b", "c"))])
    assert {move.target for move in relieve(split).moves} == {"h3"}


def test_a_hard_spread_stays_as_even() -> None:
    used = Resources(0, 4 * GIB, 0)
    hosts = [host("h1", enclosures=RACK1), host("h2", enclosures=RACK1, memory=12, foreign=used)]
    hosts.append(host("h3", enclosures=RACK2, memory=16))
    guests = [guest(f"a{n}", memory=4, host="h1") for n in range(2)] + [guest(f"b{n}", host="h3") for n in range(2)]
    assert {move.target for move in relieve(ask(hosts, guests, 0.8)).moves} == {"h3"}
    assert {move.target for move in relieve(ask(hosts, guests, 0.8, spread=Spread("rack"))).moves} == {"h2"}
    only_uneven = relieve(ask([hosts[0], hosts[2]], guests, 0.8, spread=Spread("rack")))
    assert only_uneven.moves == () and said(only_uneven)[3] == 1


def test_nobody_comes_near_a_guest_that_must_be_apart_and_still_leaves() -> None:
    """a leaves rack r1; before it is gone, b must not come to another host of r1."""
    hosts = [host("h1", memory=4, enclosures=RACK1), host("h4", memory=6, enclosures=RACK1)]
    hosts += [host("h2", memory=4, enclosures=RACK2), host("h3", memory=16, enclosures=(("rack", "r3"),))]
    guests = [guest("a", memory=4, host="h1"), guest("b", memory=4, host="h2")]
    pins = [Rule("pin", ("a",), hosts=("h1", "h3")), Rule("pin", ("b",), hosts=("h2", "h4"))]
    asked = ask(hosts, guests, 0.8, rules=[Rule("apart", ("a", "b"), over="rack"), *pins])
    plan = relieve(asked)
    assert complaints(asked, plan) == []
    assert [(move.guest, move.target) for move in plan.moves] == [("a", "h3")] and said(plan)[3] == 1


def test_a_tolerance_that_holds_is_not_given_up() -> None:
    hosts = [host("h1", memory=9), host("h2", memory=8, foreign=Resources(0, 6 * GIB, 0))]
    hosts.append(host("h3", memory=10, foreign=Resources(0, 5 * GIB, 0)))
    guests = [guest("a", memory=2, host="h1"), guest("b", memory=5, host="h1")]
    asked = ask(hosts, guests, 0.7, subjects=("h1",))
    assert [(move.guest, move.target) for move in relieve(asked).moves] == [("a", "h3")]
    careful = ask(hosts, guests, 0.7, subjects=("h1",), tolerate=[Tolerate(1, "host")])
    plan = relieve(careful)  # with a on h3, b has no place when h1 is lost
    assert plan.moves == () and plan.notes[-1].startswith("nothing is moved, for then tolerate {lose: 1, of: host}")


@pytest.mark.parametrize("wish", [None, 0, -1, 1.2, "much", True, float("nan")])
def test_a_threshold_must_be_given_and_make_sense(wish: t.Any) -> None:
    options = {} if wish is None else {"threshold": wish}
    with pytest.raises(PlannerError, match="threshold"):
        relieve(problem([host("h1")], [], verb="relieve", options=options))


def test_a_host_of_unknown_capacity_is_left_alone() -> None:
    hosts = [host("h1", capacity=None), host("h2", capacity=Resources(0, 8 * GIB, 0))]
    guests = [guest("a", host="h1"), guest("b", memory=8, vcpus=0, disk=0, host="h2")]
    plan = relieve(ask(hosts, guests))
    assert said(plan) == (0, 0, 1, 1)
