# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fewest guests whose leaving brings a host under its limits: a small covering problem in three resources."""

from __future__ import annotations

import dataclasses
import fractions
import math
import typing as t

Demand = tuple[int, int, int]

#: Branches of the search for one host and one number of guests, at most. Beyond it the bound is a little weaker.
STEPS = 20_000
#: Shares of the units, the smallest ones, in which sets are looked for.
SHARES = (0.4, 0.7, 1.0)


@dataclasses.dataclass(frozen=True)
class Unit:
    """Guests that leave together, and what that frees; equal `alike` means that one is as good as the other."""

    guests: tuple[str, ...]
    demand: Demand
    alike: t.Hashable

    @property
    def cost(self) -> int:
        return len(self.guests)


@dataclasses.dataclass(frozen=True)
class Covers:
    """Sets of units that free the excess, all of the same cost, the smallest demand first."""

    cost: int
    sets: tuple[tuple[Unit, ...], ...]
    complete: bool  #: no other set has this cost


def least(units: t.Sequence[Unit], excess: t.Sequence[int]) -> int | None:
    """A number of guests below which no set of units frees the excess; None: not even all do."""
    answer = 0
    for kind in range(3):
        if excess[kind] <= 0:
            continue
        # as if a unit of n guests could be taken in n equal shares: never more guests than for whole units
        shares = [fractions.Fraction(unit.demand[kind], unit.cost) for unit in units for _guest in unit.guests]
        left, taken = fractions.Fraction(excess[kind]), 0
        for share in sorted(shares, reverse=True):
            if left <= 0:
                break
            left -= share
            taken += 1
        if left > 0:
            return None
        answer = max(answer, taken)
    return answer


def covers(units: t.Sequence[Unit], excess: t.Sequence[int], cost: int, limit: int) -> Covers:
    """Up to `limit` sets of exactly this cost that free the excess and differ in more than names.

    Small units find a place more easily than big ones, so sets of only these are looked for first.
    """
    whole = [max(1, sum(unit.demand[kind] for unit in units)) for kind in range(3)]
    by_bulk = sorted(units, key=lambda unit: (_bulk([unit], whole), unit.guests))
    found: dict[tuple[Unit, ...], None] = {}
    complete = False
    for share in SHARES:
        search = _Search(by_bulk[: math.ceil(share * len(units))], excess, cost, limit)
        search.run(0, cost, [max(0, amount) for amount in excess])
        found.update(dict.fromkeys(search.found))
        complete = search.steps < STEPS and len(search.found) < limit
    sets = sorted(found, key=lambda chosen: (_bulk(chosen, whole), [unit.guests for unit in chosen]))
    return Covers(cost, tuple(sets[:limit]), complete)


def _bulk(chosen: t.Sequence[Unit], whole: t.Sequence[int]) -> float:
    return sum(max(wish / all_ for wish, all_ in zip(unit.demand, whole, strict=True)) for unit in chosen)


class _Search:
    """Depth first over the units, the biggest for the excess first."""

    def __init__(self, units: t.Sequence[Unit], excess: t.Sequence[int], cost: int, limit: int) -> None:
        scale = [max(1, amount) for amount in excess]
        self.units = sorted(
            units,
            key=lambda unit: (
                -sum(
                    min(1.0, wish / want)
                    for wish, want, over in zip(unit.demand, scale, excess, strict=True)
                    if over > 0
                )
                / unit.cost,
                str(unit.alike),
                unit.guests,
            ),
        )
        # the most that one guest from here on frees of each resource
        self.most = [[0.0] * 3 for _unit in range(len(self.units) + 1)]
        for number in reversed(range(len(self.units))):
            unit = self.units[number]
            self.most[number] = [max(m, d / unit.cost) for m, d in zip(self.most[number + 1], unit.demand, strict=True)]
        self.limit, self.steps = limit, 0
        self.chosen: list[Unit] = []
        self.found: list[tuple[Unit, ...]] = []

    def run(self, start: int, cost: int, left: list[int]) -> None:
        if not cost:
            if not any(left):
                self.found.append(tuple(self.chosen))
            return
        tried: set[t.Hashable] = set()
        for number in range(start, len(self.units)):
            if self.steps >= STEPS or len(self.found) >= self.limit:
                return
            if any(want > most * cost * (1 + 1e-9) for want, most in zip(left, self.most[number], strict=True)):
                return
            unit = self.units[number]
            if unit.cost > cost or unit.alike in tried:
                continue
            tried.add(unit.alike)
            self.steps += 1
            self.chosen.append(unit)
            rest = [max(0, want - gives) for want, gives in zip(left, unit.demand, strict=True)]
            self.run(number + 1, cost - unit.cost, rest)
            self.chosen.pop()
