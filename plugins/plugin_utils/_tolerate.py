# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`tolerate`: after any loss of k hosts (racks, ...) every guest of the partition can be placed again within the rules.

A loss is tried by taking the lost guests off the board and placing them by first fit. So "yes" is proved; "no" means
that first fit found no way. More losses than BOUND are not all tried: the fullest are, and the answer says so.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing as t

from ._constraints import Board
from ._plan import GuestState, HostState, Problem
from ._rules import HOST

#: Losses tried for one clause; all single hosts of the largest cluster and all pairs of racks stay below it.
BOUND = 2000

#: Puts guests on the board and names the first that fits nowhere.
Fit = t.Callable[[Board, t.Sequence[GuestState]], t.Optional[str]]


@dataclasses.dataclass(frozen=True)
class Broken:
    """A clause that does not hold: the loss that breaks it and a guest that then fits nowhere."""

    lose: int
    of: str
    lost: tuple[str, ...]
    guest: str
    partition: str

    @property
    def clause(self) -> tuple[int, str]:
        return (self.lose, self.of)

    def __str__(self) -> str:
        what = " and ".join(self.lost)
        return (
            f"tolerate {{lose: {self.lose}, of: {self.of}}}: if {what} is lost, guest {self.guest} of partition "
            f"{self.partition} fits nowhere"
        )


@dataclasses.dataclass(frozen=True)
class Verdict:
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()  #: clauses that were not tried for every loss


def clauses(problem: Problem) -> dict[tuple[int, str], set[str]]:
    """(lose, of) -> the partitions whose guests must survive it; who tolerates more losses tolerates fewer."""
    wanted = {(c.lose, c.of) for part in problem.cluster.guest_partitions.values() for c in part.tolerate if c.lose}
    return {
        (lose, of): {
            part.name
            for part in problem.cluster.guest_partitions.values()
            if any(c.of == of and c.lose >= lose for c in part.tolerate)
        }
        for lose, of in sorted(wanted)
    }


def check(
    problem: Problem,
    board: Board,
    fit: Fit,
    wanted: t.Mapping[tuple[int, str], t.Collection[str]] | None = None,
) -> Verdict:
    """Try the losses of every clause on the board, which is as before afterwards.

    `wanted` asks for other clauses than those of the definition.
    """
    guests = problem.guests
    broken: list[Broken] = []
    notes: list[str] = []
    by_host: dict[int, list[GuestState]] = {}
    for name, index in board.where.items():
        by_host.setdefault(index, []).append(guests[name])
    for (lose, of), partitions in (clauses(problem) if wanted is None else wanted).items():
        domains = _domains(board, of)
        size = min(lose, len(domains))
        losses = math.comb(len(domains), size)
        if losses > BOUND:
            clause = f"tolerate {{lose: {lose}, of: {of}}}"
            notes.append(f"{clause}: {losses} losses are possible, only the fullest {BOUND} were tried")
        guests_in = {name: sum(len(by_host.get(i, ())) for i in indexes) for name, indexes in domains.items()}
        order = sorted(domains, key=lambda name: (-guests_in[name], name))
        for lost in itertools.islice(itertools.combinations(order, size), BOUND):
            homeless = [
                guest
                for name in lost
                for index in domains[name]
                for guest in by_host.get(index, ())
                if guest.partition in partitions
            ]
            victim = _try(board, [i for name in lost for i in domains[name]], homeless, fit)
            if victim is not None:
                broken.append(Broken(lose, of, tuple(sorted(lost)), victim, guests[victim].partition))
                break
    return Verdict(tuple(broken), tuple(notes))


def _domains(board: Board, level: str) -> dict[str, list[int]]:
    """Host indexes by domain; a host without an enclosure of the level fails alone."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(board.rules.domains(level)):
        host: HostState = board.hosts[index]
        found.setdefault(name if name is not None else f"{HOST} {host.name}", []).append(index)
    return found


def _try(board: Board, lost: t.Sequence[int], homeless: t.Sequence[GuestState], fit: Fit) -> str | None:
    """The first guest that fits nowhere when these hosts are lost, None if all do."""
    if not homeless:
        return None
    was = {index: board.closed[index] for index in lost}
    for index in lost:
        board.closed[index] = "lost"
    home = {guest.name: board.take(guest) for guest in homeless}
    victim = fit(board, homeless)
    for guest in homeless:
        if guest.name in board.where:
            board.take(guest)
        board.put(guest, home[guest.name])
    for index, reason in was.items():
        board.closed[index] = reason
    return victim
