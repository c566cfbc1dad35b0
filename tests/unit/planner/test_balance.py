# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A balance is better than before, within K moves that all gain, as good as brute force where that can be known.

The score is computed here from scratch, with nothing of the code under test.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import random
import statistics
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _balance_kinds, _balance_search, _planner_balance
from ansible_collections.oscarv.virt.plugins.plugin_utils._balance_score import WEIGHTS, Score
from ansible_collections.oscarv.virt.plugins.plugin_utils._balance_search import Search
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._constraints import Board
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Resources, Rule, Spread, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Move, Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_balance import balance
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import GIB, guest, host, problem, problems

RACKS = tuple((("rack", f"r{n}"),) for n in range(4))


def ask(asked: Problem, moves: int = 3, **options: t.Any) -> Problem:
    return dataclasses.replace(asked, verb="balance", options={"moves": moves, **options})


def sequence(plan: Plan) -> Plan:
    """One wave per move, in the plan's order: the checker then looks at every moment."""
    return dataclasses.replace(
        plan, moves=tuple(dataclasses.replace(move, wave=n) for n, move in enumerate(plan.moves, 1))
    )


def after(asked: Problem, moves: t.Iterable[tuple[str, str]]) -> dict[str, str]:
    at = {name: state.host for name, state in asked.guests.items() if state.host}
    return {**at, **dict(moves)}


def domain(asked: Problem, name: str, level: str) -> str | None:
    return name if level == "host" else dict(asked.hosts[name].enclosures).get(level)


def true_score(asked: Problem, at: dict[str, str], weights: t.Mapping[str, float] = WEIGHTS) -> float:
    """The documented score from its definition; all hosts must be comparable."""
    open_hosts = [h for h in asked.hosts.values() if not h.closed and h.capacity is not None]
    total = 0.0
    for kind in ("vcpus", "memory", "disk"):
        fill = []
        for state in open_hosts:
            used = sum(getattr(asked.guests[g].demand, kind) for g, h in at.items() if h == state.name)
            whole = getattr(state.capacity, kind)
            fill.append((used + getattr(state.foreign, kind)) / whole if whole else 0.0)
        if fill:
            total += weights[kind] * statistics.pstdev(fill)
    count = collections.Counter(at.values())
    if open_hosts:
        total += weights["guests"] * statistics.pstdev([count[h.name] for h in open_hosts])
    for rule in asked.cluster.rules:
        weight = weights["soft" if rule.soft else "hard"]
        members = [name for name in rule.guests if name in at]
        if rule.kind == "pin":
            total += weight * sum(at[name] not in rule.hosts for name in members)
            continue
        inside = collections.Counter(domain(asked, at[name], rule.over) for name in members)
        if len(members) > 1:
            known = [number for where, number in inside.items() if where is not None]
            if rule.kind == "apart":
                total += weight * (len(members) - len(known))
            else:
                total += weight * (len(members) - max(known, default=0))
    return total + weights["spread"] * uneven(asked, at)


