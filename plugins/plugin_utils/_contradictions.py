# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hard rules that no placement can keep, whatever is free: minimal sets of them, with the lines where they stand.

Judged are apart, together, pins, and the host partitions that guests may run on; hosts in maintenance count as there.
A set is minimal by deletion: without any one of its members the rest can be kept.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ._model import Rule
from ._plan import Problem
from ._rules import rule_text
from ._rules_search import Bits, Search
from ._words import counted, listing


@dataclasses.dataclass(frozen=True)
class Fact:
    """Guests of a partition may run on some host partitions only."""

    partition: str
    on: tuple[str, ...]


Item = t.Union[Rule, Fact]


def contradictions(problem: Problem) -> list[str]:
    """Minimal sets of rules that exclude each other, in words, each with file and line; empty: none was found.

    Sets that share no member; a search that is too long finds nothing and claims nothing.
    """
    if not problem.hosts:
        return []
    found, bits = [], Bits(list(problem.hosts.values()))
    for rules in _components(problem):
        rules = list(rules)
        while rules:
            facts = _facts(problem, rules)
            if _possible(problem, bits, [*rules, *facts]):
                break
            least = _minimal(problem, bits, [*facts, *rules])
            found.append(_words(problem, least))
            gone = [item for item in least if isinstance(item, Rule)]
            if not gone:
                break
            rules = [rule for rule in rules if not any(rule is other for other in gone)]
    return found + list(_lost_too_much(problem))


def _components(problem: Problem) -> list[list[Rule]]:
    """Hard rules that share guests, directly or over others; each component can be judged alone."""
    rules = [
        rule for rule in problem.cluster.rules if not rule.soft and any(name in problem.guests for name in rule.guests)
    ]
    parent = list(range(len(rules)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[str, int] = {}
    for number, rule in enumerate(rules):
        for name in rule.guests:
            parent[root(number)] = root(first.setdefault(name, number))
    groups: dict[int, list[Rule]] = collections.defaultdict(list)
    for number, rule in enumerate(rules):
        groups[root(number)].append(rule)
    return list(groups.values())


def _facts(problem: Problem, rules: t.Iterable[Rule]) -> list[Fact]:
    guests = [problem.guests[name] for rule in rules for name in rule.guests if name in problem.guests]
    return list(dict.fromkeys(Fact(guest.partition, guest.on) for guest in guests))


def _possible(problem: Problem, bits: Bits, items: t.Sequence[Item]) -> bool:
    """Whether some placement keeps all of these; also True where the search gave up."""
    facts = {(item.partition, item.on) for item in items if isinstance(item, Fact)}
    rules = [item for item in items if isinstance(item, Rule)]
    names = dict.fromkeys(name for rule in rules for name in rule.guests if name in problem.guests)
    guests = [problem.guests[name] for name in names]
    limited = {guest.name: guest.on for guest in guests if (guest.partition, guest.on) in facts}
    return Search(bits, rules, list(names), limited).possible()


def _minimal(problem: Problem, bits: Bits, items: t.Sequence[Item]) -> list[Item]:
    """A smallest part of these that is still impossible: no member can be left out."""
    least = list(items)
    for item in items:
        without = [other for other in least if other is not item]
        if not _possible(problem, bits, without):
            least = without
    return least


def _words(problem: Problem, items: t.Sequence[Item]) -> str:
    texts = [_text(problem, item) for item in items]
    rules = [item for item in items if isinstance(item, Rule)]
    why = _count(problem, rules[0]) if len(rules) == 1 and rules[0].kind == "apart" else ""
    if len(items) == 1:
        return f"{texts[0]} cannot be kept" + (f": {why}" if why else "")
    return f"these {len(items)} exclude each other: {'; '.join(texts)}" + (f" ({why})" if why else "")


def _text(problem: Problem, item: Item) -> str:
    if isinstance(item, Rule):
        return rule_text(item)
    partition = problem.cluster.guest_partitions.get(item.partition)
    place = f" ({partition.where.file}:{partition.where.line})" if partition and partition.where else ""
    return f"partition {item.partition} on {', '.join(item.on) or 'no host partition'}{place}"


def _count(problem: Problem, rule: Rule) -> str:
    """Guests and domains of an apart rule, as far as its guests may run there."""
    guests = [problem.guests[name] for name in rule.guests if name in problem.guests]
    domains = {
        _domain(problem, name, rule.over)
        for name, host in problem.hosts.items()
        if any(host.partition in guest.on for guest in guests)
    } - {None}
    return f"{counted(len(guests), 'guest')}, {counted(len(domains), rule.over)}"


def _domain(problem: Problem, host: str, level: str) -> str | None:
    return host if level == "host" else dict(reversed(problem.hosts[host].enclosures)).get(level)


# -- rules against tolerated losses ---------------------------------------------------------------------------------


def _lost_too_much(problem: Problem) -> t.Iterator[str]:
    """A pin or an apart rule whose guests have too few places left after a loss that is to be tolerated."""
    for partition in problem.cluster.guest_partitions.values():
        place = f" ({partition.where.file}:{partition.where.line})" if partition.where else ""
        for clause in partition.tolerate:
            if not clause.lose:
                continue
            text = f"tolerate {{lose: {clause.lose}, of: {clause.of}}} of partition {partition.name}{place}"
            for rule in problem.cluster.rules:
                why = _too_few(problem, rule, partition.name, clause.lose, clause.of)
                if why:
                    yield f"these 2 exclude each other: {text}; {rule_text(rule)} ({why})"


def _too_few(problem: Problem, rule: Rule, partition: str, lose: int, of: str) -> str:
    guests = [problem.guests[name] for name in rule.guests if name in problem.guests]
    if rule.soft or rule.kind == "together" or not guests:
        return ""
    if rule.kind == "pin":
        hosts = [name for name in rule.hosts if name in problem.hosts]
        ours = [guest.name for guest in guests if guest.partition == partition]
        domains = {_domain(problem, name, of) or f"host {name}" for name in hosts}
        if ours and hosts and len(domains) <= lose:
            return f"{listing(ours, 3)} may run nowhere once {listing(sorted(domains))} is lost"
        return ""
    if any(guest.partition != partition for guest in guests):
        return ""
    inside: dict[str, set[str]] = collections.defaultdict(set)
    for name, host in problem.hosts.items():
        there = _domain(problem, name, rule.over)
        if there is not None and any(host.partition in guest.on for guest in guests):
            inside[_domain(problem, name, of) or f"host {name}"].add(there)
    every = set().union(*inside.values()) if inside else set()
    gone = sorted(inside, key=lambda name: (-len(inside[name]), name))[:lose]
    left = set().union(*(places for name, places in inside.items() if name not in gone))
    if len(every) >= len(guests) > len(left):
        lost = listing(gone)
        return f"{counted(len(guests), 'guest')}, {counted(len(left), rule.over)} left once {lost} is lost"
    return ""
