# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`tolerate`: after any loss of k hosts (racks, ...) every guest of the partition can be placed again within the rules.

A loss is tried by taking the lost guests off the board and placing them; nobody else is moved. "Yes" has a witness for
each loss; "no" names a loss and why nothing can place its guests; where neither is found, or more losses are possible
than BOUND (the fullest are tried), the answer is "unknown" with the bound that was reached.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing as t

from ._constraints import Board
from ._plan import GuestState, HostState, Problem
from ._rules import HOST
from ._tolerate_proof import STEPS, Refusal, impossible, search

#: Losses tried for one clause; all single hosts of the largest cluster and all pairs of racks stay below it.
BOUND = 2000
#: Losses of one clause that may stay without an answer before the others are not tried.
DOUBTS = 3

#: Puts guests on the board and names the first that fits nowhere.
Fit = t.Callable[[Board, t.Sequence[GuestState]], t.Optional[str]]


@dataclasses.dataclass(frozen=True)
class Broken:
    """A clause that does not hold, or not for all that was found: the loss and a guest that then has no place."""

    lose: int
    of: str
    lost: tuple[str, ...]
    guest: str
    partition: str
    proof: str = ""  #: why no way exists; empty: none was found, but there may be one

    @property
    def clause(self) -> tuple[int, str]:
        return (self.lose, self.of)

    def __str__(self) -> str:
        what = " and ".join(self.lost)
        loss = f"tolerate {{lose: {self.lose}, of: {self.of}}}: if {what} is lost, "
        if self.proof:
            return f"{loss}guest {self.guest} of partition {self.partition} fits nowhere ({self.proof})"
        return f"{loss}no place was found for guest {self.guest} of partition {self.partition} within {STEPS} steps"


@dataclasses.dataclass(frozen=True)
class Verdict:
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()  #: clauses that were not tried for every loss
    #: (lose, of, what is lost) -> guest -> host that takes it, for every loss that was survived; if asked for
    witness: t.Mapping[tuple[int, str, tuple[str, ...]], t.Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def answer(self) -> str:
        """yes: after any loss all fit; no: one loss is proved to break it; unknown: neither within the bounds."""
        if any(broken.proof for broken in self.broken):
            return "no"
        return "unknown" if self.broken or self.notes else "yes"


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
    *,
    witness: bool = False,
) -> Verdict:
    """Try the losses of every clause on the board, which is as before afterwards.

    `wanted` asks for other clauses than those of the definition; `witness` for the places after each loss.
    """
    guests = problem.guests
    broken: list[Broken] = []
    notes: list[str] = []
    places: dict[tuple[int, str, tuple[str, ...]], t.Mapping[str, str]] = {}
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
        doubts: list[Broken] = []
        for lost in itertools.islice(itertools.combinations(order, size), BOUND):
            homeless = [
                guest
                for name in lost
                for index in domains[name]
                for guest in by_host.get(index, ())
                if guest.partition in partitions
            ]
            found = _try(board, [i for name in lost for i in domains[name]], homeless, fit)
            if not isinstance(found, Refusal):
                if witness:
                    places[lose, of, tuple(sorted(lost))] = found
                continue
            doubts.append(
                Broken(lose, of, tuple(sorted(lost)), found.guest, guests[found.guest].partition, found.proof)
            )
            if found.proof or len(doubts) >= DOUBTS:
                break
        if doubts:
            broken.append(doubts[-1] if doubts[-1].proof else doubts[0])
    return Verdict(tuple(broken), tuple(notes), places)


def _domains(board: Board, level: str) -> dict[str, list[int]]:
    """Host indexes by domain; a host without an enclosure of the level fails alone."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(board.rules.domains(level)):
        host: HostState = board.hosts[index]
        found.setdefault(name if name is not None else f"{HOST} {host.name}", []).append(index)
    return found


def _try(board: Board, lost: t.Sequence[int], homeless: t.Sequence[GuestState], fit: Fit) -> dict[str, str] | Refusal:
    """Where the guests go when these hosts are lost, or why no place is known for one of them."""
    if not homeless:
        return {}
    was = {index: board.closed[index] for index in lost}
    for index in lost:
        board.closed[index] = "lost"
    home = {guest.name: board.where[guest.name] for guest in homeless}
    found: dict[str, str] | Refusal | None = _first(board, homeless, home, fit)
    if found is None:
        for guest in homeless:
            board.take(guest)
        refusal = _refusal(board, homeless, fit)
        found = refusal or _places(board, homeless)
        _clear(board, homeless)
        for guest in homeless:
            board.put(guest, home[guest.name])
    for index, reason in was.items():
        board.closed[index] = reason
    return found


def _first(
    board: Board, homeless: t.Sequence[GuestState], home: t.Mapping[str, int], fit: Fit
) -> dict[str, str] | None:
    """Places by the fit alone, which is nearly always enough; the board is as before afterwards.

    Who no rule and no spread counts need not be taken off its lost host first: nobody else can use that anyway.
    """
    rules = board.rules
    counted = [guest for guest in homeless if rules.bound(guest.name) or guest.partition in rules.spreads]
    for guest in counted:
        board.take(guest)
    found = _places(board, homeless) if fit(board, homeless) is None else None
    for guest in homeless:
        if board.where.get(guest.name, home[guest.name]) != home[guest.name]:
            board.take(guest)
        board.where[guest.name] = home[guest.name]
    for guest in counted:
        board.put(guest, home[guest.name])
    return found


def _places(board: Board, guests: t.Sequence[GuestState]) -> dict[str, str]:
    return {guest.name: board.hosts[board.where[guest.name]].name for guest in guests}


def _refusal(board: Board, homeless: t.Sequence[GuestState], fit: Fit) -> Refusal | None:
    """Place who the emptiest hosts do not take on the fullest, else by search; None: they are on the board."""
    refusal = impossible(board, homeless)
    if refusal is not None:
        return refusal
    board.tight = True
    tight = fit(board, homeless)
    board.tight = False
    if tight is None:
        return None
    _clear(board, homeless)
    found = search(board, homeless)
    return found if found is None or found.proof else Refusal(tight, "")


def _clear(board: Board, guests: t.Sequence[GuestState]) -> None:
    for guest in guests:
        if guest.name in board.where:
            board.take(guest)