def uneven(asked: Problem, at: dict[str, str]) -> float:
    """Steps to an even spread of `workers`, soft ones at half weight."""
    spread = asked.cluster.guest_partitions["workers"].spread
    if spread is None or len(at) < 2:
        return 0.0
    names = {p for g in at for p in asked.guests[g].on}
    every = {
        domain(asked, h.name, spread.level)
        for h in asked.hosts.values()
        if h.partition in names and not h.closed and h.capacity is not None
    }
    count = collections.Counter(domain(asked, h, spread.level) for h in at.values())
    numbers = [count[where] for where in every | set(count)]
    best = [len(at) // len(numbers) + (n < len(at) % len(numbers)) for n in range(len(numbers))]
    return (0.5 if spread.soft else 1.0) * (sum(n * n for n in numbers) - sum(n * n for n in best)) / 2


def one_partition(asked: Problem) -> Problem:
    """The problem with all hosts comparable: everything runs in `hosts`."""
    hosts = {n: dataclasses.replace(h, partition="hosts") for n, h in asked.hosts.items()}
    guests = {n: dataclasses.replace(g, on=("hosts",)) for n, g in asked.guests.items()}
    return dataclasses.replace(asked, hosts=hosts, guests=guests)


def feasible_moves(asked: Problem, at: dict[str, str]) -> t.Iterator[tuple[str, str]]:
    """Every single move that the checker accepts, without hosts of which rules do not know the rack."""
    for name, target in itertools.product(at, asked.hosts):
        if at[name] == target or asked.hosts[at[name]].closed or asked.hosts[at[name]].capacity is None:
            continue
        fresh = {**asked.guests, name: dataclasses.replace(asked.guests[name], host=None)}
        placed = Plan(places=(Place(name, target, ""),))  # what it broke where it was is no excuse where it goes
        wrong = complaints(asked, Plan(moves=(Move(name, at[name], target, 1, ""),)))
        if not wrong and not complaints(dataclasses.replace(asked, guests=fresh, verb="balance"), placed):
            if "rack" in dict(asked.hosts[target].enclosures) or not asked.cluster.rules:
                yield name, target


def worse_spread(asked: Problem, before: dict[str, str], now: dict[str, str]) -> bool:
    spread = asked.cluster.guest_partitions["workers"].spread
    return bool(spread and not spread.soft and uneven(asked, now) > uneven(asked, before) + 1e-9)


# -- properties -----------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(problems(max_guests=10), st.integers(0, 4))
def test_every_moment_of_a_balance_keeps_every_constraint(asked: Problem, moves: int) -> None:
    asked = ask(asked, moves, steps=20_000)
    plan = balance(asked)
    assert len(plan.moves) <= moves and {move.wave for move in plan.moves} <= {1}
    assert complaints(asked, sequence(plan)) == []
    start = after(asked, ())
    assert not worse_spread(asked, start, after(asked, [(m.guest, m.target) for m in plan.moves]))


@settings(max_examples=250, deadline=None)
@given(problems(max_guests=10), st.integers(1, 4))
def test_the_score_falls_and_no_move_gains_nothing(asked: Problem, moves: int) -> None:
    asked = ask(one_partition(asked), moves, steps=20_000)
    plan = balance(asked)
    done = [(m.guest, m.target) for m in plan.moves]
    end = true_score(asked, after(asked, done))
    if done:
        assert end < true_score(asked, after(asked, ())) - 1e-9
    for skipped in done:
        rest = [step for step in done if step != skipped]
        without = after(asked, rest)
        left = tuple(m for m in sequence(plan).moves if m.guest != skipped[0])
        if not complaints(asked, Plan(moves=left)) and not worse_spread(asked, after(asked, done), without):
            assert true_score(asked, without) > end + 1e-9, skipped


@settings(max_examples=250, deadline=None)
@given(problems(max_guests=8))
def test_one_move_is_the_best_that_brute_force_finds(asked: Problem) -> None:
    asked = ask(one_partition(asked), 1)
    start = after(asked, ())
    scores = [
        true_score(asked, after(asked, [step]))
        for step in feasible_moves(asked, start)
        if not worse_spread(asked, start, after(asked, [step]))
    ]
    plan = balance(asked)
    end = true_score(asked, after(asked, [(m.guest, m.target) for m in plan.moves]))
    least = 0.01 / len(asked.hosts)
    assert end <= min([true_score(asked, start) - least, *scores], default=0) + least + 1e-9


@settings(max_examples=100, deadline=None)
@given(problems(max_guests=10), st.data())
def test_the_score_is_what_its_definition_says_after_any_moves(asked: Problem, data: st.DataObject) -> None:
    asked = one_partition(asked)
    weights = {**WEIGHTS, "guests": 0.3}
    score = Score(Board(asked), weights)
    at = after(asked, ())
    takers = [index for index, yes in enumerate(score.counted) if yes]
    inside = [n for n in range(len(score.guests)) if score.counted[score.at[n]]]
    for _move in range(4 if takers and inside else 0):
        index, target = data.draw(st.sampled_from(inside)), data.draw(st.sampled_from(takers))
        expected = score.total() + score.change(index, target)
        if score.at[index] != target:
            score.move(index, target)
            at[score.guests[index].name] = score.board.hosts[target].name
            assert score.total() == pytest.approx(expected, abs=1e-7)
    assert score.total() == pytest.approx(true_score(asked, at, weights), abs=1e-6)


def test_three_moves_are_mostly_the_best_three() -> None:
    """Brute force over all triples of moves on random small clusters: steps without taking back find 16 of 25."""
    found = 0
    for seed in range(25):
        chance = random.Random(seed)
        hosts = [host(f"h{n}", vcpus=16, memory=16, enclosures=RACKS[n % 3]) for n in range(4)]
        guests = [guest(f"g{n}", chance.randint(1, 5), chance.randint(1, 5), host=f"h{n % 3}") for n in range(8)]
        rules = [Rule("apart", ("g0", "g1", "g2"), over="rack", soft=True)]
        asked = ask(problem(hosts, guests, rules), 3, min_gain=1e-9)
        plan = balance(asked)
        mine = true_score(asked, after(asked, [(m.guest, m.target) for m in plan.moves]))
        best = best_of(asked, 3)
        assert mine >= best - 1e-9
        found += mine <= best + 1e-9
    assert found >= 21


def best_of(asked: Problem, number: int) -> float:
    """The lowest score that this many moves of different guests can reach, in any order that the checker accepts."""
    start = after(asked, ())
    best = true_score(asked, start)
    for names in itertools.combinations(start, number):
        for targets in itertools.product(asked.hosts, repeat=number):
            steps = tuple(zip(names, targets, strict=True))
            if all(start[name] != target for name, target in steps):
                reached = true_score(asked, after(asked, steps))
                if reached < best - 1e-9 and any(in_turn(asked, order) for order in itertools.permutations(steps)):
                    best = reached
    return best


def in_turn(asked: Problem, steps: t.Iterable[tuple[str, str]]) -> bool:
    moves = [Move(name, asked.guests[name].host or "", target, n, "") for n, (name, target) in enumerate(steps)]
    return not complaints(asked, Plan(moves=tuple(moves)))


@settings(max_examples=100, deadline=None)
@given(problems(max_guests=10), st.integers(1, 3))
def test_the_fast_tables_keep_the_same_promises(asked: Problem, moves: int) -> None:
    """Small clusters are searched in full; here they are searched as the large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_balance_search, "SMALL", 0)
        patch.setattr(_balance_kinds, "SHAPES", 1)
        patch.setattr(_balance_kinds, "SIZES", 2)
        asked = ask(one_partition(asked), moves, steps=20_000)
        plan = balance(asked)
    assert complaints(asked, sequence(plan)) == []
    end = true_score(asked, after(asked, [(m.guest, m.target) for m in plan.moves]))
    assert not plan.moves or end < true_score(asked, after(asked, ())) - 1e-9


@settings(max_examples=100, deadline=None)
@given(problems(max_guests=8), st.integers(1, 3))
def test_a_second_run_with_moves_to_spare_finds_little(asked: Problem, moves: int) -> None:
    asked = ask(asked, 8)
    plan = balance(asked)
    if len(plan.moves) == 8:
        return
    where = {m.guest: m.target for m in plan.moves}
    guests = {n: dataclasses.replace(g, host=where.get(n, g.host)) for n, g in asked.guests.items()}
    again = balance(dataclasses.replace(asked, guests=guests))
    # a new start knows other ways home; it must not undo what was done
    assert not set(where.items()) & {(m.guest, m.source) for m in again.moves if m.target == asked.guests[m.guest].host}


# -- examples -------------------------------------------------------------------------------------------------------


def test_a_full_host_gives_to_an_empty_one_and_the_plan_says_what_it_gained() -> None:
    asked = ask(problem([host("h1"), host("h2")], [guest(f"g{n}", host="h1") for n in range(4)]), 10)
    plan = balance(asked)
    assert len(plan.moves) == 2 and {m.target for m in plan.moves} == {"h2"}
    assert plan.moves[0].reason == "vcpus: with all moves h1 is 25 % full, h2 25 %"
    assert plan.notes == (
        "balance 0.52 to 0 (0 is perfect) with 2 moves; standard deviation over hosts: "
        "vcpus 25.0 % to 0.0 %, memory 25.0 % to 0.0 %, disk 2.0 % to 0.0 %",
    )


def test_a_balanced_cluster_is_left_alone() -> None:
    asked = ask(problem([host("h1"), host("h2")], [guest("a", host="h1"), guest("b", host="h2")]), 10)
    assert balance(asked).moves == ()


def test_failure_domains_count_more_than_an_even_fill() -> None:
    hosts = [host("h1", enclosures=RACKS[1]), host("h2", enclosures=RACKS[1]), host("h3", enclosures=RACKS[2])]
    guests = [guest("a", host="h1"), guest("b", host="h2"), guest("c", memory=3, vcpus=3, host="h3")]
    asked = ask(problem(hosts, guests, [Rule("apart", ("a", "b"), over="rack", soft=True)]), 1)
    (move,) = balance(asked).moves
    assert (move.guest, move.target) in {("a", "h3"), ("b", "h3")} and move.reason.startswith("mends rule apart a, b")
    assert balance(dataclasses.replace(asked, options={"moves": 1, "weights": {"soft": 0}})).moves == ()


def test_a_broken_hard_rule_is_mended() -> None:
    rules = [Rule("together", ("a", "b", "c"))]
    guests = [guest("a", host="h1"), guest("b", host="h1"), guest("c", host="h2")]
    (move,) = balance(ask(problem([host("h1"), host("h2")], guests, rules), 1)).moves
    assert (move.guest, move.target) == ("c", "h1")


def test_a_spread_becomes_more_even() -> None:
    hosts = [host(f"h{n}", enclosures=RACKS[n]) for n in range(3)]
    asked = problem(hosts, [guest(f"g{n}", host="h0") for n in range(6)], spread=Spread("rack"))
    plan = balance(ask(asked, 4, weights={"vcpus": 0, "memory": 0, "disk": 0}))
    assert collections.Counter(m.target for m in plan.moves) == {"h1": 2, "h2": 2}
    assert plan.moves[0].reason == "spread: workers had too many guests in r0"


def test_hosts_that_cannot_exchange_guests_are_not_compared() -> None:
    """The hosts of `others` are empty, but nothing may run there; `hosts` is even."""
    hosts = [host("h1"), host("h2"), host("x1", partition="others"), host("x2", partition="others")]
    asked = ask(problem(hosts, [guest("a", host="h1"), guest("b", host="h2")]), 5)
    assert balance(asked).notes[0].startswith("balance 0 to 0 ")


def test_sets_of_comparable_hosts_are_levelled_each_for_itself() -> None:
    hosts = [host("a1"), host("a2"), host("b1", partition="others"), host("b2", partition="others")]
    guests = [guest(f"a{n}", memory=3, host="a1") for n in range(2)]
    guests += [guest(f"b{n}", on=("others",), host="b1") for n in range(6)]
    plan = balance(ask(problem(hosts, guests), 10))
    assert collections.Counter(m.target for m in plan.moves) == {"a2": 1, "b2": 3}
    assert plan.notes[0].startswith("balance 0.6769 to 0 (0 is perfect) with 4 moves")


def test_a_spread_that_is_no_soft_one_is_never_given_up_for_balance() -> None:
    """h0 is full and h1 empty, but each rack has three guests."""
    hosts = [host(f"h{n}", enclosures=RACKS[n // 2]) for n in range(4)]
    guests = [guest(f"g{n}", memory=2, host="h0") for n in range(3)]
    guests += [guest(f"k{n}", memory=1, host="h2") for n in range(3)]
    even = {"vcpus": 0, "disk": 0, "memory": 1, "spread": 0}
    rack = {state.name: dict(state.enclosures)["rack"] for state in hosts}
    for spread, kept in ((Spread("rack"), True), (None, False)):
        asked = ask(problem(hosts, guests, spread=spread), 6, weights=even)
        at = after(asked, [(m.guest, m.target) for m in balance(asked).moves])
        racks = collections.Counter(rack[name] for name in at.values())
        assert (racks == {"r0": 3, "r1": 3}) == kept


def test_a_move_that_has_become_worthless_is_taken_back() -> None:
    guests = [guest("a", host="h1"), guest("b", host="h2"), guest("c", host="h2")]
    search = Search(Score(Board(problem([host("h1"), host("h2"), host("h3")], guests)), WEIGHTS), range(3), 1000)
    search.move(0, 2)  # as even as before
    assert _planner_balance._finish(search, 0.001) == [] and search.score.at == [0, 1, 1]


def test_frozen_guests_and_those_on_closed_hosts_stay() -> None:
    hosts = [host("h1"), host("h2"), host("h3", closed="in maintenance")]
    guests = [guest(f"a{n}", host="h1", frozen="is being moved") for n in range(3)]
    guests += [guest(f"b{n}", host="h3") for n in range(3)]
    assert balance(ask(problem(hosts, guests), 5)).moves == ()


def test_two_guests_change_places_where_no_single_move_helps() -> None:
    hosts = [host("h1", vcpus=8, memory=8), host("h2", vcpus=8, memory=8)]
    guests = [guest("a", 3, 3, host="h1"), guest("b", 3, 3, host="h1"), guest("c", 2, 2, host="h2")]
    guests.append(guest("d", 2, 2, host="h2"))
    plan = balance(ask(problem(hosts, guests), 2))
    assert len(plan.moves) == 2 and {m.source for m in plan.moves} == {"h1", "h2"}
    assert complaints(ask(problem(hosts, guests), 2), sequence(plan)) == []


def test_a_tolerance_that_held_still_holds() -> None:
    """Even hosts would have 8 GiB free each, and the guest of 10 GiB could not survive the loss of its host."""
    hosts = [host(f"h{n}", memory=12) for n in range(3)]
    guests = [guest("big", memory=10, host="h0"), *(guest(f"g{n}", memory=2, host="h1") for n in range(4))]
    free = balance(ask(problem(hosts, guests), 3))
    bound = balance(ask(problem(hosts, guests, tolerate=[Tolerate(1, "host")]), 3))
    assert len(free.moves) == 2 and len(bound.moves) == 1
    assert "1 move left out: tolerate {lose: 1, of: host}: if h0 is lost, guest big" in bound.notes[1]


def test_a_tolerance_that_was_broken_stops_nothing() -> None:
    hosts = [host(f"h{n}", memory=12) for n in range(3)]
    guests = [guest("big", memory=12, host="h0"), *(guest(f"g{n}", memory=2, host="h1") for n in range(4))]
    guests.append(guest("x", memory=2, host="h2"))
    plan = balance(ask(problem(hosts, guests, tolerate=[Tolerate(1, "host")]), 3))
    assert len(plan.moves) == 1 and plan.notes[1].startswith("broken before and after: tolerate")


def test_the_work_is_bounded_and_the_plan_says_so() -> None:
    hosts = [host(f"h{n}") for n in range(6)]
    guests = [guest(f"g{n}", host=f"h{n % 2}") for n in range(12)]
    plan = balance(ask(problem(hosts, guests), 6, steps=1))
    assert plan.moves == () and plan.notes[-1] == "the bound of steps was reached: more may find better"


def test_the_same_question_has_the_same_answer() -> None:
    chance = random.Random(3)
    hosts = [host(f"h{n}", vcpus=64, memory=64) for n in range(20)]
    sizes = [(chance.randint(1, 8), chance.randint(1, 8)) for _n in range(120)]
    guests = [guest(f"g{n}", *sizes[n], host=f"h{chance.randrange(10)}") for n in range(120)]
    asked = ask(problem(hosts, guests), 12, steps=100_000)
    assert balance(asked) == balance(asked)


def test_odd_options_are_refused() -> None:
    asked = problem([host("h1")], [])
    with pytest.raises(ValueError, match="there is no colour"):
        balance(ask(asked, weights={"colour": 1}))
    with pytest.raises(ValueError, match="below 0"):
        balance(ask(asked, weights={"memory": -1}))
    with pytest.raises(ValueError, match="less than none"):
        balance(ask(asked, -1))
    with pytest.raises(ValueError, match="is a loss"):
        balance(ask(asked, min_gain=-1))
    assert balance(ask(asked)).moves == ()


def test_resources_that_a_host_lacks_do_not_count() -> None:
    hosts = [host("h1", capacity=Resources(8, 8 * GIB, 0)), host("h2", capacity=Resources(8, 8 * GIB, 0))]
    guests = [guest(f"g{n}", disk=0, host="h1") for n in range(2)]
    assert len(balance(ask(problem(hosts, guests), 2)).moves) == 1
