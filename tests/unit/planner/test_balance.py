# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A balance is better than before, within K moves that all gain, as good as brute force where that can be known.

The score is computed in `balances`, from scratch.
"""

from __future__ import annotations

import dataclasses
import random

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _balance_kinds, _balance_search
from ansible_collections.oscarv.virt.plugins.plugin_utils._balance_score import WEIGHTS, Score
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._constraints import Board
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Rule
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_balance import balance
from balances import RACKS, after, ask, best_of, feasible_moves, one_partition, sequence, true_score, worse_spread
from hypothesis import given
from hypothesis import strategies as st
from problems import examples, guest, host, problem, problems

# -- properties -----------------------------------------------------------------------------------------------------


@examples(250)
@given(problems(max_guests=10), st.integers(0, 4))
def test_every_moment_of_a_balance_keeps_every_constraint(asked: Problem, moves: int) -> None:
    asked = ask(asked, moves, steps=20_000)
    plan = balance(asked)
    assert len(plan.moves) <= moves and {move.wave for move in plan.moves} <= {1}
    assert complaints(asked, sequence(plan)) == []
    start = after(asked, ())
    assert not worse_spread(asked, start, after(asked, [(m.guest, m.target) for m in plan.moves]))


@examples(250)
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


@examples(250)
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


@examples(100)
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


@examples(100)
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


@examples(100)
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
