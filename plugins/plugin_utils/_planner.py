# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: one function from a Problem to a Plan, the same for the same problem. Each verb has a file of its own.

Guests that have a host stay there unless the verb is to move them.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing as t

from ._plan import Plan, PlannerError, Problem, Stays
from ._planner_waves import waves
from ._words import listing

#: Moves at the same time in which one host takes part, unless the option `moves_per_host` says otherwise.
MOVES_PER_HOST = 2

#: Verb -> the module that answers it, by a function of the verb's name. Imported when it is asked.
_ANSWERS = {
    "place": "_planner_place",
    "evacuate": "_planner_evacuate",
    "relieve": "_planner_relieve",
    "balance": "_planner_balance",
    "consolidate": "_planner_consolidate",
    "move": "_planner_move",
    "what_if": "_planner_whatif",
    "explain": "_planner_explain",
}
VERBS = tuple(_ANSWERS)
#: Verbs that say who goes where, but not in which order.
_UNORDERED = ("relieve", "balance", "consolidate")


def solve(problem: Problem) -> Plan:
    """Answer the problem's question. Raises PlannerError for a verb, subject or option that there is not."""
    if problem.verb not in VERBS:
        raise PlannerError(f"verb {problem.verb!r}: there is no such verb; this planner can {', '.join(VERBS)}")
    _check_names(problem)
    answer = importlib.import_module(f".{_ANSWERS[problem.verb]}", __package__)
    try:
        plan: Plan = getattr(answer, problem.verb)(problem)
        if problem.verb == "place" and problem.options.get("make_room"):
            plan = importlib.import_module("._planner_room", __package__).with_room(problem, plan)
        return _in_order(problem, plan) if problem.verb in _UNORDERED else plan
    except ValueError as error:
        raise PlannerError(str(error)) from error


def _check_names(problem: Problem) -> None:
    about_guests = problem.verb in ("move", "explain")
    known: t.Mapping[str, t.Any] = problem.guests if about_guests else problem.hosts
    wanted = [(name, known, "guest" if about_guests else "HostOS") for name in problem.subjects]
    if problem.verb == "move":
        wanted.append((problem.options.get("to"), problem.hosts, "HostOS"))
    for name, names, thing in wanted:
        if name not in names:
            raise PlannerError(f"there is no {thing} {name} in cluster {problem.cluster.name}")


def _in_order(problem: Problem, plan: Plan) -> Plan:
    """The plan's moves in waves; who cannot be moved in any order stays, with the reason."""
    schedule = waves(
        problem,
        {move.guest: move.target for move in plan.moves},
        moves_per_host=int(problem.options.get("moves_per_host", MOVES_PER_HOST)),
        moves_total=problem.options.get("moves_total"),
        reasons={move.guest: move.reason for move in plan.moves},
    )
    notes = [*plan.notes]
    if schedule.parked:
        notes.append(f"parked on the way, so moved twice: {listing(schedule.parked)}")
    if schedule.stays:
        notes.append("not every move can be made, so the end is not quite what is said above")
    stays: tuple[Stays, ...] = (*plan.stays, *schedule.stays)
    return dataclasses.replace(plan, moves=schedule.moves, stays=stays, notes=tuple(notes))
