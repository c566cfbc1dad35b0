# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contradictory rules are found if and only if brute force finds no placement, and every named set is minimal."""

from __future__ import annotations

import dataclasses
import re

from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._contradictions import contradictions
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Rule, Tolerate, Where
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem
from hypothesis import given
from hypothesis import strategies as st
from problems import brute_force, examples, guest, host, problem

RACK1, RACK2, RACK3 = (("rack", "r1"),), (("rack", "r2"),), (("rack", "r3"),)


@st.composite
def ruled(draw: st.DrawFn) -> Problem:
    """Few guests and many rules; everything has room."""
    hosts = [
        host(
            f"h{n}",
            99,
            99,
            enclosures=draw(st.sampled_from([(), RACK1, RACK2])),
            partition=draw(st.sampled_from(["hosts", "hosts", "others"])),
        )
        for n in range(draw(st.integers(1, 4)))
    ]
    names = [f"g{n}" for n in range(draw(st.integers(2, 4)))]
    guests = [guest(n, on=draw(st.sampled_from([("hosts",), ("hosts", "others")]))) for n in names]
    rules = []
    for line in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["apart", "together", "pin"]))
        chosen = tuple(draw(st.lists(st.sampled_from(names), min_size=1 + (kind != "pin"), max_size=3, unique=True)))
        where = Where("f", line, "")
        if kind == "pin":
            there = draw(st.lists(st.sampled_from([h.name for h in hosts]), min_size=1, max_size=2, unique=True))
            rules.append(Rule("pin", chosen, hosts=tuple(there), where=where))
        else:
            rules.append(Rule(kind, chosen, over=draw(st.sampled_from(["host", "rack"])), where=where))
    return problem(hosts, guests, rules)


def possible(asked: Problem) -> bool:
    named = {name for rule in asked.cluster.rules for name in rule.guests}
    guests = {n: g for n, g in asked.guests.items() if n in named}
    asked = dataclasses.replace(asked, guests=guests)
    racked = {n for r in asked.cluster.rules if r.over == "rack" and r.kind != "pin" for n in r.guests}

    def broken(choice: dict[str, str]) -> bool:
        if any(not asked.hosts[choice[name]].enclosures for name in racked):
            return True  # the checker cannot see it for a lonely guest
        return bool(complaints(asked, Plan(places=tuple(Place(g, h, "") for g, h in choice.items()))))

    return brute_force(asked, list(guests.values()), broken)


def with_rules(asked: Problem, rules: tuple[Rule, ...]) -> Problem:
    return dataclasses.replace(asked, cluster=dataclasses.replace(asked.cluster, rules=rules))


@examples(300)
@given(ruled())
def test_found_if_and_only_if_nothing_keeps_them_and_each_set_is_minimal(asked: Problem) -> None:
    found = contradictions(asked)
    assert bool(found) == (not possible(asked)), found
    for text in found:
        lines = {int(line) for line in re.findall(r"\(f:(\d+)\)", text)}
        named = tuple(rule for rule in asked.cluster.rules if rule.where and rule.where.line in lines)
        facts = set(re.findall(r"partition workers on ([a-z, ]+)", text))
        guests = {  # what the set does not name does not limit anybody
            n: g if ", ".join(g.on) in facts else dataclasses.replace(g, on=("hosts", "others"))
            for n, g in asked.guests.items()
        }
        alone = dataclasses.replace(asked, guests=guests)
        assert not possible(with_rules(alone, named)), text
        for left_out in named:
            assert possible(with_rules(alone, tuple(rule for rule in named if rule is not left_out))), text


def at(line: int) -> Where:
    return Where("c.oscarv.yml", line, "")


