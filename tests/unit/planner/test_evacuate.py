# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evacuation moves or explains every guest, uses several targets, and never parks."""

from __future__ import annotations

import collections
import dataclasses

from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Rule, Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_evacuate import evacuate
from hypothesis import given
from hypothesis import strategies as st
from problems import examples, guest, host, problem, problems

RACK1, RACK2 = (("rack", "r1"),), (("rack", "r2"),)


@examples(400)
@given(problems(tolerate=True), st.data())
def test_every_guest_is_moved_or_explained(asked: Problem, data: st.DataObject) -> None:
    subjects = tuple(data.draw(st.lists(st.sampled_from(sorted(asked.hosts)), min_size=1, unique=True)))
    options = data.draw(st.sampled_from([{}, {"moves_per_host": 1}, {"moves_total": 1}, {"make_room": True}]))
    asked = dataclasses.replace(asked, verb="evacuate", subjects=subjects, options=options)
    plan = evacuate(asked)
    assert complaints(asked, plan, always_together=True) == []
    assert all(stay.reason for stay in plan.stays)
    ends = collections.Counter((end, m.wave) for m in plan.moves for end in (m.source, m.target))
    assert max(ends.values(), default=0) <= options.get("moves_per_host", 2)
    if not options.get("make_room"):
        assert {m.source for m in plan.moves} <= set(subjects)
        assert len({move.guest for move in plan.moves}) == len(plan.moves)


@examples(200)
@given(problems(), st.data())
def test_a_second_evacuation_moves_nothing(asked: Problem, data: st.DataObject) -> None:
    subjects = tuple(data.draw(st.lists(st.sampled_from(sorted(asked.hosts)), min_size=1, unique=True)))
    asked = dataclasses.replace(asked, verb="evacuate", subjects=subjects, options={"moves_per_host": 9})
    plan = evacuate(asked)
    tied = {name for rule in asked.cluster.rules if rule.kind != "pin" for name in rule.guests}
    where = {move.guest: move.target for move in plan.moves}
    guests = {n: dataclasses.replace(g, host=where.get(n, g.host)) for n, g in asked.guests.items()}
    again = evacuate(dataclasses.replace(asked, guests=guests))
    assert {move.guest for move in again.moves} <= tied  # a partner's move may have made room for a bound guest


def test_several_targets_and_what_fits_nowhere_stays() -> None:
    hosts = [host("h1"), host("h2", memory=2), host("h3", memory=1)]
    guests = [guest(f"g{n}", host="h1") for n in range(4)]
    plan = evacuate(problem(hosts, guests, verb="evacuate", subjects=("h1",)))
    assert collections.Counter(move.target for move in plan.moves) == {"h2": 2, "h3": 1}
    assert collections.Counter(move.wave for move in plan.moves) == {1: 2, 2: 1}
    assert plan.notes == ("2 waves of moves; no order of them has fewer than 2",)
    assert len(plan.stays) == 1 and plan.stays[0].rejected["h1"] == "is being evacuated"


def test_small_gaps_are_filled_where_the_emptiest_host_is_needed_whole() -> None:
    hosts = [host("h1", vcpus=9), host("h2", memory=4, vcpus=9), host("h3", memory=4, vcpus=9)]
    guests = [guest("a", memory=3, vcpus=8, host="h1"), guest("b", memory=4, host="h1"), guest("c", host="h3")]
    plan = evacuate(problem(hosts, guests, verb="evacuate", subjects=("h1",)))
    assert {move.guest: move.target for move in plan.moves} == {"a": "h3", "b": "h2"} and plan.stays == ()
    assert plan.moves[0].reason == "fullest that fits, then 100 % full"


def test_partners_apart_are_never_together_on_the_way() -> None:
    hosts = [host("h1", enclosures=RACK1), host("h2", enclosures=RACK2), host("h3", enclosures=RACK2)]
    guests = [guest("a", host="h1"), guest("b", host="h2")]
    rule = Rule("apart", ("a", "b"), over="rack")
    plan = evacuate(problem(hosts, guests, [rule], verb="evacuate", subjects=("h1", "h2")))
    assert [(m.guest, m.target) for m in plan.moves] == [("b", "h3")] and [s.guest for s in plan.stays] == ["a"]


def test_losses_that_are_tolerated_no_more_are_noted() -> None:
    guests = [guest("a", memory=5, host="h1"), guest("b", memory=5, host="h2")]
    asked = problem(
        [host("h1"), host("h2"), host("h3")],
        guests,
        tolerate=[Tolerate(1, "host")],
        verb="evacuate",
        subjects=("h1",),
    )
    assert any(note.startswith("then broken: tolerate {lose: 1, of: host}") for note in evacuate(asked).notes)


def test_others_make_room_on_demand_and_leave_before_the_evacuated_come() -> None:
    hosts = [host("h1"), host("h2", memory=6), host("h3", memory=2)]
    asked = problem(hosts, [guest("a", memory=6, host="h1"), guest("b", memory=2, host="h2")], verb="evacuate")
    asked = dataclasses.replace(asked, subjects=("h1",))
    assert evacuate(asked).moves == ()
    plan = evacuate(dataclasses.replace(asked, options={"make_room": True}))
    assert [(m.guest, m.target, m.wave) for m in plan.moves] == [("b", "h3", 1), ("a", "h2", 2)]
    assert plan.notes[0] == "1 guest of other hosts make room; at least 1 must" and plan.stays == ()
