# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How well guests are spread: one number, 0 is perfect, and what a move does to it in constant time.

    score = sum over metrics of weight * standard deviation over the hosts of how full they are
          + sum over rules of weight * guests that stand where the rule does not want them

Hosts are compared only with hosts that can exchange guests with them. Running sums of fill and of its square make the
effect of a move a matter of two hosts. It is the score of Ganeti's `hbal` for the metrics of our model: with hbal's
weights (tests/bench/bench_balance.py) both print the same number.
"""

from __future__ import annotations

import math
import typing as t

from ._balance_rules import Penalties
from ._constraints import MILLI, Amount, Board
from ._plan import GuestState

#: What counts how much. `guests` is the number of guests on a host, `hard` and `soft` are rules that running guests
#: break, per guest too many; `spread` is per step by which a partition's spread could be more even.
WEIGHTS: t.Mapping[str, float] = {
    "vcpus": 1.0,
    "memory": 1.0,
    "disk": 1.0,
    "guests": 0.0,
    "hard": 2.0,
    "soft": 1.0,
    "spread": 1.0,
}
RESOURCES = ("vcpus", "memory", "disk", "guests")
#: A standard deviation below this is as good as none; keeps the marginal price of a full host finite.
FLAT = 1e-4

Demand = tuple[float, ...]


class Metric:
    """The fill of each host in one resource, and per set of comparable hosts its sum and sum of squares."""

    def __init__(self, weight: float, inverse: list[float], fill: list[float], sets: list[int], counted: int) -> None:
        self.weight = weight
        self.inverse = inverse  #: one over the host's total, by host; what a unit of demand adds to its fill
        self.fill = fill
        self.sets = sets  #: the set of each host; -1: not counted
        self.counted = counted
        number = max(sets, default=-1) + 1
        self.size = [0] * number
        self.sum = [0.0] * number
        for host, which in enumerate(sets):
            if which >= 0:
                self.size[which] += 1
                self.sum[which] += fill[host]
        self.squares = sum(
            (fill[host] - self.sum[which] / self.size[which]) ** 2 for host, which in enumerate(sets) if which >= 0
        )  #: of the distances from the mean of the own set
        self.factor = 0.0
        self.bend: list[float] = []
        self.slope: list[float] = []
        self.reprice()

    def value(self, squares: float) -> float:
        return self.weight * math.sqrt(squares / self.counted) if squares > 0 else 0.0

    def deviation(self) -> float:
        return math.sqrt(max(0.0, self.squares) / self.counted) if self.counted else 0.0

    def price(self) -> float:
        """What the sum of squares is worth now: the derivative of `value`."""
        return self.weight / (2 * max(self.deviation(), FLAT) * self.counted) if self.counted else 0.0

    def reprice(self) -> None:
        """Take today's price. To first order a demand that comes to a host costs demand * (demand * bend + slope)."""
        self.factor = self.price()
        self.bend = [self.factor * inverse * inverse for inverse in self.inverse]
        self.slope = [self._slope(host) for host in range(len(self.fill))]

    def _slope(self, host: int) -> float:
        which = self.sets[host]
        mean = self.sum[which] / self.size[which] if which >= 0 else 0.0
        return 2 * self.factor * self.inverse[host] * (self.fill[host] - mean)

    def change(self, amount: float, source: int, target: int) -> float:
        """By how much the squares grow if this demand goes from source to target, which are of one set."""
        off, on = amount * self.inverse[source], amount * self.inverse[target]
        which = self.sets[source]
        shift = on - off
        growth = off * (off - 2 * self.fill[source]) + on * (on + 2 * self.fill[target])
        return growth - shift * (2 * self.sum[which] + shift) / self.size[which]

    def move(self, amount: float, source: int, target: int) -> None:
        self.squares += self.change(amount, source, target)
        off, on = amount * self.inverse[source], amount * self.inverse[target]
        self.fill[source] -= off
        self.fill[target] += on
        self.sum[self.sets[source]] += on - off
        self.slope[source] = self._slope(source)
        self.slope[target] = self._slope(target)


