# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where guests go: first fit, big guests first, the emptiest host that fits. A pure function of the problem.

Guests that have a host stay there unless the verb is to move them. What has no place is reported with the first
constraint in the way on each host; nothing is ever placed against a hard constraint.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _tolerate
from ._constraints import UNKNOWN_CAPACITY, Board
from ._plan import Move, Place, Plan, Problem, Stays
from ._planner_fit import bundles, first_homeless, place_all
from ._planner_move import move as move_where_asked
from ._rules import rule_text
from ._words import counted, listing, percent

ENGINE = "first-fit"
VERBS = ("place", "evacuate", "move", "explain")
LATER_VERBS = ("relieve", "balance", "consolidate", "what_if")
#: Moves at the same time in which one host takes part, unless the option `moves_per_host` says otherwise.
MOVES_PER_HOST = 2


class PlannerError(Exception):
    """A question that cannot be answered; the message says what to ask instead."""


def solve(problem: Problem) -> Plan:
    """Answer the problem's question. Raises PlannerError for a verb or subject that there is not."""
    if problem.verb in LATER_VERBS:
        raise PlannerError(f"verb {problem.verb}: not yet; this planner can {', '.join(VERBS)}")
    if problem.verb not in VERBS:
        raise PlannerError(f"verb {problem.verb!r}: there is no such verb; this planner can {', '.join(VERBS)}")
    about_guests = problem.verb in ("move", "explain")
    known: t.Mapping[str, t.Any] = problem.guests if about_guests else problem.hosts
    unknown = [name for name in problem.subjects if name not in known]
    if unknown:
        thing = "guest" if about_guests else "HostOS"
        raise PlannerError(f"there is no {thing} {listing(unknown)} in cluster {problem.cluster.name}")
    if problem.verb == "move" and problem.options.get("to") not in problem.hosts:
        raise PlannerError(f"there is no HostOS {problem.options.get('to')} in cluster {problem.cluster.name}")
    answer = {"place": _place, "evacuate": _evacuate, "move": move_where_asked, "explain": _explain}[problem.verb]
    return answer(problem)


# -- place ------------------------------------------------------------------------------------------------------


def _place(problem: Problem) -> Plan:
    board = Board(problem)
    before = _tolerate.check(problem, board, first_homeless) if _tolerate.clauses(problem) else None
    homeless = [guest for guest in problem.guests.values() if guest.host is None and not guest.frozen]
    placed, stays = place_all(board, homeless)
    refused: dict[str, str] = {}
    notes = list(_host_notes(board)) + list(_rule_notes(board))
    if before is not None:
        refused, more = _keep_tolerances(problem, board, placed, before)
        notes += more
    places = tuple(
        Place(name, board.hosts[index].name, reason) for name, (index, reason) in placed.items() if name not in refused
    )
    stays += [Stays(name, reason) for name, reason in refused.items()]
    return Plan(places=_by_name(places), stays=_by_name(stays), engine=ENGINE, notes=tuple(notes))


def _keep_tolerances(
    problem: Problem, board: Board, placed: dict[str, tuple[int, str]], before: _tolerate.Verdict
) -> tuple[dict[str, str], list[str]]:
    """Take back new places until nothing is broken that held before; (guest -> why not, notes).

    A clause that is broken by what already runs refuses new guests of its partitions, and is noted.
    """
    notes = [f"broken before anything is placed: {broken}" for broken in before.broken] + list(before.notes)
    already = {broken.clause: broken for broken in before.broken}
    refused: dict[str, str] = {}
    partitions = _tolerate.clauses(problem)
    for name in list(placed):
        clause = next((c for c in already if problem.guests[name].partition in partitions[c]), None)
        if clause:
            board.take(problem.guests[name])
            refused[name] = str(already[clause])
    order = [name for name in placed if name not in refused]
    if not order:
        return refused, notes

    def first_new() -> _tolerate.Broken | None:
        found = _tolerate.check(problem, board, first_homeless).broken
        return next((broken for broken in found if broken.clause not in already), None)

    why = first_new()
    if why is None:
        return refused, notes
    low, high = 0, len(order)  # the first `low` places are good, the first `high` are not
    kept = len(order)
    while high - low > 1:
        middle = (low + high) // 2
        kept = _keep_first(problem, board, placed, order, kept, middle)
        broken = first_new()
        if broken is None:
            low = middle
        else:
            high, why = middle, broken
    _keep_first(problem, board, placed, order, kept, low)
    together = _mates(problem, order[low:])
    for name in order:
        if name in together and name in board.where:
            board.take(problem.guests[name])
    refused.update({name: str(why) for name in order if name in together})
    return refused, notes


def _keep_first(
    problem: Problem, board: Board, placed: dict[str, tuple[int, str]], order: list[str], kept: int, wanted: int
) -> int:
    """Have exactly the first `wanted` of the new places on the board; `kept` of them are there now."""
    for name in order[wanted:kept]:
        board.take(problem.guests[name])
    for name in order[kept:wanted]:
        board.put(problem.guests[name], placed[name][0])
    return wanted


