# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a definition while guests are being placed: apart, together, pin, and the counts behind spread.

A domain is what a rule looks at: a host, or the enclosure of a level in which a host stands. A host that stands in no
enclosure of that level has no domain there; a hard rule then refuses it, because nobody knows what it would share.
"""

from __future__ import annotations

import collections
import typing as t

from ._model import Rule, Spread
from ._plan import GuestState, HostState, Problem
from ._words import listing

HOST = "host"


def domain_of(host: HostState, level: str) -> str | None:
    """The name of the host's domain at a level, None where it has none."""
    if level == HOST:
        return host.name
    return next((name for kind, name in host.enclosures if kind == level), None)


def rule_text(rule: Rule) -> str:
    """The rule in words, with the place where it stands."""
    place = f" ({rule.where.file}:{rule.where.line})" if rule.where else ""
    if rule.kind == "pin":
        return f"rule pin {listing(rule.guests)} to {listing(rule.hosts)}{place}"
    return f"rule {rule.kind} {listing(rule.guests)} over {rule.over}{place}"


class Group:
    """An apart or together rule and which of its guests stand in which domain."""

    def __init__(self, rule: Rule, domains: t.Sequence[str | None]) -> None:
        self.rule = rule
        self.apart = rule.kind == "apart"
        self.domains = domains  #: by host index
        self.present: dict[str | None, set[str]] = collections.defaultdict(set)
        self.ghosts: dict[str | None, set[str]] = collections.defaultdict(set)  #: still there while they move away
        self.count = 0

    def add(self, guest: str, index: int) -> None:
        self.present[self.domains[index]].add(guest)
        self.count += 1

    def remove(self, guest: str, index: int) -> None:
        self.present[self.domains[index]].discard(guest)
        self.count -= 1

    def broken_by(self, guest: str, index: int) -> bool:
        """Whether one more guest there breaks the rule; guests that already break it do not count against others."""
        domain = self.domains[index]
        if domain is None:
            return True
        if self.apart:
            others = self.present.get(domain, set()) | self.ghosts.get(domain, set())
            return bool(others - {guest})
        return len(self.present.get(domain, ())) != self.count

    def words(self, guest: str, index: int) -> str:
        domain = self.domains[index]
        if domain is None:
            return f"stands in no {self.rule.over}: {rule_text(self.rule)}"
        if self.apart:
            others = (self.present.get(domain, set()) | self.ghosts.get(domain, set())) - {guest}
            return f"{listing(sorted(others), 2)} is in {domain}: {rule_text(self.rule)}"
        elsewhere = sorted(str(name) for name, guests in self.present.items() if guests and name != domain)
        return f"the others are in {listing(elsewhere, 2)}: {rule_text(self.rule)}"


class RuleBook:
    """All rules of a problem, by guest."""

    def __init__(self, problem: Problem) -> None:
        self._hosts = list(problem.hosts.values())
        self._levels: dict[str, list[str | None]] = {}
        self.hard: dict[str, list[Group]] = collections.defaultdict(list)
        self.soft: dict[str, list[Group]] = collections.defaultdict(list)
        self.pins: dict[str, list[Rule]] = collections.defaultdict(list)
        self.soft_pins: dict[str, list[Rule]] = collections.defaultdict(list)
        self.groups: list[Group] = []
        self.spreads: dict[str, Spread] = {
            name: part.spread for name, part in problem.cluster.guest_partitions.items() if part.spread
        }
        self.spread_counts: dict[str, dict[str | None, int]] = collections.defaultdict(
            lambda: collections.defaultdict(int)
        )
        for rule in problem.cluster.rules:
            self._add(rule)

    def _add(self, rule: Rule) -> None:
        if rule.kind == "pin":
            book = self.soft_pins if rule.soft else self.pins
            for guest in rule.guests:
                book[guest].append(rule)
            return
        group = Group(rule, self.domains(rule.over))
        self.groups.append(group)
        for guest in rule.guests:
            (self.soft if rule.soft else self.hard)[guest].append(group)

    def domains(self, level: str) -> list[str | None]:
        """The domain of each host at a level, by host index."""
        if level not in self._levels:
            self._levels[level] = [domain_of(host, level) for host in self._hosts]
        return self._levels[level]

    def bound(self, guest: str) -> bool:
        """Whether any rule names the guest."""
        return any(guest in book for book in (self.hard, self.soft, self.pins, self.soft_pins))

    def put(self, guest: GuestState, index: int) -> None:
        for book in (self.hard, self.soft):
            if guest.name in book:
                for group in book[guest.name]:
                    group.add(guest.name, index)
        if guest.partition in self.spreads:
            self.spread_counts[guest.partition][self._spread_domain(guest, index)] += 1

    def take(self, guest: GuestState, index: int, *, ghost: bool = False) -> None:
        """Forget where a guest stands; a ghost still keeps its apart rules' partners away while it moves."""
        for group in (*self.hard.get(guest.name, ()), *self.soft.get(guest.name, ())):
            group.remove(guest.name, index)
            if ghost and group.apart:
                group.ghosts[group.domains[index]].add(guest.name)
        if guest.partition in self.spreads:
            self.spread_counts[guest.partition][self._spread_domain(guest, index)] -= 1

    def _spread_domain(self, guest: GuestState, index: int) -> str | None:
        return self.domains(self.spreads[guest.partition].level)[index]

    def soft_cost(self, guest: str, index: int) -> int:
        """How many soft rules one more guest there would break."""
        host = self._hosts[index].name
        groups = sum(group.broken_by(guest, index) for group in self.soft.get(guest, ()))
        return groups + sum(host not in rule.hosts for rule in self.soft_pins.get(guest, ()))
