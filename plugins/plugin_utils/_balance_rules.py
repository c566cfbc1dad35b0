# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failure domains in the score of a balance: guests too many per domain of an apart rule, and the like.

Whether a move is allowed is judged by the board alone; here is only what it is worth. A hard rule is here too: it may
be broken already, and then a move that mends it is worth something.
"""

from __future__ import annotations

import collections
import typing as t

from ._constraints import Board
from ._model import Rule
from ._plan import GuestState

#: A soft spread yields to soft rules, so it weighs less than one of them.
SOFT_SPREAD = 0.5

Domain = t.Optional[str]


class Crowd:
    """The guests of one rule or spread, counted by domain. `cost` is in guests (or steps of a spread) too many."""

    hard_spread = False

    def __init__(self, weight: float, domains: t.Sequence[Domain], rule: Rule | None = None) -> None:
        self.weight = weight
        self.domains = domains  #: by host
        self.rule = rule
        self.members: list[int] = []
        self.count: collections.Counter[Domain] = collections.Counter()

    def add(self, guest: int, host: int) -> None:
        self.members.append(guest)
        self.count[self.domains[host]] += 1

    def move(self, source: int, target: int) -> None:
        self.count[self.domains[source]] -= 1
        self.count[self.domains[target]] += 1

    def cost(self) -> float:
        raise NotImplementedError

    def change(self, source: Domain, target: Domain) -> float:
        """Growth of the cost by a move between two different domains."""
        raise NotImplementedError

    def hope(self, source: Domain) -> float:
        """The most that a move away from this domain may lower the cost."""
        raise NotImplementedError


class Apart(Crowd):
    """At most one guest per domain; in no domain (None) nobody knows who shares it, so each is one too many."""

    def cost(self) -> float:
        return sum(count - (domain is not None) for domain, count in self.count.items() if count)

    def change(self, source: Domain, target: Domain) -> float:
        return (target is None or self.count[target] > 0) - self.hope(source)

    def hope(self, source: Domain) -> float:
        return float(source is None or self.count[source] > 1)


class Together(Crowd):
    """All in one domain; those outside the fullest are too many."""

    def cost(self) -> float:
        known = [count for domain, count in self.count.items() if domain is not None]
        return sum(self.count.values()) - max(known, default=0)

    def change(self, source: Domain, target: Domain) -> float:
        before = self.cost()
        self.count[source] -= 1
        self.count[target] += 1
        after = self.cost()
        self.count[source] += 1
        self.count[target] -= 1
        return after - before

    def hope(self, source: Domain) -> float:
        return float(self.cost() > 0)


class Even(Crowd):
    """A spread: as even as possible. Each move from a domain to one with two guests less is one step."""

    def cost(self) -> float:
        places = len(self.count)
        share, rest = divmod(sum(self.count.values()), max(1, places))
        best = rest * (share + 1) ** 2 + (places - rest) * share**2
        return (sum(count * count for count in self.count.values()) - best) / 2

    def change(self, source: Domain, target: Domain) -> float:
        return self.count[target] - self.count[source] + 1

    def hope(self, source: Domain) -> float:
        return max(0.0, self.count[source] - 1 - min(self.count.values()))


class HardEven(Even):
    hard_spread = True


class Pinned(Crowd):
    """A soft pin; the domains are "in" and None."""

    def cost(self) -> float:
        return self.count[None]

    def change(self, source: Domain, target: Domain) -> float:
        return 1.0 if target is None else -1.0

    def hope(self, source: Domain) -> float:
        return float(source is None)


class Penalties:
    """All crowds of a board; `total` is their weighted cost."""

    def __init__(
        self, board: Board, guests: t.Sequence[GuestState], at: t.Sequence[int], weights: t.Mapping[str, float]
    ) -> None:
        self.crowds: list[Crowd] = []
        self.of: list[list[Crowd]] = [[] for _guest in guests]
        number = {guest.name: index for index, guest in enumerate(guests)}
        for rule in board.problem.cluster.rules:
            weight = weights["soft" if rule.soft else "hard"]
            members = [number[name] for name in rule.guests if name in number]
            if rule.kind == "pin":
                domains: list[Domain] = ["in" if host.name in rule.hosts else None for host in board.hosts]
                self._add(Pinned(weight, domains, rule), members, at)
            elif len(members) > 1:
                kind = Apart if rule.kind == "apart" else Together
                self._add(kind(weight, board.rules.domains(rule.over), rule), members, at)
        for name, spread in board.rules.spreads.items():
            members = [index for index, guest in enumerate(guests) if guest.partition == name]
            if len(members) > 1:
                kind_of = Even if spread.soft else HardEven
                weight = weights["spread"] * (SOFT_SPREAD if spread.soft else 1.0)
                crowd = kind_of(weight, board.rules.domains(spread.level))
                on = {partition for index in members for partition in guests[index].on}
                for index, host in enumerate(board.hosts):  # empty domains count in what is even
                    if host.partition in on and not board.closed[index]:
                        crowd.count[crowd.domains[index]] += 0
                self._add(crowd, members, at)
        self.total = sum(crowd.weight * crowd.cost() for crowd in self.crowds)

    def _add(self, crowd: Crowd, members: t.Sequence[int], at: t.Sequence[int]) -> None:
        if crowd.weight <= 0 and not crowd.hard_spread:
            return
        self.crowds.append(crowd)
        for guest in members:
            crowd.add(guest, at[guest])
            self.of[guest].append(crowd)

    def change(self, guest: int, source: int, target: int) -> float:
        growth = 0.0
        for crowd in self.of[guest]:
            here, there = crowd.domains[source], crowd.domains[target]
            if here != there:
                growth += crowd.weight * crowd.change(here, there)
        return growth

    def refused(self, guest: int, source: int, target: int) -> bool:
        """Whether the move makes a spread that is no soft one less even."""
        return any(
            crowd.hard_spread
            and crowd.domains[source] != crowd.domains[target]
            and crowd.change(crowd.domains[source], crowd.domains[target]) > 0
            for crowd in self.of[guest]
        )

    def exchange(self, one: int, other: int, here: int, there: int) -> float:
        """Growth of the cost if the two change places; nothing changes for what both belong to."""
        growth = 0.0
        for guest, partner, source, target in ((one, other, here, there), (other, one, there, here)):
            for crowd in self._alone(guest, partner, source, target):
                growth += crowd.weight * crowd.change(crowd.domains[source], crowd.domains[target])
        return growth

    def exchange_refused(self, one: int, other: int, here: int, there: int) -> bool:
        """Whether changing places makes a spread that is no soft one less even."""
        return any(
            crowd.hard_spread and crowd.change(crowd.domains[source], crowd.domains[target]) > 0
            for guest, partner, source, target in ((one, other, here, there), (other, one, there, here))
            for crowd in self._alone(guest, partner, source, target)
        )

    def _alone(self, guest: int, partner: int, source: int, target: int) -> t.Iterator[Crowd]:
        for crowd in self.of[guest]:
            if crowd.domains[source] != crowd.domains[target] and crowd not in self.of[partner]:
                yield crowd

    def hope(self, guest: int, host: int) -> float:
        return sum(crowd.weight * crowd.hope(crowd.domains[host]) for crowd in self.of[guest])

    def move(self, guest: int, source: int, target: int) -> None:
        self.total += self.change(guest, source, target)
        for crowd in self.of[guest]:
            crowd.move(source, target)

    def broken(self) -> dict[str, float]:
        """Cost by kind of crowd, not weighted, for people."""
        found = {"rules": 0.0, "spread": 0.0}
        for crowd in self.crowds:
            found["spread" if crowd.rule is None else "rules"] += crowd.cost()
        return found
