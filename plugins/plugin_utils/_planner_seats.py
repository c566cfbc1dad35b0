# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From patterns to guests: which host gets which pattern, and which guest of a flavour takes which seat.

Hosts get the pattern most like what they hold, guests stay where they are if there is a seat, and every guest is put
through the Board, so no engine can break a rule. Who gets no seat because of a rule is fitted in elsewhere, by a
swap, or on one more host.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ._constraints import Board
from ._planner_packing import Amount, Fill, Pattern, fits

#: Swaps tried for one guest that a rule keeps off every seat.
SWAPS = 2000


@dataclasses.dataclass(frozen=True)
class Item:
    """Guests that stand on one host, now and later: one guest, or several that must be together on a host."""

    guests: tuple[str, ...]
    demand: Amount
    flavour: int
    home: int  #: host number
    bound: bool  #: hard rules of apart or together look at it


def hosts_for(fills: t.Sequence[Fill], kinds: t.Sequence[t.Sequence[int]], items: t.Sequence[Item]) -> dict[int, Fill]:
    """A host for every pattern, alike ones first; `kinds` are host numbers by kind."""
    holds: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for item in items:
        holds[item.home][item.flavour] += 1
    wanted = collections.Counter(fill for fill in fills if fill[1])
    likeness = [
        (-sum(min(count, holds[host][flavour]) for flavour, count in pattern), host, (kind, pattern))
        for kind, pattern in wanted
        for host in kinds[kind]
    ]
    chosen: dict[int, Fill] = {}
    for _like, host, fill in sorted(likeness):
        if host not in chosen and wanted[fill]:
            chosen[host] = fill
            wanted[fill] -= 1
    return chosen


class Seating:
    """Puts items that are off the board on it. `opened` are the hosts in use, seated or needed anyway."""

    def __init__(self, board: Board, chosen: t.Mapping[int, Pattern], opened: set[int], spare: t.Sequence[int]) -> None:
        self.board, self.opened, self.spare = board, opened, list(spare)
        self.seats: dict[int, dict[int, int]] = collections.defaultdict(dict)  #: flavour -> host -> how many
        for host, pattern in sorted(chosen.items()):
            for flavour, count in pattern:
                self.seats[flavour][host] = count
        self.on: dict[int, list[Item]] = collections.defaultdict(list)  #: items without rules by host, for swaps

    def run(self, items: t.Sequence[Item]) -> list[Item]:
        """Who found no place."""
        bound = sorted((item for item in items if item.bound), key=lambda item: (_size(item), item.guests))
        free = [item for item in items if not item.bound]
        unseated = [item for item in reversed(bound) if not self._seat(item)]
        movers = [item for item in free if not self._seat_at(item, item.home)]
        unseated += [item for item in movers if not self._seat(item)]
        return [item for item in unseated if not (self._squeeze(item) or self._swap(item) or self._open(item))]

    def _seat(self, item: Item) -> bool:
        if self._seat_at(item, item.home):
            return True
        return any(self._seat_at(item, host) for host in list(self.seats[item.flavour]))

    def _seat_at(self, item: Item, host: int) -> bool:
        seats = self.seats[item.flavour]
        if host not in seats or not self._put(item, host):
            return False
        seats[host] -= 1
        if not seats[host]:
            del seats[host]
        return True

    def _put(self, item: Item, host: int) -> bool:
        """Put all guests of the item on the host, or none."""
        states = [self.board.problem.guests[name] for name in item.guests]
        for number, guest in enumerate(states):
            if self.board.obstacle(guest, host) is not None:
                for other in states[:number]:
                    self.board.take(other)
                return False
            self.board.put(guest, host)
        self.opened.add(host)
        if not item.bound:
            self.on[host].append(item)
        return True

    def _squeeze(self, item: Item) -> bool:
        """A place on any host in use, the fullest first."""
        order = sorted(self.opened, key=lambda host: (-self.board.load(host), host))
        return any(self._put(item, host) for host in order if fits(item.demand, self.board.free[host]))

    def _swap(self, item: Item) -> bool:
        """Let an item without rules give way and find a place elsewhere."""
        tries = SWAPS
        for host in sorted(self.opened):
            for other in list(self.on[host]):
                room = tuple(map(int.__add__, self.board.free[host], other.demand))
                if not fits(item.demand, room):
                    continue
                tries -= 1
                if tries < 0:
                    return False
                self._take(other, host)
                if self._put(item, host):
                    if self._squeeze(other):
                        return True
                    self._take(item, host)
                self._put(other, host)
        return False

    def _take(self, item: Item, host: int) -> None:
        for name in item.guests:
            self.board.take(self.board.problem.guests[name])
        if not item.bound:
            self.on[host].remove(item)

    def _open(self, item: Item) -> bool:
        """One more host; its own one first."""
        spare = [host for host in self.spare if host not in self.opened]
        spare.sort(key=lambda host: (host != item.home, host))
        return any(self._put(item, host) for host in spare)


def _size(item: Item) -> int:
    return max(item.demand[1], item.demand[0] * 2**20)
