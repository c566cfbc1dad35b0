# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on the move: a guest under way holds its capacity and its apart rules on both ends until its wave is over.

The board knows one host per guest; this is the small second book that a schedule of moves needs beside it.
"""

from __future__ import annotations

import typing as t

from ._constraints import KINDS, Board, Obstacle
from ._plan import GuestState
from ._rules import Group


class Floor:
    """What is free and who is where, wave by wave. `at` follows the guests; the board itself stays as it began."""

    def __init__(self, board: Board, per_host: int, total: int | None) -> None:
        self.board = board
        self.per_host = per_host
        self.total = total
        self.free = [list(free) for free in board.free]
        self.at = dict(board.where)
        self.busy: dict[int, int] = {}  #: moves of this wave by host
        self.running: list[tuple[GuestState, int]] = []
        self._inside: dict[int, dict[str | None, set[str]]] = {
            id(group): {domain: set(names) for domain, names in group.present.items()} for group in board.rules.groups
        }

    def _apart(self, guest: str) -> t.Iterator[Group]:
        return (group for group in self.board.rules.hard.get(guest, ()) if group.apart)

    def obstacle(self, guest: GuestState, index: int) -> Obstacle | None:
        """What keeps the guest from starting towards the host now, whatever else this wave may still do."""
        for kind, wish, free in zip(KINDS, self.board.amount(guest), self.free[index], strict=True):
            if wish > free and wish:
                return Obstacle(kind, wish)
        for group in self._apart(guest.name):
            domain = group.domains[index]
            others = self._inside[id(group)].get(domain)
            if domain is None or (others and others - {guest.name}):
                return Obstacle("rule", group)
        return None

    def room(self, moves: t.Sequence[tuple[GuestState, int]]) -> bool:
        """Whether the limits on moves at the same time let these start as well."""
        if self.total is not None and len(self.running) + len(moves) > self.total:
            return False
        ends: dict[int, int] = {}
        for guest, target in moves:
            for index in (self.at[guest.name], target):
                ends[index] = ends.get(index, 0) + 1
        return all(self.busy.get(index, 0) + count <= self.per_host for index, count in ends.items())

    def start(self, moves: t.Sequence[tuple[GuestState, int]]) -> bool:
        """Start all of these in this wave, or none."""
        if not self.room(moves):
            return False
        for number, (guest, target) in enumerate(moves):
            if self.obstacle(guest, target) is not None:
                for started, there in moves[:number]:
                    self._hold(started, there, -1)
                    self._leave(started, there, self.at[started.name])
                return False
            self._hold(guest, target, 1)
            for group in self._apart(guest.name):
                self._inside[id(group)].setdefault(group.domains[target], set()).add(guest.name)
        for guest, target in moves:
            for index in (self.at[guest.name], target):
                self.busy[index] = self.busy.get(index, 0) + 1
        self.running += moves
        return True

    def finish(self) -> list[tuple[str, int, int]]:
        """The wave is over: (guest, source, target) of its moves."""
        done = []
        for guest, target in self.running:
            source = self.at[guest.name]
            self._hold(guest, source, -1)
            self._leave(guest, source, target)
            self.at[guest.name] = target
            done.append((guest.name, source, target))
        self.running, self.busy = [], {}
        return done

    def _hold(self, guest: GuestState, index: int, sign: int) -> None:
        for kind, wish in enumerate(self.board.amount(guest)):
            self.free[index][kind] -= sign * wish

    def _leave(self, guest: GuestState, left: int, other: int) -> None:
        """The guest is no longer on `left`, though still on `other`."""
        for group in self._apart(guest.name):
            if group.domains[left] != group.domains[other]:
                self._inside[id(group)][group.domains[left]].discard(guest.name)
