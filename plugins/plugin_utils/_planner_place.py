# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Place: hosts for guests without one, first fit, big guests first, the emptiest host that fits. Nobody else is moved.

What has no place is reported with the first constraint in the way on each host; nothing is ever placed against a hard
constraint.
"""

from __future__ import annotations

import typing as t

from . import _tolerate
from ._constraints import UNKNOWN_CAPACITY, Board
from ._plan import Place, Plan, Problem, Stays
from ._planner_fit import bundles, first_homeless, place_all
from ._rules import rule_text
from ._words import counted, listing

ENGINE = "first-fit"


def place(problem: Problem) -> Plan:
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


T = t.TypeVar("T", Place, Stays)


def _by_name(items: t.Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(items, key=lambda item: item.guest))
