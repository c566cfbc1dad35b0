# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explain: the first rank is where the planner would place it, and what is ruled out is refused by the checker."""

from __future__ import annotations

import dataclasses

from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Rule, Spread, Where
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner import solve
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_explain import choices, explain
from hypothesis import given
from problems import examples, guest, host, problem, problems

RACK1, RACK2 = (("rack", "r1"),), (("rack", "r2"),)


@examples(200)
@given(problems())
def test_what_fits_can_be_done_and_the_first_choice_is_the_planners(asked: Problem) -> None:
    for item in asked.guests.values():
        free = dataclasses.replace(item, host=None, frozen="")
        alone = dataclasses.replace(asked, guests={**asked.guests, item.name: free}, verb="explain")
        every = choices(alone, item.name)
        assert [one.host for one in every] == list(asked.hosts)
        assert [one.words for one in every] == [one.words for one in choices(asked, item.name)]
        for one in every:
            assert (one.rank is None) == bool(one.constraint)
            broken = complaints(alone, Plan(places=(Place(item.name, one.host, ""),)))
            assert not broken if one.rank else one.words
        others = {n: dataclasses.replace(g, frozen="stays") for n, g in asked.guests.items() if n != item.name}
        tied = any(r.kind == "together" and item.name in r.guests for r in asked.cluster.rules)
        if not tied:
            plan = solve(dataclasses.replace(alone, guests={**others, item.name: free}, verb="place"))
            assert [p.host for p in plan.places] == [one.host for one in every if one.rank == 1]


def test_words_and_data() -> None:
    where = Where("x.oscarv.yml", 7, "rules[0]")
    rules = [Rule("apart", ("a", "b"), where=where), Rule("pin", ("a",), hosts=("h1",), soft=True)]
    hosts = [host("h1", enclosures=RACK1), host("h2", enclosures=RACK2), host("h3", memory=0)]
    guests = [guest("a", host="h1"), guest("b", host="h2"), guest("c", host="h1")]
    asked = problem(hosts, guests, rules, Spread("rack"), verb="explain", subjects=("a",))
    plan = explain(asked)
    assert plan.notes == (
        "a on h1: fits, choice 1 of 1, then 25 % full (it is here)",
        "a on h2: b is in h2: rule apart a, b over host (x.oscarv.yml:7)",
        "a on h3: memory: needs 1 GiB, 0 bytes free",
    )
    one, two, three = plan.details["a"]
    assert one == {
        "host": "h1",
        "here": True,
        "words": "fits, choice 1 of 1, then 25 % full",
        "constraint": "",
        "rule": "",
        "rank": 1,
        "load": 0.25,
        "spread": 1,
        "soft_broken": 0,
    }
    assert (two["constraint"], two["rule"], three["constraint"]) == ("apart", "x.oscarv.yml:7", "memory")


def test_soft_rules_that_would_break_are_said() -> None:
    asked = problem(
        [host("h1"), host("h2")], [guest("a")], [Rule("pin", ("a",), hosts=("h2",), soft=True)], subjects=("a",)
    )
    assert explain(asked).notes == (
        "a on h1: fits, choice 2 of 2, then 12 % full, breaks 1 soft rule",
        "a on h2: fits, choice 1 of 2, then 12 % full",
    )
