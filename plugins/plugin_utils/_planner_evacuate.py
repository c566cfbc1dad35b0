# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evacuate: a target for every guest of some HostOS, or a reason why it stays, and waves to get there.

The evacuated take nothing, so targets that fit need no parking; only apart rules make guests wait for one another.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _tolerate
from ._constraints import Board
from ._plan import GuestState, Plan, Problem, Stays
from ._planner_fit import first_homeless, place_all
from ._planner_room import make_room
from ._planner_waves import waves
from ._words import counted

#: Moves at the same time in which one host takes part, unless the option `moves_per_host` says otherwise.
MOVES_PER_HOST = 2
LEAVING = "is being evacuated"


def evacuate(problem: Problem) -> Plan:
    """Empty the hosts `problem.subjects`; options: moves_per_host (2), moves_total (unlimited), make_room
    (false: guests of other hosts stay), solver (true: highspy may be used to make room).

    Raises ValueError for a limit below 1.
    """
    leaving = set(problem.subjects)
    problem = dataclasses.replace(
        problem,
        hosts={
            name: dataclasses.replace(host, closed=host.closed or LEAVING) if name in leaving else host
            for name, host in problem.hosts.items()
        },
    )
    on_them = [guest for guest in problem.guests.values() if guest.host in leaving]
    stays = [Stays(guest.name, guest.frozen) for guest in on_them if guest.frozen]
    movable = [guest for guest in on_them if not guest.frozen]
    board, placed, homeless = _targets(problem, movable, tight=False)
    engine = "first-fit"
    if homeless:
        fuller = _targets(problem, movable, tight=True)
        if len(fuller[2]) < len(homeless):
            board, placed, homeless = fuller
    notes = []
    if homeless and problem.options.get("make_room"):
        board = _board(problem, movable)
        room = make_room(board, movable, solver=bool(problem.options.get("solver", True)))
        if len(room.stays) < len(homeless):
            placed = {name: (index, "others make room on the way") for name, index in room.places.items()}
            placed |= {name: (index, "makes room for guests of the evacuated") for name, index in room.moved.items()}
            homeless, engine = list(room.stays), room.engine
            notes.append(
                f"{counted(len(room.moved), 'guest')} of other hosts make room; at least {room.bound or 0} must"
            )
    schedule = waves(
        problem,
        {name: board.hosts[index].name for name, (index, _reason) in placed.items()},
        moves_per_host=int(problem.options.get("moves_per_host", MOVES_PER_HOST)),
        moves_total=problem.options.get("moves_total"),
        reasons={name: reason for name, (_index, reason) in placed.items()},
    )
    stays += [*homeless, *schedule.stays]
    if schedule.moves:
        notes.append(f"{counted(schedule.waves, 'wave')} of moves; no order of them has fewer than {schedule.bound}")
    notes += _tolerance_notes(problem, {move.guest: move.target for move in schedule.moves})
    return Plan(
        moves=schedule.moves,
        stays=tuple(sorted(stays, key=lambda stay: stay.guest)),
        engine=engine,
        notes=tuple(notes),
    )


def _targets(
    problem: Problem, movable: t.Sequence[GuestState], *, tight: bool
) -> tuple[Board, dict[str, tuple[int, str]], list[Stays]]:
    """A target for each, as if all moved at once; whoever moves still keeps its apart partners away from its source.

    The emptiest hosts keep the cluster even; the fullest (`tight`) leave big gaps to big guests.
    """
    board = _board(problem, movable)
    board.tight = tight
    placed, homeless = place_all(board, movable)
    return board, placed, homeless


def _board(problem: Problem, movable: t.Sequence[GuestState]) -> Board:
    """The board without these guests, whose apart partners keep away from where they still are."""
    board = Board(problem)
    for guest in movable:
        board.take(guest, ghost=True)
    return board


def _tolerance_notes(problem: Problem, where: t.Mapping[str, str]) -> list[str]:
    """Losses that the cluster survives no more once the moves are made."""
    if not _tolerate.clauses(problem):
        return []
    guests = {n: dataclasses.replace(g, host=where[n]) if n in where else g for n, g in problem.guests.items()}
    problem = dataclasses.replace(problem, guests=guests)
    verdict = _tolerate.check(problem, Board(problem), first_homeless)
    return [f"then broken: {broken}" for broken in verdict.broken] + list(verdict.notes)
