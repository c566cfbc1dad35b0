# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a balance does in small cases that a person can follow, and what it says."""

from __future__ import annotations

import collections
import dataclasses
import random

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _planner_balance
from ansible_collections.oscarv.virt.plugins.plugin_utils._balance_score import WEIGHTS, Score
from ansible_collections.oscarv.virt.plugins.plugin_utils._balance_search import Search
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._constraints import Board
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Resources, Rule, Spread, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_balance import balance
from balances import RACKS, after, ask, sequence
from problems import GIB, guest, host, problem


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
    """b2 is twice as large as b1: four of six guests fill both alike."""
    big = Resources(16, 16 * GIB, 200 * GIB)
    hosts = [host("a1"), host("a2"), host("b1", partition="others"), host("b2", partition="others", capacity=big)]
    guests = [guest(f"a{n}", memory=3, host="a1") for n in range(2)]
    guests += [guest(f"b{n}", on=("others",), host="b1") for n in range(6)]
    plan = balance(ask(problem(hosts, guests), 10))
    assert collections.Counter(m.target for m in plan.moves) == {"a2": 1, "b2": 4}
    assert plan.notes[0].startswith("balance 0.6769 to 0 (0 is perfect) with 5 moves")


def test_a_spread_that_is_no_soft_one_is_never_given_up_for_balance() -> None:
    """h0 is full and h1 empty, but each rack has three guests."""
    hosts = [host(f"h{n}", enclosures=RACKS[n // 2]) for n in range(4)]
    guests = [guest(f"g{n}", memory=2, host="h0") for n in range(3)]
    guests += [guest(f"k{n}", memory=1, host="h2") for n in range(3)]
    even = {"vcpus": 0, "disk": 0, "memory": 1, "spread": 0}
    rack = {state.name: dict(state.enclosures)["rack"] for state in hosts}
    for spread, kept in ((Spread("rack"), True), (None, False)):
        asked = ask(problem(hosts, guests, spread=spread), 6, weights=even)
        plan = balance(asked)
        at = after(asked, [(m.guest, m.target) for m in plan.moves])
        assert plan.moves and len(plan.notes) == 1  # and nothing had to be left out at the end
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
