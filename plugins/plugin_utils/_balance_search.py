# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The best single move, without trying every guest on every host.

To first order the gain of a move is what its source gains plus what its target loses, and the latter is nearly the same
for guests of one kind. So hosts are kept sorted per kind of guest, guests are kept in heaps, and only the front of both
is judged exactly.
"""

from __future__ import annotations

import bisect
import heapq
import typing as t

from ._balance_kinds import kinds_of
from ._balance_score import Score
from ._constraints import Amount

#: Guests per kind and hosts per guest that are judged exactly in one step.
DEPTH, WIDTH = 4, 3
#: Hosts that are looked at for one guest before giving up on it: all of them may be full or forbidden.
PATIENCE = 60
#: The first-order prices are made anew when one is off by this factor.
DRIFT = 1.5
#: Up to so many pairs of guest and host every pair is judged exactly in every step.
SMALL = 2000
#: Members of a rule whose place in the heap is renewed at once when one of them moves; of larger rules it is later.
PEERS = 32


class Choice(t.NamedTuple):
    change: float
    guest: int
    target: int


class Search:
    """Chooses moves on a score's board. `home` is where each guest was first."""

    def __init__(self, score: Score, movable: t.Collection[int], steps: int) -> None:
        self.score = score
        self.home = list(score.at)
        self.movable = sorted(movable)
        self.can_move = [False] * len(score.at)
        for guest in self.movable:
            self.can_move[guest] = True
        self.moved: dict[int, None] = {}  #: in the order of moving
        self.steps = steps
        self.on_host: list[set[int]] = [set() for _host in score.counted]
        for guest in self.movable:
            self.on_host[score.at[guest]].add(guest)
        self.kind_of, self.kinds = kinds_of(score, self.movable)
        self._kinds_of_host: list[list[int]] = [[] for _host in score.counted]
        for number, kind in enumerate(self.kinds):
            for host in kind.hosts:
                self._kinds_of_host[host].append(number)
        self._version = [0] * len(score.at)
        self.small = len(self.movable) * sum(score.counted) <= SMALL
        self.depth = self.width = self.patience = SMALL
        if not self.small:
            self.depth, self.width, self.patience = DEPTH, WIDTH, PATIENCE
        hard = score.board.rules.hard
        self._tied = [any(not group.apart for group in hard.get(guest.name, ())) for guest in score.guests]
        self.refresh()

    # -- tables ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Make prices and tables anew."""
        score = self.score
        for metric in score.metrics:
            metric.reprice()
        free = score.board.free
        self._key = [
            {host: score.arriving(kind.demand, host) for host in kind.hosts if _room(kind.least, free[host])}
            for kind in self.kinds
        ]
        self._ranked = [sorted((key, host) for host, key in keys.items()) for keys in self._key]
        self._heaps: list[list[tuple[float, int, int]]] = [[] for _kind in self.kinds]
        for guest in self.movable:
            self._version[guest] += 1
            self._heaps[self.kind_of[guest]].append((self._hope(guest), guest, self._version[guest]))
        for heap in self._heaps:
            heapq.heapify(heap)
        self.steps -= len(self.movable) + sum(len(kind.hosts) for kind in self.kinds)
        self._pushed = 0

    def _hope(self, guest: int) -> float:
        host = self.score.at[guest]
        return self.score.leaving(guest, host) - self.score.rules.hope(guest, host)

    def _push(self, guest: int) -> None:
        self._version[guest] += 1
        self._pushed += 1
        heapq.heappush(self._heaps[self.kind_of[guest]], (self._hope(guest), guest, self._version[guest]))

    def move(self, guest: int, target: int) -> None:
        """Do a move and keep the tables."""
        source = self.score.at[guest]
        self.score.move(guest, target)
        self.on_host[source].discard(guest)
        self.on_host[target].add(guest)
        if target == self.home[guest]:
            del self.moved[guest]
        else:
            self.moved[guest] = None
        if self._pushed > 4 * len(self.movable) or self._drifted():
            self.refresh()
            return
        for host in (source, target):
            free = self.score.board.free[host]
            for number in self._kinds_of_host[host]:
                keys, ranked, kind = self._key[number], self._ranked[number], self.kinds[number]
                if host in keys:
                    del ranked[bisect.bisect_left(ranked, (keys.pop(host), host))]
                if _room(kind.least, free):
                    keys[host] = self.score.arriving(kind.demand, host)
                    bisect.insort(ranked, (keys[host], host))
        stale = self.on_host[source] | self.on_host[target]
        for crowd in self.score.rules.of[guest]:
            if len(crowd.members) <= PEERS:
                stale.update(peer for peer in crowd.members if self.can_move[peer])
        for peer in sorted(stale):
            self._push(peer)
        self.steps -= len(stale) + 2 * len(self.kinds)

    def _drifted(self) -> bool:
        return any(not m.factor / DRIFT < m.price() < m.factor * DRIFT for m in self.score.metrics)

    # -- the best move ----------------------------------------------------------------------------------------------

    def fits(self, guest: int, host: int) -> bool:
        """Whether a guest may go there; its group is where the others of it are, so for that it is not in the way."""
        board, state = self.score.board, self.score.guests[guest]
        if not self._tied[guest]:
            return board.obstacle(state, host) is None
        here = board.take(state)
        free = board.obstacle(state, host) is None
        board.put(state, here)
        return free

    def best(
        self, least: float, tabu: t.Collection[int] = (), noise: t.Callable[[], float] | None = None
    ) -> Choice | None:
        """The move that lowers the score most, by more than `least`; None if the tables offer none.

        `noise` gives a factor for each guest's gain, so that another guest than the best may win.
        """
        won = 0.0
        found: Choice | None = None
        for kind, heap in enumerate(self._heaps):
            front: list[tuple[float, int, int]] = []
            while heap and len(front) < self.depth:
                entry = heapq.heappop(heap)
                guest = entry[1]
                if entry[2] != self._version[guest]:
                    continue
                front.append(entry)
                if guest in tabu:
                    continue
                choice = self._try(guest, kind)
                if choice and choice.change < -least:
                    worth = choice.change * noise() if noise else choice.change
                    if found is None or (worth, choice) < (won, found):
                        won, found = worth, choice
            for entry in front:
                heapq.heappush(heap, entry)
        return found

    def _try(self, guest: int, kind: int) -> Choice | None:
        """The best target of a guest among the first that take it."""
        score, rules = self.score, self.score.rules
        source = score.at[guest]
        bound = bool(rules.of[guest])
        hope = rules.hope(guest, source) if bound else 0.0
        base = score.leaving(guest, source)
        found: Choice | None = None
        guess = 0.0  # first-order change of the best so far
        fitting = looked = 0
        for key, host in self._ranked[kind]:
            if (
                (found and not self.small and base + key - hope >= guess)
                or fitting == self.width
                or looked == self.patience
            ):
                break
            if host == source:
                continue
            looked += 1
            first = base + key
            if bound:
                first += rules.change(guest, source, host)
                if found and not self.small and first >= guess:
                    continue
                if rules.refused(guest, source, host):
                    continue
            if not self.fits(guest, host):
                continue
            fitting += 1
            guess = min(guess, first)
            choice = Choice(score.change(guest, host), guest, host)
            if found is None or choice < found:
                found = choice
        self.steps -= looked + 1
        return found

    def undo(self, guest: int) -> bool:
        """Bring a guest home if it may be there."""
        home = self.home[guest]
        if not self.fits(guest, home):
            return False
        self.move(guest, home)
        return True

    def restore(self, where: t.Mapping[int, int]) -> None:
        """Go back to these moves. Order does not matter: that state was allowed."""
        for guest in [guest for guest in self.moved if guest not in where]:
            self.move(guest, self.home[guest])
        for guest, target in where.items():
            if self.score.at[guest] != target:
                self.move(guest, target)

    def hard_spreads(self) -> list[float]:
        """How uneven each spread is that must not become less even."""
        return [crowd.cost() for crowd in self.score.rules.crowds if crowd.hard_spread]


def _room(least: Amount, free: t.Sequence[int]) -> bool:
    return all(wish <= there or not wish for wish, there in zip(least, free, strict=True))
