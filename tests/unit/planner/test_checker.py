# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker finds each broken constraint: plans made wrong by hand."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Resources, Rule
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Move, Place, Plan, Problem, Stays
from problems import GIB, guest, host, problem

RACK1, RACK2 = (("rack", "r1"),), (("rack", "r2"),)


def places(*pairs: tuple[str, str]) -> Plan:
    return Plan(places=tuple(Place(name, where, "") for name, where in pairs))


def test_a_good_plan_has_no_complaints() -> None:
    assert complaints(problem([host("h1")], [guest("a")]), places(("a", "h1"))) == []


def wrong_places() -> t.Iterator[t.Any]:
    def case(name: str, asked: Problem, plan: Plan, words: str) -> t.Any:
        return pytest.param(asked, plan, words, id=name)

    a, b = guest("a"), guest("b")
    both = places(("a", "h1"), ("b", "h1"))
    yield case("memory", problem([host("h1", memory=1)], [a, b]), both, "memory")
    yield case("vcpus", problem([host("h1", vcpus=1.5)], [a, b]), both, "vcpus")
    yield case("disk", problem([host("h1", disk=1)], [a, b]), both, "disk")
    foreign = host("h1", memory=2, foreign=Resources(0, GIB, 0))
    yield case("foreign", problem([foreign], [a, b]), both, "memory")
    yield case("unknown capacity", problem([host("h1", capacity=None)], [a]), places(("a", "h1")), "no known capacity")
    yield case("closed", problem([host("h1", closed="fenced")], [a]), places(("a", "h1")), "is closed")
    yield case("partition", problem([host("h1", partition="x")], [a]), places(("a", "h1")), "may not run in x")
    needy = guest("a", needs=("uefi",))
    yield case("capability", problem([host("h1", lacks={"uefi": "-"})], [needy]), places(("a", "h1")), "uefi")
    pin = Rule("pin", ("a",), hosts=("h2",))
    yield case("pin", problem([host("h1"), host("h2")], [a], [pin]), places(("a", "h1")), "pinned")
    yield case("apart", problem([host("h1")], [a, b], [Rule("apart", ("a", "b"))]), both, "a and b are both in host h1")
    two = [host("h1", enclosures=RACK1), host("h2", enclosures=RACK1), host("h3", enclosures=RACK2)]
    rack = Rule("apart", ("a", "b"), over="rack")
    yield case("apart over rack", problem(two, [a, b], [rack]), places(("a", "h1"), ("b", "h2")), "rack r1")
    together = Rule("together", ("a", "b"), over="rack")
    yield case("together", problem(two, [a, b], [together]), places(("a", "h1"), ("b", "h3")), "together over rack")
    bare = [host("h1"), host("h2")]
    yield case("no rack known", problem(bare, [a, b], [rack]), places(("a", "h1"), ("b", "h2")), "both in rack None")
    yield case("no answer", problem([host("h1")], [a, b]), places(("a", "h1")), "guest b got no answer")
    yield case("twice", problem([host("h1")], [a]), places(("a", "h1"), ("a", "h1")), "2 times")
    yield case("no such host", problem([host("h1")], [a]), places(("a", "h9")), "host h9 does not exist")
    yield case("has a host", problem([host("h1")], [guest("a", host="h1")]), places(("a", "h1")), "has a host already")


@pytest.mark.parametrize(("asked", "plan", "words"), list(wrong_places()))
def test_each_broken_constraint_of_a_place_is_named(asked: Problem, plan: Plan, words: str) -> None:
    found = complaints(asked, plan)
    assert len(found) == 1 and words in found[0], found


def test_what_was_broken_before_is_no_complaint() -> None:
    rule = Rule("apart", ("a", "b"))
    guests = [guest("a", host="h1"), guest("b", host="h1"), guest("c")]
    assert complaints(problem([host("h1")], guests, [rule]), places(("c", "h1"))) == []


def test_a_move_holds_capacity_and_rules_on_both_ends() -> None:
    hosts = [host("h1"), host("h2", memory=1), host("h3")]
    guests = [guest("a", host="h1"), guest("b", host="h2")]
    asked = problem(hosts, guests, [Rule("apart", ("a", "b"))], verb="evacuate", subjects=("h1", "h2"))
    one_wave = Plan(moves=(Move("a", "h1", "h2", 1, ""), Move("b", "h2", "h3", 1, "")))
    found = complaints(asked, one_wave)
    assert any("wave 1: h2: memory" in text for text in found)
    assert any("wave 1: a and b are both in host h2" in text for text in found)
    assert any("h2 is closed but gets a" in text for text in found)


def test_a_frozen_guest_must_stay_and_be_answered() -> None:
    asked = problem(
        [host("h1"), host("h2")], [guest("a", host="h1", frozen="is being moved")], verb="evacuate", subjects=("h1",)
    )
    assert complaints(asked, Plan()) == ["guest a got no answer"]
    assert "must not be touched" in complaints(asked, Plan(moves=(Move("a", "h1", "h2", 1, ""),)))[0]
    assert complaints(asked, Plan(stays=(Stays("a", "is being moved"),))) == []
