# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""consolidate keeps every rule, never uses more hosts, and its bound is below what brute force finds."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
import sys

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _planner_consolidate
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Resources, Rule, Spread, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner import PlannerError, solve
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_consolidate import consolidate
from hypothesis import given
from hypothesis import strategies as st
from problems import GIB, examples, guest, host, needs_solver, problem, problems

RACK1, RACK2 = (("rack", "r1"),), (("rack", "r2"),)
ENGINES = [
    "pure",
    pytest.param("auto", marks=needs_solver),
    pytest.param("highspy", marks=needs_solver),
]


def final_complaints(asked: Problem, plan: Plan) -> list[str]:
    """What is wrong with the end of the plan; the order of the moves is another module's."""
    goes = {move.guest: move.target for move in plan.moves}
    assert all(move.source == asked.guests[move.guest].host != move.target for move in plan.moves)
    guests = {n: dataclasses.replace(g, host=None) if n in goes else g for n, g in asked.guests.items()}
    anew = dataclasses.replace(asked, verb="place", guests=guests)
    others = {n for n, g in guests.items() if g.host is None and n not in goes}
    places = tuple(Place(name, target, "") for name, target in goes.items())
    return [text for text in complaints(anew, Plan(places=places)) if not any(f"{n} got no" in text for n in others)]


def where(asked: Problem, plan: Plan) -> dict[str, str]:
    goes = {move.guest: move.target for move in plan.moves}
    return {n: goes.get(n, g.host or "") for n, g in asked.guests.items() if g.host}


def hosts_used(asked: Problem, at: dict[str, str]) -> int:
    foreign = {name for name, state in asked.hosts.items() if state.foreign != Resources(0, 0, 0)}
    return len(foreign | set(at.values()))


def said(plan: Plan) -> tuple[int, int, int]:
    """Hosts before and after, and the bound, as the notes say."""
    found = re.match(r"hosts used: (\d+) before, (\d+) after, at least (\d+) needed; engine .+", plan.notes[0])
    assert found, plan.notes
    return int(found[1]), int(found[2]), int(found[3])


def started(asked: Problem, engine: str, spread: Spread | None = None) -> Problem:
    """The same cluster with this spread where every guest that fits has a host and nothing is broken."""
    part = dataclasses.replace(asked.cluster.guest_partitions["workers"], spread=spread)
    rules = tuple(rule for rule in asked.cluster.rules if spread or rule.kind != "together" or rule.over == "host")
    cluster = dataclasses.replace(asked.cluster, guest_partitions={"workers": part}, rules=rules)
    asked = dataclasses.replace(asked, cluster=cluster)
    bare = {name: dataclasses.replace(item, host=None, frozen="") for name, item in asked.guests.items()}
    asked = dataclasses.replace(asked, guests=bare)
    homes = {place.guest: place.host for place in solve(asked).places}
    placed = {name: dataclasses.replace(bare[name], host=home) for name, home in homes.items()}
    return dataclasses.replace(asked, guests=placed, verb="consolidate", options={"engine": engine})


# -- properties -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@examples(150)
@given(asked=problems(tolerate=True), data=st.data())
def test_the_end_keeps_every_rule_and_uses_fewer_hosts(engine: str, asked: Problem, data: st.DataObject) -> None:
    subjects = tuple(data.draw(st.lists(st.sampled_from(sorted(asked.hosts)), max_size=1)))
    asked = dataclasses.replace(asked, verb="consolidate", subjects=subjects, options={"engine": engine})
    plan = consolidate(asked)
    assert final_complaints(asked, plan) == []
    before, after, bound = said(plan)
    assert bound <= after <= before and not plan.places and not plan.stays
    assert bool(plan.moves) == (after < before) or any("nothing is moved" in note for note in plan.notes)
    scope = {asked.hosts[name].partition for name in subjects} or {"hosts", "others"}
    assert all(asked.hosts[move.source].partition in scope for move in plan.moves)
    assert all(asked.hosts[move.target].partition in scope for move in plan.moves)
    if not subjects and plan.moves:
        start = {name: item.host for name, item in asked.guests.items() if item.host}
        assert (before, after) == (hosts_used(asked, start), hosts_used(asked, where(asked, plan)))


@pytest.mark.parametrize("engine", ENGINES)
@examples(60)
@given(asked=problems(max_hosts=4, max_guests=5))
def test_the_bound_is_no_more_than_brute_force_needs(engine: str, asked: Problem) -> None:
    asked = started(asked, engine)
    plan = consolidate(asked)
    _before, after, bound = said(plan)
    best = min(
        hosts_used(asked, at)
        for choice in itertools.product(asked.hosts, repeat=len(asked.guests))
        if not broken(asked, at := dict(zip(asked.guests, choice, strict=True)))
    )
    assert bound <= best <= after


