# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same hosts with fewer moves: what stands on them stays, as far as the others still find room beside it."""

from __future__ import annotations

import collections
import typing as t

from ._planner_fill import fill
from ._planner_packing import Amount, Flavour, Kind, Packing, Pattern, volume_bound
from ._planner_scope import Task

#: How much of a host those who stay may fill, tried in this order. The last shares leave room to mix sizes anew.
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
#: Guests weighed for one share, at most: some 0.2 seconds.
STEPS = 250_000

Patterns = t.Mapping[int, Pattern]  #: by host number


def keep(asked: Task, chosen: Patterns) -> Patterns:
    """Patterns for no other hosts than the chosen ones with fewer moves; `chosen` itself if none are found."""
    homes: dict[int, list[int]] = collections.defaultdict(list)
    for item in asked.items:
        homes[item.home].append(item.flavour)
    kinds = {host: kind for kind, hosts in zip(asked.packing.kinds, asked.hosts, strict=True) for host in hosts}
    _bound, weights = volume_bound(asked.packing)
    fewest = moves(chosen, homes)
    for share in SHARES:
        found = _fitted(asked, sorted(chosen), kinds, homes, share, weights)
        if found is not None and moves(found, homes) < fewest:
            return found
    return chosen


def _fitted(
    asked: Task,
    hosts: t.Sequence[int],
    kinds: t.Mapping[int, Kind],
    homes: t.Mapping[int, t.Sequence[int]],
    share: float,
    weights: Amount,
) -> Patterns | None:
    """Patterns for these hosts with everyone who may stay, or None if the others find no room."""
    stay = {host: _stay(asked, homes.get(host, ()), kinds[host].room, share) for host in hosts}
    left = [flavour.count for flavour in asked.packing.flavours]
    for counts in stay.values():
        for flavour, count in counts.items():
            left[flavour] -= count
    rest = Packing(
        tuple(Kind(_less(asked, kinds[host].room, stay[host]), 1, kinds[host].takes, True) for host in hosts),
        tuple(Flavour(f.demand, count) for f, count in zip(asked.packing.flavours, left, strict=True)),
    )
    fills = fill(rest, weights, rest.needed, STEPS)
    if fills is None:
        return None
    for number, pattern in fills:
        stay[hosts[number]].update(dict(pattern))
    return {host: tuple(sorted(counts.items())) for host, counts in stay.items() if counts}


def moves(chosen: Patterns, homes: t.Mapping[int, t.Sequence[int]]) -> int:
    """Guests, or groups of them, that do not stay where they are."""
    stay = 0
    for host, pattern in chosen.items():
        here = collections.Counter(homes.get(host, ()))
        stay += sum(min(count, here[flavour]) for flavour, count in pattern)
    return sum(map(len, homes.values())) - stay


def _stay(asked: Task, flavours: t.Sequence[int], room: Amount, share: float) -> collections.Counter[int]:
    """Who stays on a host: the big ones first, because small ones find room elsewhere more easily."""
    demands = [flavour.demand for flavour in asked.packing.flavours]
    limit = [int(there * share) for there in room]
    counts: collections.Counter[int] = collections.Counter()
    used = [0, 0, 0]
    for flavour in sorted(flavours, key=lambda flavour: (-_part(demands[flavour], room), flavour)):
        then = [there + wish for there, wish in zip(used, demands[flavour], strict=True)]
        if all(now <= most or now == before for now, most, before in zip(then, limit, used, strict=True)):
            used = then
            counts[flavour] += 1
    return counts


def _part(demand: Amount, room: Amount) -> float:
    return max(wish / there if there > 0 else 0.0 for wish, there in zip(demand, room, strict=True))


def _less(asked: Task, room: Amount, counts: t.Mapping[int, int]) -> Amount:
    taken = [
        sum(asked.packing.flavours[flavour].demand[kind] * count for flavour, count in counts.items())
        for kind in range(3)
    ]
    return (room[0] - taken[0], room[1] - taken[1], room[2] - taken[2])
