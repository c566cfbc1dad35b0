# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for a guest by moving others off one host, as few as the search finds, to where it is tight but enough."""

from __future__ import annotations

import bisect
import itertools
import typing as t

from ._constraints import Board
from ._plan import GuestState

#: Pairs of guests tried per host where moving one away is not enough.
PAIRS = 30

#: Hosts that are tried for a guest once a way is found; the others would need more moves or as many.
NEAR = 60

Step = tuple[str, int, int]  #: guest, host, 1: put there, -1: taken away


class Ejector:
    """A board on which guests may be moved to place others; everything done can be undone."""

    def __init__(self, board: Board, steps: int) -> None:
        self.board = board
        self.guests = board.problem.guests
        self.steps = steps  #: looks for another host that are left; the search ends when they are used up
        self.home = dict(board.where)
        self.moves = 0  #: guests that are not where they were
        self.on: list[set[str]] = [set() for _host in board.hosts]
        for name, index in board.where.items():
            self.on[index].add(name)
        self._memory = sorted((free[1], index) for index, free in enumerate(board.free))
        self._log: list[Step] = []

    @property
    def moved(self) -> dict[str, int]:
        """Guest -> its new host, of all that had one."""
        where = self.board.where
        return {name: where[name] for name, index in self.home.items() if name in where and where[name] != index}

    # -- steps and the way back -----------------------------------------------------------------------------------

    def put(self, name: str, index: int) -> None:
        self._log.append((name, index, 1))
        self._do(name, index, 1)

    def take(self, name: str) -> None:
        index = self.board.where[name]
        self._log.append((name, index, -1))
        self._do(name, index, -1)

    def _do(self, name: str, index: int, sign: int) -> None:
        del self._memory[bisect.bisect_left(self._memory, (self.board.free[index][1], index))]
        if sign > 0:
            self.board.put(self.guests[name], index)
            self.on[index].add(name)
        else:
            self.board.take(self.guests[name])
            self.on[index].discard(name)
        bisect.insort(self._memory, (self.board.free[index][1], index))
        if self.home.get(name, index) != index:
            self.moves += sign

    def mark(self) -> int:
        """A point to which `undo` goes back."""
        return len(self._log)

    def undo(self, mark: int) -> list[Step]:
        """Go back to when the log was that long; what was undone."""
        undone = self._log[mark:]
        for name, index, sign in reversed(undone):
            self._do(name, index, -sign)
        del self._log[mark:]
        return undone

    # -- a place for one guest ------------------------------------------------------------------------------------

    def place(self, name: str, depth: int, avoid: t.Collection[int] = ()) -> bool:
        """Put the guest on the board with the fewest moves that the search finds; False: nothing changed.

        `depth`: 1 moves others to free places, 2 makes room for those as well.
        """
        spot = self._spot(name, avoid)
        if spot is not None:
            self.put(name, spot)
            return True
        start, mark = self.moves, self.mark()
        best: list[Step] = []
        best_moves: int | None = None
        for tried, index in enumerate(self._hosts(name, avoid)):
            if best_moves is not None and (tried > NEAR or best_moves <= start + 1):
                break
            limit = None if best_moves is None else best_moves - 1
            if self._clear(name, index, depth, limit, avoid) and (best_moves is None or self.moves < best_moves):
                best_moves, best = self.moves, self._log[mark:]
            self.undo(mark)
            if self.steps <= 0:
                break
        for guest, index, sign in best:
            (self.put(guest, index) if sign > 0 else self.take(guest))
        return bool(best)

    def go_home(self) -> None:
        """Bring back whoever fits where it was: a later step may have made its move needless."""
        for name in sorted(self.moved):
            guest, back, there = self.guests[name], self.home[name], self.board.where[name]
            self.take(name)
            self.put(name, back if self.board.obstacle(guest, back) is None else there)

    def _spot(self, name: str, avoid: t.Collection[int]) -> int | None:
        """The host with the least memory left that takes the guest and breaks no more soft rules than its home."""
        self.steps -= 1
        board, guest = self.board, self.guests[name]
        soft = board.rules.soft_cost(name, self.home[name]) if name in self.home else None
        for place in range(bisect.bisect_left(self._memory, (board.amount(guest)[1], -1)), len(self._memory)):
            index = self._memory[place][1]
            if index in avoid or board.obstacle(guest, index) is not None:
                continue
            if soft is None or index == self.home[name] or board.rules.soft_cost(name, index) <= soft:
                return index
        return None

    def _hosts(self, name: str, avoid: t.Collection[int]) -> list[int]:
        """Hosts that are big enough and not forbidden, those that lack least first."""
        board, guest = self.board, self.guests[name]
        wish = board.amount(guest)
        lacking = []
        for index, (free, total) in enumerate(zip(board.free, board.total, strict=True)):
            if index in avoid or any(w > has for w, has in zip(wish, total, strict=True)):
                continue
            if board.forbidden(guest, index) is None:
                parts = zip(wish, free, total, strict=True)
                lacking.append((sum(max(0, w - f) / has for w, f, has in parts if w), index))
        return [index for _short, index in sorted(lacking)]

    # -- one host -------------------------------------------------------------------------------------------------

    def _clear(self, name: str, index: int, depth: int, limit: int | None, avoid: t.Collection[int]) -> bool:
        """Put the guest there and move others away until it fits; False: it does not, and the caller undoes."""
        board, guest = self.board, self.guests[name]
        barred = (*avoid, index)
        in_the_way: set[str] = set()
        for group in board.rules.hard.get(name, ()):
            if group.domains[index] is None or (not group.apart and group.broken_by(name, index)):
                return False
            if group.apart:
                domain = group.domains[index]
                if group.ghosts.get(domain, set()) - {name}:
                    return False
                in_the_way |= group.present.get(domain, set()) - {name}
        if limit is not None and not in_the_way and not self._may(guest, index, limit - self.moves):
            return False
        self.put(name, index)  # the host is too full for a while; whoever is moved away finds no place on it
        for other in sorted(in_the_way):
            if not self._eject(other, barred, depth):
                return False
        tried: set[str] = set()
        while short := self._short(guest, index):
            if (limit is not None and self.moves + 1 > limit) or self.steps <= 0:
                return False
            if self._enough(index, name, short, barred):
                continue
            if not self._part(index, name, short, barred, depth, tried):
                return False
        return True

    def _may(self, guest: GuestState, index: int, most: int) -> bool:
        """Whether that many moves could be enough, by the biggest guests there in each kind."""
        others = [self.board.amount(self.guests[n]) for n in self.on[index] if self.home.get(n) == index]
        costless = [self.board.amount(self.guests[n]) for n in self.on[index] if self.home.get(n) != index]
        for kind, wish in enumerate(self.board.amount(guest)):
            lack = wish - self.board.free[index][kind] - sum(amount[kind] for amount in costless)
            if wish and lack > 0 and sum(sorted((a[kind] for a in others), reverse=True)[: max(0, most)]) < lack:
                return False
        return True

    def _short(self, guest: GuestState, index: int) -> tuple[int, int, int] | None:
        """What the host has too little of, counting only what this guest needs."""
        parts = zip(self.board.amount(guest), self.board.free[index], strict=True)
        vcpus, memory, disk = (max(0, -free) if wish else 0 for wish, free in parts)
        return (vcpus, memory, disk) if vcpus or memory or disk else None

    def _others(self, index: int, name: str) -> list[str]:
        """Who may be moved away from there, the smallest first; those that are no move more come first."""

        def key(other: str) -> tuple[t.Any, ...]:
            return (other in self.home and self.home[other] == index, self.board.amount(self.guests[other])[1], other)

        return sorted((n for n in self.on[index] if n != name and not self.guests[n].frozen), key=key)

    def _enough(self, index: int, name: str, short: tuple[int, int, int], barred: t.Collection[int]) -> bool:
        """Move one guest or two away that together are what is lacking."""
        amount, guests = self.board.amount, self.guests
        alike: dict[t.Any, list[str]] = {}
        for other in self._others(index, name):
            bound = self.board.rules.bound(other)
            alike.setdefault(other if bound else (amount(guests[other]), guests[other].on), []).append(other)
        some = [other for names in alike.values() for other in names[:2]]
        for names in alike.values():
            if _covers(amount(guests[names[0]]), short) and self._eject(names[0], barred, 1):
                return True
        pairs = 0
        for one, two in itertools.combinations(some, 2):
            (v1, m1, d1), (v2, m2, d2) = amount(guests[one]), amount(guests[two])
            if not _covers((v1 + v2, m1 + m2, d1 + d2), short):
                continue
            pairs += 1
            mark = self.mark()
            if self._eject(two, barred, 1) and self._eject(one, barred, 1):
                return True
            self.undo(mark)
            if pairs >= PAIRS or self.steps <= 0:
                break
        return False

    def _part(
        self,
        index: int,
        name: str,
        short: tuple[int, int, int],
        barred: t.Collection[int],
        depth: int,
        tried: set[str],
    ) -> bool:
        """Move the guest away that covers most of what is lacking and finds a place."""

        def covers(other: str) -> float:
            parts = zip(self.board.amount(self.guests[other]), short, strict=True)
            return sum(min(has, lack) / lack for has, lack in parts if lack)

        for other in sorted(self._others(index, name), key=covers, reverse=True):
            if other not in tried and covers(other) > 0:
                tried.add(other)
                if self._eject(other, barred, depth):
                    return True
        return False

    def _eject(self, name: str, barred: t.Collection[int], depth: int) -> bool:
        """Move a guest to another host, with depth 2 by moving others away from there."""
        if self.guests[name].frozen or name not in self.board.where:
            return False
        mark = self.mark()
        self.take(name)
        spot = self._spot(name, barred)
        if spot is not None:
            self.put(name, spot)
            return True
        if depth > 1 and self.steps > 0 and self.place(name, depth - 1, barred):
            return True
        self.undo(mark)
        return False


def _covers(amount: tuple[int, int, int], short: tuple[int, int, int]) -> bool:
    return amount[0] >= short[0] and amount[1] >= short[1] and amount[2] >= short[2]