def _mates(problem: Problem, names: t.Sequence[str]) -> set[str]:
    """These guests and everyone who must be together with one of them."""
    found = set(names)
    for bundle in bundles(problem.cluster.rules, problem.guests):
        if found.intersection(bundle):
            found.update(bundle)
    return found


def _host_notes(board: Board) -> t.Iterator[str]:
    unknown = [host.name for host in board.hosts if host.capacity is None]
    if unknown:
        yield f"{counted(len(unknown), 'host')} ({listing(unknown)}) can take nothing: {UNKNOWN_CAPACITY}"
    for host, free in zip(board.hosts, board.free, strict=True):
        if host.capacity is not None:
            short = [kind for kind, amount in zip(("vcpus", "memory", "disk"), free, strict=True) if amount < 0]
            if short:
                yield f"host {host.name} holds more than its capacity: {', '.join(short)}"


def _rule_notes(board: Board) -> t.Iterator[str]:
    """Hard rules that guests which have a place already break."""
    for group in board.rules.groups:
        if group.rule.soft:
            continue
        crowded = {domain: names for domain, names in group.present.items() if names}
        if group.apart:
            for domain, names in crowded.items():
                if len(names) > 1:
                    yield f"{listing(sorted(names))} are all in {domain}: {rule_text(group.rule)}"
        elif len(crowded) > 1:
            yield f"guests are in {listing(sorted(map(str, crowded)))}: {rule_text(group.rule)}"
    for name, rules in board.rules.pins.items():
        for rule in rules:
            if name in board.where and board.hosts[board.where[name]].name not in rule.hosts:
                yield f"{name} is on {board.hosts[board.where[name]].name}: {rule_text(rule)}"


T = t.TypeVar("T", Place, Stays, Move)


def _by_name(items: t.Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(items, key=lambda item: item.guest))


# -- evacuate -----------------------------------------------------------------------------------------------------


def _evacuate(problem: Problem) -> Plan:
    """A target for every guest of the subjects, or a reason why it stays. The subjects take nothing."""
    leaving = set(problem.subjects)
    hosts = {
        name: dataclasses.replace(host, closed=host.closed or "is being evacuated") if name in leaving else host
        for name, host in problem.hosts.items()
    }
    problem = dataclasses.replace(problem, hosts=hosts)
    board = Board(problem)
    on_them = [guest for guest in problem.guests.values() if guest.host in leaving]
    frozen = [Stays(guest.name, guest.frozen) for guest in on_them if guest.frozen]
    movable = [guest for guest in on_them if not guest.frozen]
    home = {guest.name: board.take(guest, ghost=True) for guest in movable}
    placed, stays = place_all(board, movable)
    for stay in stays:
        board.put(problem.guests[stay.guest], home[stay.guest])
    moves = [
        Move(name, board.hosts[home[name]].name, board.hosts[index].name, 0, reason)
        for name, (index, reason) in placed.items()
    ]
    notes = list(_host_notes(board))
    if _tolerate.clauses(problem):
        verdict = _tolerate.check(problem, board, first_homeless)
        notes += [f"then broken: {broken}" for broken in verdict.broken] + list(verdict.notes)
    per_host = int(problem.options.get("moves_per_host", MOVES_PER_HOST))
    return Plan(moves=_waves(moves, per_host), stays=_by_name([*stays, *frozen]), engine=ENGINE, notes=tuple(notes))


def _waves(moves: t.Sequence[Move], per_host: int) -> tuple[Move, ...]:
    """At most `per_host` moves at a time touch a host.

    Targets are never sources here (the evacuated take nothing), so every target has room before the first move
    starts and any order holds capacity on both ends.
    """
    busy: dict[tuple[str, int], int] = {}
    answer = []
    for move in sorted(moves, key=lambda move: (move.source, move.guest)):
        wave = 1
        while busy.get((move.source, wave), 0) >= per_host or busy.get((move.target, wave), 0) >= per_host:
            wave += 1
        for end in (move.source, move.target):
            busy[end, wave] = busy.get((end, wave), 0) + 1
        answer.append(dataclasses.replace(move, wave=wave))
    return tuple(sorted(answer, key=lambda move: (move.wave, move.guest)))


# -- explain ------------------------------------------------------------------------------------------------------


def _explain(problem: Problem) -> Plan:
    """For each subject every host with its rank, or the first constraint in the way."""
    notes = []
    board = Board(problem)
    for name in problem.subjects:
        guest = problem.guests[name]
        here = board.take(guest) if name in board.where else None
        order = list(board.candidates(guest))
        for index, host in enumerate(board.hosts):
            obstacle = board.obstacle(guest, index)
            if obstacle:
                text = board.words(guest, index, obstacle)
            else:
                load = percent(board.load_with(guest, index), 1)
                text = f"fits, choice {order.index(index) + 1} of {len(order)}, then {load} full"
            notes.append(f"{name} on {host.name}: {text}" + (" (it is here)" if index == here else ""))
        if here is not None:
            board.put(guest, here)
    return Plan(engine=ENGINE, notes=tuple(notes))