class Score:
    """The score of a board. Guests and hosts are numbers; `move` keeps board and score in step."""

    def __init__(self, board: Board, weights: t.Mapping[str, float]) -> None:
        self.board = board
        self.guests: list[GuestState] = [board.problem.guests[name] for name in board.where]
        self.at = [board.where[guest.name] for guest in self.guests]
        self.sets = _sets(board, self.guests)
        self.counted = [which >= 0 for which in self.sets]
        self.metrics: list[Metric] = []
        self.kinds: list[str] = []
        residents = [0] * len(board.hosts)
        for host in self.at:
            residents[host] += 1
        for number, kind in enumerate(RESOURCES):
            if kind == "guests":
                inverse, fill = [1.0] * len(residents), [float(count) for count in residents]
            else:
                totals = [total[number] for total in board.total]
                inverse = [1 / total if total > 0 else 0.0 for total in totals]
                fill = [
                    (total - free[number]) / total if total > 0 else 0.0
                    for total, free in zip(totals, board.free, strict=True)
                ]
            if weights[kind] > 0:
                self.kinds.append(kind)
                self.metrics.append(Metric(weights[kind], inverse, fill, self.sets, sum(self.counted)))
        wanted = [RESOURCES.index(kind) for kind in self.kinds]
        self.demands: list[Demand] = [tuple((*amount_of(guest), 1)[n] for n in wanted) for guest in self.guests]
        self.rules = Penalties(board, self.guests, self.at, weights)

    def total(self) -> float:
        return sum(metric.value(metric.squares) for metric in self.metrics) + self.rules.total

    def parts(self) -> dict[str, float]:
        """Standard deviation of each metric, not weighted."""
        return {kind: metric.deviation() for kind, metric in zip(self.kinds, self.metrics, strict=True)}

    def change(self, guest: int, target: int) -> float:
        """By how much the score grows if the guest moves there; exact."""
        source = self.at[guest]
        growth = self.rules.change(guest, source, target)
        for metric, amount in zip(self.metrics, self.demands[guest], strict=True):
            if amount:
                squares = metric.squares
                growth += metric.value(squares + metric.change(amount, source, target)) - metric.value(squares)
        return growth

    def move(self, guest: int, target: int) -> None:
        source = self.at[guest]
        self.board.take(self.guests[guest])
        self.board.put(self.guests[guest], target)
        self.rules.move(guest, source, target)
        for metric, amount in zip(self.metrics, self.demands[guest], strict=True):
            metric.move(amount, source, target)
        self.at[guest] = target

    def leaving(self, guest: int, host: int) -> float:
        """First-order change of the metrics if the guest leaves the host; `leaving + arriving` is that of a move."""
        change = 0.0
        for metric, amount in zip(self.metrics, self.demands[guest], strict=True):
            change += amount * (amount * metric.bend[host] - metric.slope[host])
        return change

    def arriving(self, demand: Demand, host: int) -> float:
        change = 0.0
        for metric, amount in zip(self.metrics, demand, strict=True):
            change += amount * (amount * metric.bend[host] + metric.slope[host])
        return change

    def pressure(self, host: int) -> float:
        """How much the score wants this host emptier, for hosts of any size."""
        return sum(
            metric.slope[host] / metric.inverse[host] if metric.inverse[host] else 0.0 for metric in self.metrics
        )


def amount_of(guest: GuestState) -> Amount:
    """What a guest takes, in the board's units."""
    return (round(guest.demand.vcpus * MILLI), guest.demand.memory, guest.demand.disk)


def _sets(board: Board, guests: t.Sequence[GuestState]) -> list[int]:
    """Number of the set of comparable hosts of each host, -1 for those that take no guests: they do not count.

    Host partitions between which some guest may choose are comparable.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for on in dict.fromkeys((guest.on, board.hosts[board.where[guest.name]].partition) for guest in guests):
        names = sorted({*on[0], on[1]})
        for name in names[1:]:
            leader[find(name)] = find(names[0])
    numbers: dict[str, int] = {}
    return [
        -1 if board.closed[index] else numbers.setdefault(find(host.partition), len(numbers))
        for index, host in enumerate(board.hosts)
    ]
