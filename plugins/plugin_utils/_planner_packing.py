# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The question behind `consolidate` without names and rules: flavours of guests, kinds of hosts, and a lower bound.

An engine answers with a pattern for each host it uses: how many guests of each flavour. Whole numbers only
(thousandths of vCPUs, bytes), so nothing here is rounded.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import typing as t

Amount = tuple[int, int, int]  #: thousandths of vCPUs, bytes of memory, bytes of disk
Pattern = tuple[tuple[int, int], ...]  #: (flavour number, how many), by flavour
Fill = tuple[int, Pattern]  #: (number of the host's kind, what it gets)

#: Steps of the search for the best weights of the bound: a grid with this many lines, then finer ones around the best.
GRID = 16


@dataclasses.dataclass(frozen=True)
class Flavour:
    """Guests that are equal as far as sizes and admission go."""

    demand: Amount
    count: int


@dataclasses.dataclass(frozen=True)
class Kind:
    """Hosts with the same room for the same flavours."""

    room: Amount
    count: int
    takes: frozenset[int]  #: flavour numbers
    needed: bool = False  #: used whatever is decided, so filling it costs nothing


@dataclasses.dataclass(frozen=True)
class Packing:
    kinds: tuple[Kind, ...]
    flavours: tuple[Flavour, ...]

    @property
    def needed(self) -> int:
        return sum(kind.count for kind in self.kinds if kind.needed)

    def used(self, fills: t.Sequence[Fill]) -> int:
        """Hosts used by an answer, those needed anyway among them."""
        return self.needed + sum(not self.kinds[kind].needed and bool(pattern) for kind, pattern in fills)


def fits(demand: t.Sequence[int], room: t.Sequence[int]) -> bool:
    """Whether the demand fits; of what it does not need there may be less than nothing."""
    return all(wish <= there or not wish for wish, there in zip(demand, room, strict=True))


def parts(packing: Packing) -> list[tuple[Packing, list[int], list[int]]]:
    """Independent parts (host partitions that share no guest), each with its kind and flavour numbers in the whole."""
    leader = list(range(len(packing.kinds)))

    def find(kind: int) -> int:
        while leader[kind] != kind:
            leader[kind] = leader[leader[kind]]
            kind = leader[kind]
        return kind

    homes: list[list[int]] = [[] for _flavour in packing.flavours]
    for number, kind in enumerate(packing.kinds):
        for flavour in kind.takes:
            homes[flavour].append(number)
    for kinds in homes:
        for one, other in itertools.pairwise(kinds):
            leader[find(other)] = find(one)
    members: dict[int, list[int]] = collections.defaultdict(list)
    for number in range(len(packing.kinds)):
        members[find(number)].append(number)
    answer = []
    for kinds in members.values():
        flavours = sorted(set().union(*(packing.kinds[kind].takes for kind in kinds)))
        new = {flavour: number for number, flavour in enumerate(flavours)}
        part = Packing(
            tuple(
                dataclasses.replace(packing.kinds[k], takes=frozenset(new[f] for f in packing.kinds[k].takes))
                for k in kinds
            ),
            tuple(packing.flavours[flavour] for flavour in flavours),
        )
        answer.append((part, kinds, flavours))
    return answer


def volume_bound(packing: Packing) -> tuple[int, Amount]:
    """(a certified lower bound on the hosts used, the weights that prove it).

    For any weights of the three resources, the hosts used must together have as much weighted room as all guests
    have weighted demand; the biggest hosts do it with the fewest. The best of many weights is taken.
    """
    demand = [sum(f.demand[kind] * f.count for f in packing.flavours) for kind in range(3)]
    units = [10**15 // max(1, amount) for amount in demand]

    def weights(point: tuple[int, int, int]) -> Amount:
        return (point[0] * units[0], point[1] * units[1], point[2] * units[2])

    step = 2**10
    points = [(a * step, b * step, (GRID - a - b) * step) for a in range(GRID + 1) for b in range(GRID + 1 - a)]
    best = (-1.0, points[0])
    while True:
        best = max(best, max((_hosts(packing, demand, weights(point)), point) for point in points))
        step //= 2
        if not step:
            break
        around = itertools.product((-step, 0, step), repeat=3)
        moved = (tuple(there + d for there, d in zip(best[1], ds, strict=True)) for ds in around)
        points = [(p[0], p[1], p[2]) for p in moved if min(p) >= 0 and max(p)]
    proof = weights(best[1])
    return packing.needed + _whole_hosts(packing, demand, proof), proof


def _rooms(packing: Packing, weights: Amount) -> tuple[int, list[tuple[int, int]]]:
    """Weighted room of the hosts needed anyway, and of the other kinds (room, how many), biggest first."""
    given, others = 0, []
    for kind in packing.kinds:
        room = sum(max(0, there) * weight for there, weight in zip(kind.room, weights, strict=True))
        if kind.needed:
            given += room * kind.count
        else:
            others.append((room, kind.count))
    return given, sorted(others, reverse=True)


def _hosts(packing: Packing, demand: t.Sequence[int], weights: Amount) -> float:
    """Hosts that the weighted demand asks for beside those needed anyway, as a fraction."""
    given, others = _rooms(packing, weights)
    left = sum(map(int.__mul__, demand, weights)) - given
    hosts = 0.0
    for room, count in others:
        if left <= room * count:
            return hosts + max(0.0, left / room if room else 0.0)
        hosts += count
        left -= room * count
    return hosts


def _whole_hosts(packing: Packing, demand: t.Sequence[int], weights: Amount) -> int:
    """The same in whole hosts, without rounding on the way."""
    given, others = _rooms(packing, weights)
    left = sum(map(int.__mul__, demand, weights)) - given
    hosts = 0
    for room, count in others:
        if left <= 0:
            break
        wanted = min(count, -(-left // room)) if room else 0
        hosts += wanted
        left -= wanted * room
    return hosts
