# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: one function from a Problem to a Plan, the same for the same problem. Each verb has a file of its own.

Guests that have a host stay there unless the verb is to move them.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._plan import Plan, PlannerError, Problem, Stays
from ._planner_balance import balance
from ._planner_consolidate import consolidate
from ._planner_evacuate import evacuate
from ._planner_explain import explain
from ._planner_move import move as move_where_asked
from ._planner_place import place
from ._planner_relieve import relieve
from ._planner_room import with_room
from ._planner_waves import waves
from ._planner_whatif import supposed, what_if
from ._words import listing

#: Moves at the same time in which one host takes part, unless the option `moves_per_host` says otherwise.
MOVES_PER_HOST = 2

_ANSWERS: dict[str, t.Callable[[Problem], Plan]] = {
    "place": place,
    "evacuate": evacuate,
    "relieve": relieve,
    "balance": balance,
    "consolidate": consolidate,
    "move": move_where_asked,
    "what_if": what_if,
    "explain": explain,
}
VERBS = tuple(_ANSWERS)
#: Verbs that say who goes where, but not in which order.
_UNORDERED = ("relieve", "balance", "consolidate")


def solve(problem: Problem) -> Plan:
    """Answer the problem's question. Raises PlannerError for a verb, subject or option that there is not."""
    if problem.verb not in VERBS:
        raise PlannerError(f"verb {problem.verb!r}: there is no such verb; this planner can {', '.join(VERBS)}")
    _check_names(problem)
    try:
        plan = _ANSWERS[problem.verb](problem)
        if problem.verb == "place" and problem.options.get("make_room"):
            plan = with_room(problem, plan)
        return _in_order(problem, plan) if problem.verb in _UNORDERED else plan
    except ValueError as error:
        raise PlannerError(str(error)) from error


def asked(problem: Problem) -> Problem:
    """The problem that the plan of `solve(problem)` is a plan for: what is supposed by `what_if` is so there."""
    return supposed(problem) if problem.verb == "what_if" else problem


def _check_names(problem: Problem) -> None:
    about_guests = problem.verb in ("move", "explain")
    guests = problem.subjects if about_guests else ()
    hosts = () if about_guests else problem.subjects
    if problem.verb == "move":
        hosts = (str(problem.options.get("to")),)
    unknown = [f"guest {name}" for name in guests if name not in problem.guests]
    unknown += [f"HostOS {name}" for name in hosts if name not in problem.hosts]
    if unknown:
        raise PlannerError(f"there is no {listing(unknown)} in cluster {problem.cluster.name}")


def _in_order(problem: Problem, plan: Plan) -> Plan:
    """The plan's moves in waves; who cannot be moved in any order stays, with the reason."""
    schedule = waves(
        problem,
        {move.guest: move.target for move in plan.moves},
        moves_per_host=int(problem.options.get("moves_per_host", MOVES_PER_HOST)),
        moves_total=problem.options.get("moves_total"),
        reasons={move.guest: move.reason for move in plan.moves},
    )
    if schedule.stays and problem.verb == "balance":  # its moves are in an order in which one by one can be made
        moves = tuple(dataclasses.replace(move, wave=number) for number, move in enumerate(plan.moves, 1))
        return dataclasses.replace(plan, moves=moves)
    notes = [*plan.notes]
    if schedule.parked:
        notes.append(f"parked on the way, so moved twice: {listing(schedule.parked)}")
    if schedule.stays:
        notes.append("not every move can be made, so the end is not quite what is said above")
    stays: tuple[Stays, ...] = (*plan.stays, *schedule.stays)
    return dataclasses.replace(plan, moves=schedule.moves, stays=stays, notes=tuple(notes))
