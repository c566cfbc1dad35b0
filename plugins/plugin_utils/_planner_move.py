# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests to a HostOS that somebody named: each goes there, or stays with the rule that keeps it away."""

from __future__ import annotations

from ._constraints import Board
from ._plan import Move, Plan, Problem, Stays


def move(problem: Problem) -> Plan:
    """Moves of the subjects (guests) to `options["to"]`; who is there already is not mentioned."""
    board = Board(problem)
    target = board.index[problem.options["to"]]
    moves: list[Move] = []
    stays: list[Stays] = []
    going = []
    for guest in (problem.guests[name] for name in problem.subjects):
        if guest.host is None:
            stays.append(Stays(guest.name, "it has no HostOS yet: run oscarv.virt.deploy"))
        elif guest.frozen:
            stays.append(Stays(guest.name, guest.frozen))
        elif guest.host != problem.options["to"]:
            going.append(guest)
    # All leave before the first arrives: guests that must be together may go together.
    home = {guest.name: board.take(guest, ghost=True) for guest in going}
    for guest in going:
        obstacle = board.obstacle(guest, target)
        if obstacle is None:
            board.put(guest, target)
            moves.append(Move(guest.name, str(guest.host), board.hosts[target].name, 1, "asked for"))
        else:
            why = board.words(guest, target, obstacle)
            stays.append(Stays(guest.name, f"{board.hosts[target].name}: {why}", {board.hosts[target].name: why}))
            board.put(guest, home[guest.name])
    return Plan(moves=tuple(moves), stays=tuple(stays), engine="none")