def broken(asked: Problem, at: dict[str, str]) -> list[str]:
    bare = {name: dataclasses.replace(item, host=None) for name, item in asked.guests.items()}
    anew = dataclasses.replace(asked, guests=bare, verb="place")
    return complaints(anew, Plan(places=tuple(Place(name, home, "") for name, home in at.items())))


@examples(60)
@given(asked=problems())
def test_a_second_run_moves_nothing(asked: Problem) -> None:
    asked = dataclasses.replace(asked, verb="consolidate", options={"engine": "pure"})
    at = where(asked, consolidate(asked))
    guests = {name: dataclasses.replace(item, host=at.get(name, item.host)) for name, item in asked.guests.items()}
    again = consolidate(dataclasses.replace(asked, guests=guests))
    before, after, _bound = said(again)
    assert not again.moves or after < before


@examples(100)
@given(asked=problems(max_hosts=5, max_guests=8), spread=st.sampled_from([Spread("rack"), Spread("host")]))
def test_a_hard_spread_is_as_even_as_before(asked: Problem, spread: Spread) -> None:
    asked = started(asked, "pure", spread)

    def counts(at: dict[str, str]) -> list[int]:
        domains = [
            dict(asked.hosts[home].enclosures).get("rack") if spread.level == "rack" else home for home in at.values()
        ]
        return sorted(map(domains.count, set(domains)))

    start = {name: item.host or "" for name, item in asked.guests.items()}
    assert counts(where(asked, consolidate(asked))) == counts(start)


# -- engines --------------------------------------------------------------------------------------------------------


def four_half_full(**more: object) -> Problem:
    """Four hosts with two guests each; two hosts are enough."""
    hosts = [host(f"h{n}", memory=8) for n in range(1, 5)]
    guests = [guest(f"g{n}", memory=2, host=f"h{1 + n // 2}") for n in range(8)]
    return problem(hosts, guests, verb="consolidate", **more)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_hosts_are_enough(engine: str) -> None:
    asked = four_half_full(options={"engine": engine})
    plan = consolidate(asked)
    assert said(plan) == (4, 2, 2) and len(plan.moves) == 4 and {move.wave for move in plan.moves} == {1}
    assert final_complaints(asked, plan) == []
    assert plan.moves[0].reason.endswith("becomes empty; " + plan.moves[0].target + " then 100 % full")


@needs_solver
def test_the_engine_that_answered_is_named() -> None:
    assert consolidate(four_half_full()).engine == "bin-centric"  # proved best, so no solver was asked
    assert consolidate(four_half_full(options={"engine": "highspy"})).engine == "patterns (highspy)"


def test_without_numpy_and_highspy_pure_python_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    monkeypatch.setitem(sys.modules, "numpy", None)
    hosts = [host(f"h{n}", memory=10) for n in range(6)]
    # three of 4 GiB do not fit in 10, so the bound by volume is not met and a solver would be asked
    guests = [guest(f"g{n}", memory=4, host=f"h{n}") for n in range(6)]
    plan = consolidate(problem(hosts, guests, verb="consolidate"))
    assert said(plan) == (6, 3, 3) and plan.engine == "bin-centric"
    with pytest.raises(PlannerError, match="highspy cannot be imported"):
        consolidate(problem(hosts, guests, verb="consolidate", options={"engine": "highspy"}))


@needs_solver
def test_the_solver_is_asked_where_pure_python_proves_nothing() -> None:
    hosts = [host(f"h{n}", memory=9) for n in range(6)]
    guests = [guest(f"g{n}", memory=4, host=f"h{n}") for n in range(6)] + [guest("x", memory=1, host="h0")]
    plan = consolidate(problem(hosts, guests, verb="consolidate"))
    assert said(plan) == (6, 3, 3)


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(PlannerError, match="'abacus' is none of auto, pure, highspy"):
        consolidate(four_half_full(options={"engine": "abacus"}))


# -- rules ----------------------------------------------------------------------------------------------------------


def test_guests_apart_need_as_many_hosts() -> None:
    asked = four_half_full(rules=[Rule("apart", ("g0", "g2", "g4"))])
    plan = consolidate(asked)
    assert said(plan) == (4, 3, 3) and final_complaints(asked, plan) == []


