# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewest hosts for few flavours: a configuration LP by column generation, then whole patterns. Needs highspy.

The LP chooses how many hosts of each kind get which pattern; new patterns come from a small knapsack per kind. Its
prices prove the bound: for prices y >= 0 of the flavours, and patterns of kind k worth at most b_k, no answer uses
fewer hosts than sum(y * count) - sum over the kinds of count_k * max(0, b_k - cost_k), where a host that is needed
anyway costs 0 and any other 1.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ._planner_packing import Fill, Packing, Pattern, fits

#: Rounds of pricing in one LP and in all, at most; a round adds at most a pattern per kind of hosts.
ROUNDS, ALL_ROUNDS = 150, 400
#: Nodes of the last search for whole patterns, at most.
NODES = 2000
#: Beyond these the knapsacks take too long.
FLAVOURS, KINDS = 60, 40
#: The bound is believed up to this part of a host, because solvers compute in floating point.
SLACK = 1e-5
#: Cost of leaving a guest out: more than any number of hosts is worth.
MISSING = 10_000.0


def available() -> bool:
    """Whether highspy, and the numpy that it needs, can be imported."""
    try:
        import highspy
        import numpy
    except ImportError:
        return False
    return bool(highspy and numpy)


def suits(packing: Packing) -> bool:
    """Whether the engine is made for this many flavours and kinds."""
    return 0 < len(packing.flavours) <= FLAVOURS and 0 < len(packing.kinds) <= KINDS


def solve(packing: Packing, known: t.Sequence[Fill] | None = None) -> tuple[int, list[Fill] | None]:
    """(a lower bound on the hosts used, an answer or None where none was found); `known` is an answer to start with.

    After the LP comes a dive: fix whole patterns, solve the LP of what is left, and so on. It brings patterns that
    the LP alone does not need; at the end the best whole numbers of all of them are searched.
    """
    master = _Master(packing)
    for kind, pattern in known or ():
        master.add(kind, pattern)
    rest = _Rest([flavour.count for flavour in packing.flavours], [kind.count for kind in packing.kinds])
    relaxed = master.relax(rest)
    bound = packing.needed + math.ceil(relaxed.bound - SLACK)
    if known is not None and packing.used(known) <= bound:
        return bound, list(known)
    rounds = relaxed.rounds
    while relaxed.complete and any(rest.demand) and rounds < ALL_ROUNDS:
        rest = master.fix(rest, relaxed.values)
        relaxed = master.relax(rest)
        rounds += relaxed.rounds
    found = master.choose()
    better = known is None or (found is not None and packing.used(found) < packing.used(known))
    return bound, found if better else list(known or ())


@dataclasses.dataclass(frozen=True)
class _Rest:
    """What is not decided yet: guests by flavour, hosts by kind."""

    demand: list[int]
    hosts: list[int]


@dataclasses.dataclass(frozen=True)
class _Relaxed:
    bound: float  #: on the hosts used beside those that are needed anyway
    values: list[float]  #: how often each pattern is used
    complete: bool  #: every guest has a place
    rounds: int


class _Model:
    """A model of HiGHS, silent and repeatable."""

    def __init__(self, maximize: bool = False) -> None:
        import highspy
        import numpy

        self.numpy, self.infinity = numpy, highspy.kHighsInf
        self.solver = highspy.Highs()
        self._integer, self._continuous = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        self.options(output_flag=False, threads=1, random_seed=1, mip_rel_gap=0.0)
        if maximize:
            self.solver.changeObjectiveSense(highspy.ObjSense.kMaximize)

    def options(self, **values: t.Any) -> None:
        for option, value in values.items():
            self.solver.setOptionValue(option, value)

    def row(self, low: float, high: float) -> None:
        self.solver.addRow(low, high, 0, self.numpy.empty(0, "int32"), self.numpy.empty(0))

    def column(self, cost: float, entries: t.Sequence[tuple[int, float]]) -> None:
        rows = self.numpy.array([row for row, _value in entries], dtype="int32")
        values = self.numpy.array([value for _row, value in entries], dtype="float64")
        self.solver.addCol(cost, 0.0, self.infinity, len(entries), rows, values)

    def integers(self, wanted: bool) -> None:
        for column in range(self.solver.getNumCol()):
            self.solver.changeColIntegrality(column, self._integer if wanted else self._continuous)

    def run(self) -> list[float]:
        self.solver.run()
        return list(self.solver.getSolution().col_value)