def test_three_rules_that_exclude_each_other_are_named_and_no_fourth() -> None:
    hosts = [host(f"h{n}", enclosures=rack) for n, rack in enumerate((RACK1, RACK1, RACK2))]
    rules = [
        Rule("together", ("a", "b"), over="rack", where=at(4)),
        Rule("pin", ("c",), hosts=("h2",), where=at(5)),
        Rule("pin", ("a",), hosts=("h0", "h1"), where=at(6)),
        Rule("together", ("b", "c"), over="rack", where=at(7)),
        Rule("apart", ("a", "d"), where=at(8)),
    ]
    assert contradictions(problem(hosts, [guest(n) for n in "abcd"], rules)) == [
        "these 4 exclude each other: rule together a, b over rack (c.oscarv.yml:4); rule pin c to h2 (c.oscarv.yml:5);"
        " rule pin a to h0, h1 (c.oscarv.yml:6); rule together b, c over rack (c.oscarv.yml:7)"
    ]


def test_more_guests_apart_than_racks() -> None:
    hosts = [host(f"h{n}", enclosures=rack) for n, rack in enumerate((RACK1, RACK1, RACK2))]
    rule = Rule("apart", ("a", "b", "c"), over="rack", where=at(3))
    assert contradictions(problem(hosts, [guest(n) for n in "abc"], [rule])) == [
        "rule apart a, b, c over rack (c.oscarv.yml:3) cannot be kept: 3 guests, 2 racks"
    ]


def test_a_pin_to_a_host_of_another_partition() -> None:
    hosts = [host("h1"), host("x1", partition="xen")]
    rule = Rule("pin", ("a",), hosts=("x1",), where=at(3))
    asked = problem(hosts, [guest("a")], [rule])
    partition = dataclasses.replace(asked.cluster.guest_partitions["workers"], where=at(1))
    asked = dataclasses.replace(
        asked, cluster=dataclasses.replace(asked.cluster, guest_partitions={"workers": partition})
    )
    assert contradictions(asked) == [
        "these 2 exclude each other: partition workers on hosts (c.oscarv.yml:1); rule pin a to x1 (c.oscarv.yml:3)"
    ]


def test_contradictions_that_share_nothing_are_all_named_and_soft_rules_are_none() -> None:
    rules = [
        Rule("apart", ("a", "b"), where=at(1)),
        Rule("together", ("a", "b"), where=at(2)),
        Rule("apart", ("c", "d"), where=at(3)),
        Rule("together", ("c", "d"), where=at(4)),
        Rule("apart", ("e", "f"), where=at(5)),
        Rule("together", ("e", "f"), soft=True, where=at(6)),
    ]
    found = contradictions(problem([host("h1"), host("h2")], [guest(n) for n in "abcdef"], rules))
    assert [re.findall(r":(\d)\)", text) for text in found] == [["1", "2"], ["3", "4"]]


def test_tolerated_losses_that_a_rule_leaves_no_place_for() -> None:
    hosts = [host(f"h{n}", enclosures=rack) for n, rack in enumerate((RACK1, RACK2, RACK3))]
    pin = Rule("pin", ("a",), hosts=("h1",), where=at(3))
    apart = Rule("apart", ("b", "c", "d"), over="rack", where=at(4))
    two = Rule("apart", ("b", "c"), over="rack", where=at(5))
    asked = problem(hosts, [guest(n) for n in "abcd"], [pin, apart, two], tolerate=[Tolerate(1, "host")])
    assert contradictions(asked) == [
        "these 2 exclude each other: tolerate {lose: 1, of: host} of partition workers; rule pin a to h1"
        " (c.oscarv.yml:3) (a may run nowhere once h1 is lost)",
        "these 2 exclude each other: tolerate {lose: 1, of: host} of partition workers; rule apart b, c, d over rack"
        " (c.oscarv.yml:4) (3 guests, 2 racks left once h0 is lost)",
    ]


def test_many_guests_apart_on_as_many_hosts_take_no_search() -> None:
    names = tuple(f"g{n:03}" for n in range(120))
    hosts = [host(f"h{n:03}") for n in range(119)]
    rules = [Rule("apart", names), Rule("together", names[:2], over="host", soft=True)]
    assert len(contradictions(problem(hosts, [guest(n) for n in names], rules))) == 1
    assert contradictions(problem([*hosts, host("h119")], [guest(n) for n in names], rules)) == []