def test_guests_together_move_as_one() -> None:
    asked = four_half_full(rules=[Rule("together", ("g0", "g1")), Rule("together", ("g6", "g7"))])
    plan = consolidate(asked)
    assert said(plan) == (4, 2, 2) and final_complaints(asked, plan) == []


def test_pinned_and_frozen_guests_and_foreign_use_keep_hosts_in_use() -> None:
    asked = four_half_full(rules=[Rule("pin", ("g0",), hosts=("h1",))])
    guests = {**asked.guests, "g7": dataclasses.replace(asked.guests["g7"], frozen="is being moved")}
    foreign = dataclasses.replace(asked.hosts["h2"], foreign=Resources(0, GIB, 0))
    asked = dataclasses.replace(asked, guests=guests, hosts={**asked.hosts, "h2": foreign})
    plan = consolidate(asked)
    assert said(plan)[:2] == (4, 3) and final_complaints(asked, plan) == []
    assert "stays where it is: g7: is being moved" in plan.notes
    assert {"h1", "h2", "h4"} >= set(where(asked, plan).values())


def test_guests_of_closed_hosts_stay_and_are_named() -> None:
    asked = four_half_full()
    closed = dataclasses.replace(asked.hosts["h1"], closed="is in maintenance: disk")
    plan = consolidate(dataclasses.replace(asked, hosts={**asked.hosts, "h1": closed}))
    assert "stays where it is: g0, g1: its host is in maintenance: disk" in plan.notes
    assert said(plan) == (4, 3, 3) and {move.target for move in plan.moves}.isdisjoint({"h1"})


def test_only_the_partitions_of_the_subjects_are_touched() -> None:
    hosts = [host("a1"), host("a2"), host("b1", partition="others"), host("b2", partition="others")]
    on = {"on": ("hosts", "others")}
    guests = [guest(f"g{n}", host=name, **on) for n, name in enumerate(("a1", "a2", "b1", "b2"))]
    plan = consolidate(problem(hosts, guests, verb="consolidate", subjects=("b1",)))
    assert said(plan) == (2, 1, 1) and [move.source[0] + move.target[0] for move in plan.moves] == ["bb"]


def test_a_spread_over_racks_empties_hosts_inside_them_only() -> None:
    hosts = [host(f"h{n}", enclosures=RACK1 if n < 3 else RACK2) for n in range(1, 5)]
    guests = [guest(f"g{n}", host=f"h{n}") for n in range(1, 5)]
    plan = consolidate(problem(hosts, guests, spread=Spread("rack"), verb="consolidate"))
    assert said(plan) == (4, 2, 2)
    assert {frozenset((move.source, move.target)) for move in plan.moves} == {
        frozenset(("h1", "h2")),
        frozenset(("h3", "h4")),
    }


def test_a_tolerance_that_holds_is_not_given_up() -> None:
    hosts = [host("h0", memory=8, foreign=Resources(0, 3 * GIB, 0)), host("h1", memory=4), host("h2", memory=5)]
    guests = [guest("a", memory=3, host="h1"), guest("b", memory=5, host="h2")]
    assert consolidate(problem(hosts, guests, verb="consolidate")).moves
    careful = problem(hosts, guests, verb="consolidate", tolerate=[Tolerate(1, "host")])
    plan = consolidate(careful)  # with a or b on h0, the other has no place when its host is lost
    assert plan.moves == () and plan.notes[-1].startswith("nothing is moved, for then tolerate {lose: 1, of: host}")
    assert said(plan)[:2] == (3, 3)


def test_no_host_to_gain_no_move() -> None:
    plan = consolidate(problem([host("h1"), host("h2")], [guest("a", memory=8, host="h1"), guest("b", host="h2")]))
    assert plan.moves == () and plan.notes[-1] == "no host would become empty: nothing is moved"


def test_who_stands_on_a_host_that_stays_in_use_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests with sizes of their own: the answer from scratch mixes nearly everything anew."""
    dice = random.Random(1)
    hosts = [host(f"h{n}", vcpus=64, memory=64, disk=1000) for n in range(12)]
    guests = [
        guest(f"g{n:02}", dice.randint(2, 9), dice.randint(2, 9), dice.randint(10, 90), host=f"h{n % 12}")
        for n in range(60)
    ]
    asked = problem(hosts, guests, verb="consolidate", options={"engine": "pure"})
    plan = consolidate(asked)
    monkeypatch.setattr(_planner_consolidate, "keep", lambda _asked, chosen: chosen)
    scratch = consolidate(asked)
    assert final_complaints(asked, plan) == [] and said(plan) == said(scratch)
    assert len(plan.moves) < 0.75 * len(scratch.moves)