class _Master:
    """The patterns that came up, and the LP over them. The first columns leave guests out, one for each flavour."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing
        self.patterns: list[Fill] = []
        self.have: set[Fill] = set()
        self.knapsacks = [_Knapsack(packing, number) for number in range(len(packing.kinds))]
        self.model = _Model()
        self.flavours = len(packing.flavours)
        for _flavour in packing.flavours:
            self.model.row(0.0, self.model.infinity)
        for _kind in packing.kinds:
            self.model.row(-self.model.infinity, 0.0)
        for flavour in range(self.flavours):
            self.model.column(MISSING, [(flavour, 1.0)])

    def add(self, kind: int, pattern: Pattern) -> bool:
        """Whether it is new."""
        if not pattern or (kind, pattern) in self.have:
            return False
        self.have.add((kind, pattern))
        self.patterns.append((kind, pattern))
        entries = [(flavour, float(count)) for flavour, count in pattern]
        cost = 0.0 if self.packing.kinds[kind].needed else 1.0
        self.model.column(cost, [*entries, (self.flavours + kind, 1.0)])
        return True

    def relax(self, rest: _Rest) -> _Relaxed:
        """Solve the LP of the rest, with new patterns until none helps or the bound in whole hosts is met."""
        solver, kinds = self.model.solver, self.packing.kinds
        for flavour, count in enumerate(rest.demand):
            solver.changeRowBounds(flavour, float(count), self.model.infinity)
        for number, hosts in enumerate(rest.hosts):
            solver.changeRowBounds(self.flavours + number, -self.model.infinity, float(hosts))
        bound, rounds, values = 0.0, 0, [0.0]
        while rounds < ROUNDS:
            rounds += 1
            values = self.model.run()
            duals, reached = list(solver.getSolution().row_dual), solver.getInfo().objective_function_value
            prices = [max(0.0, price) for price in duals[: self.flavours]]
            worth = sum(map(float.__mul__, prices, map(float, rest.demand)))
            fresh = False
            for number, kind in enumerate(kinds):
                if not rest.hosts[number]:
                    continue
                most, pattern = self.knapsacks[number].best(prices, rest.demand)
                cost = 0.0 if kind.needed else 1.0
                worth -= rest.hosts[number] * max(0.0, most - cost)
                value = sum(prices[flavour] * count for flavour, count in pattern)
                if value > cost - duals[self.flavours + number] + 1e-7:
                    fresh = self.add(number, pattern) or fresh
            bound = max(bound, worth)
            if not fresh or math.ceil(bound - SLACK) >= reached - SLACK:
                break
        complete = sum(values[: self.flavours]) < SLACK
        return _Relaxed(bound, values[self.flavours :], complete, rounds)

    def fix(self, rest: _Rest, values: t.Sequence[float]) -> _Rest:
        """Decide whole patterns: all whole parts, or else the largest fraction rounded up."""
        times = [math.floor(value + SLACK) for value in values]
        if not any(times):
            times[max(range(len(times)), key=lambda number: values[number])] = 1
        demand, hosts = list(rest.demand), list(rest.hosts)
        for (kind, pattern), often in zip(self.patterns, times, strict=False):
            hosts[kind] -= often
            for flavour, count in pattern:
                demand[flavour] = max(0, demand[flavour] - often * count)
        return _Rest(demand, hosts)

    def choose(self) -> list[Fill] | None:
        """The fewest hosts with whole patterns of the pool; None if the search found no answer."""
        for flavour, wanted in enumerate(self.packing.flavours):
            self.model.solver.changeRowBounds(flavour, float(wanted.count), self.model.infinity)
        hosts = [kind.count for kind in self.packing.kinds]
        for number, count in enumerate(hosts):
            self.model.solver.changeRowBounds(self.flavours + number, -self.model.infinity, float(count))
        self.model.integers(True)
        self.model.options(mip_abs_gap=1 - 1e-3, mip_max_nodes=NODES)
        values = [round(value) for value in self.model.run()]
        left = [flavour.count for flavour in self.packing.flavours]
        fills: list[Fill] = []
        for (kind, pattern), often in zip(self.patterns, values[self.flavours :], strict=True):
            for _host in range(often):
                taken = [(flavour, min(count, left[flavour])) for flavour, count in pattern if left[flavour]]
                for flavour, count in taken:
                    left[flavour] -= count
                hosts[kind] -= 1
                fills.append((kind, tuple(taken)))
        return None if any(left) or min(hosts) < 0 else fills


class _Knapsack:
    """The most valuable pattern for one kind of hosts."""

    def __init__(self, packing: Packing, number: int) -> None:
        kind = packing.kinds[number]
        self.flavours = sorted(f for f in kind.takes if fits(packing.flavours[f].demand, kind.room))
        self.demands = [packing.flavours[flavour].demand for flavour in self.flavours]
        self.room = kind.room
        self.model = _Model(maximize=True)
        self.model.options(mip_abs_gap=1e-7, mip_max_nodes=NODES)
        for _resource in range(3):
            self.model.row(-self.model.infinity, 1.0)
        for demand in self.demands:
            entries = [(number, wish / self.room[number]) for number, wish in enumerate(demand) if wish]
            self.model.column(0.0, entries)
        self.model.integers(True)

    def best(self, prices: t.Sequence[float], demand: t.Sequence[int]) -> tuple[float, Pattern]:
        """(what no pattern is worth more than, a pattern that is worth about as much)."""
        if not self.flavours:
            return 0.0, ()
        solver = self.model.solver
        for column, flavour in enumerate(self.flavours):
            solver.changeColCost(column, prices[flavour])
            solver.changeColBounds(column, 0.0, float(demand[flavour]))
        counts = [round(value) for value in self.model.run()]
        # the solver allows a little more than the room; we do not
        while not fits([sum(map(int.__mul__, counts, kind)) for kind in zip(*self.demands, strict=True)], self.room):
            counts[next(number for number, count in enumerate(counts) if count)] -= 1
        pattern = tuple((flavour, count) for flavour, count in zip(self.flavours, counts, strict=True) if count)
        return max(0.0, solver.getInfo().mip_dual_bound), pattern
