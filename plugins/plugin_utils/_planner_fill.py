# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewest hosts in pure Python: host by host, big ones first, each filled with what points where its free room points.

A guest's worth for a host is angle^p * size^q: the angle is the cosine between its demand and what is free there,
the size is the length of its demand. No pair (p, q) is best everywhere, so several are tried, then some with seeded
noise, until the bound is reached or the steps are used up.
"""

from __future__ import annotations

import math
import random
import typing as t

from ._planner_packing import Amount, Fill, Packing, fits

#: (p, q, whether guests that fit no later host go first): what answered best on clusters made up from seeds.
TRIALS = (
    (8.0, 0.25, False),
    (4.0, 0.1, False),
    (4.0, 0.5, False),
    (4.0, 1.0, True),
    (16.0, 0.25, True),
    (2.0, 0.25, False),
    (8.0, 1.0, False),
    (2.0, 0.1, True),
    (1.0, 1.0, False),
    (4.0, 1.0, False),
)
#: Trials with noise after those, at most.
NOISY = 200
#: Flavours looked at for one host, at most: where every guest has its own size, more cost time and gain little.
SAMPLE = 256
#: Guests weighed in all trials, at most: some three seconds. A trial begun is finished.
STEPS = 4_000_000


def fill(packing: Packing, weights: Amount, enough: int, steps: int = STEPS) -> list[Fill] | None:
    """The best answer of all trials; None if none places everyone. An answer with `enough` hosts ends the search."""
    order = sorted(
        range(len(packing.kinds)),
        key=lambda kind: (
            not packing.kinds[kind].needed,
            -sum(room * weight for room, weight in zip(packing.kinds[kind].room, weights, strict=True)),
            [-room for room in packing.kinds[kind].room],
        ),
    )
    best: list[Fill] | None = None
    for power, bulk, urgent, worth in _trials(len(packing.flavours)):
        trial = _Trial(packing, order, power, bulk, urgent, worth)
        found = trial.run()
        steps -= trial.steps
        if found is not None and (best is None or packing.used(found) < packing.used(best)):
            best = found
        if steps <= 0 or (best is not None and packing.used(best) <= enough):
            break
    return best


def _trials(flavours: int) -> t.Iterator[tuple[float, float, bool, list[float]]]:
    for power, bulk, urgent in TRIALS:
        yield power, bulk, urgent, [1.0] * flavours
    dice = random.Random(flavours)
    for _number in range(NOISY):
        power, bulk, urgent = dice.choice(TRIALS)
        yield power, bulk, urgent, [dice.uniform(0.8, 1.25) for _flavour in range(flavours)]


class _Trial:
    """One way through all hosts."""

    def __init__(
        self, packing: Packing, order: t.Sequence[int], power: float, bulk: float, urgent: bool, worth: list[float]
    ) -> None:
        self.packing, self.order, self.power, self.bulk, self.worth = packing, order, power, bulk, worth
        self.demands = [flavour.demand for flavour in packing.flavours]
        self.left = [flavour.count for flavour in packing.flavours]
        self.last = self._last() if urgent else []
        self.alive: list[int] = [number for number, count in enumerate(self.left) if count]
        self.steps = 0

    def _last(self) -> list[int]:
        """For each flavour the last place in the order whose hosts it fits."""
        last = [-1] * len(self.demands)
        for place, number in enumerate(self.order):
            kind = self.packing.kinds[number]
            for flavour in kind.takes:
                if fits(self.demands[flavour], kind.room):
                    last[flavour] = place
        return last

    def run(self) -> list[Fill] | None:
        fills: list[Fill] = []
        for place, number in enumerate(self.order):
            kind = self.packing.kinds[number]
            mine = [f for f in self.alive if f in kind.takes and fits(self.demands[f], kind.room)]
            if not mine:
                continue
            self.steps += len(mine)
            scaled = {f: self._scaled(f, kind.room) for f in mine}
            mine.sort(key=lambda f: -scaled[f][3])
            for host in range(kind.count):
                mine = [f for f in mine if self.left[f]]
                if not mine:
                    break
                fills.append((number, self._fill_one(kind.room, mine, scaled, place, host)))
            self.alive = [f for f in self.alive if self.left[f]]
        return None if self.alive else fills

    def _scaled(self, flavour: int, room: Amount) -> tuple[float, float, float, float]:
        """The demand's direction as seen from a host, and its worth without the angle."""
        x, y, z = (wish / there if there > 0 else 0.0 for wish, there in zip(self.demands[flavour], room, strict=True))
        norm = math.sqrt(x * x + y * y + z * z)
        if not norm:
            return (0.0, 0.0, 0.0, 0.0)
        return (x / norm, y / norm, z / norm, norm**self.bulk * self.worth[flavour])

    def _fill_one(
        self,
        room: Amount,
        mine: list[int],
        scaled: t.Mapping[int, tuple[float, float, float, float]],
        place: int,
        host: int,
    ) -> tuple[tuple[int, int], ...]:
        """Fill one host: first who fits no later one, then a sample of all, then whoever still fits."""
        free = list(room)
        got: dict[int, int] = {}
        if self.last:
            self._take([f for f in mine if self.last[f] == place], free, room, scaled, got)
        if len(mine) > SAMPLE:
            # another sample for each host, spread evenly over big and small ones
            self._take(mine[host % max(1, len(mine) // SAMPLE) :: len(mine) // SAMPLE], free, room, scaled, got)
        self._take(mine, free, room, scaled, got)
        return tuple(sorted(got.items()))

    def _take(
        self,
        live: list[int],
        free: list[int],
        room: Amount,
        scaled: t.Mapping[int, tuple[float, float, float, float]],
        got: dict[int, int],
    ) -> None:
        """Take the worthiest again and again until none of them fits."""
        left, demands, power = self.left, self.demands, self.power
        while True:
            vcpus, memory, disk = free
            live = [
                f
                for f in live
                if left[f]
                and (demands[f][0] <= vcpus or not demands[f][0])
                and (demands[f][1] <= memory or not demands[f][1])
                and (demands[f][2] <= disk or not demands[f][2])
            ]
            if not live:
                return
            self.steps += len(live)
            x, y, z = (max(0.0, there / whole) if whole > 0 else 0.0 for there, whole in zip(free, room, strict=True))
            norm = math.sqrt(x * x + y * y + z * z) or 1.0
            x, y, z = x / norm, y / norm, z / norm
            best, chosen = -1.0, live[0]
            for flavour in live:
                a, b, c, worth = scaled[flavour]
                score = (a * x + b * y + c * z) ** power * worth
                if score > best:
                    best, chosen = score, flavour
            left[chosen] -= 1
            got[chosen] = got.get(chosen, 0) + 1
            for kind in range(3):
                free[kind] -= demands[chosen][kind]
