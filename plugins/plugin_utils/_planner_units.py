# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which moves no order can make, which must be made in the same wave, and how many waves there must be."""

from __future__ import annotations

import typing as t

from ._constraints import Board
from ._plan import GuestState, Stays
from ._planner_floor import Floor
from ._rules import Group, rule_text
from ._words import listing

Unit = tuple[tuple[GuestState, int], ...]  #: guests and their targets


def forbidden(board: Board, wanted: t.Mapping[str, int]) -> list[Stays]:
    """Who may not go to its target whoever else is there, or would tear a `together` group in the end."""
    found = {}
    for name, index in wanted.items():
        guest, target = board.problem.guests[name], board.hosts[index].name
        obstacle = board.forbidden(guest, index)
        if guest.frozen:
            found[name] = Stays(name, guest.frozen)
        elif obstacle is not None:
            words = board.words(guest, index, obstacle)
            found[name] = Stays(name, f"{target} {words}", {target: words})
    goal = {name: index for name, index in {**board.where, **wanted}.items() if name not in found}
    goal.update({name: board.where[name] for name in found})
    while True:
        more = {}
        for group, movers in _groups(board, wanted):
            movers = [name for name in movers if name not in found]
            domains = {group.domains[goal[name]] for name in group.rule.guests if name in goal}
            if movers and (len(domains) > 1 or None in domains):
                words = f"the moves would tear a group: {rule_text(group.rule)}"
                more.update({name: Stays(name, words) for name in movers})
        if not more:
            return list(found.values())
        found.update(more)
        goal.update({name: board.where[name] for name in more})


def _groups(board: Board, wanted: t.Container[str]) -> t.Iterator[tuple[Group, list[str]]]:
    """Hard `together` groups and who of them is to be moved."""
    for group in board.rules.groups:
        if not group.apart and not group.rule.soft:
            movers = [name for name in group.rule.guests if name in wanted]
            if movers:
                yield group, movers


def units(board: Board, wanted: t.Mapping[str, int]) -> list[Unit]:
    """Who moves in one wave: groups that are together now and go to another domain."""
    unit = {name: [name] for name in wanted}
    for group, movers in _groups(board, wanted):
        now = {group.domains[board.where[name]] for name in group.rule.guests if name in board.where}
        if len(now) == 1 and None not in now and {group.domains[wanted[name]] for name in movers} != now:
            merged = list(dict.fromkeys(name for mover in movers for name in unit[mover]))
            unit.update(dict.fromkeys(merged, merged))
    guests = board.problem.guests
    every = {id(names): names for names in unit.values()}.values()
    return [tuple((guests[name], wanted[name]) for name in names) for names in every]


def too_wide(board: Board, units: t.Iterable[Unit], per_host: int, total: int | None) -> t.Iterator[Stays]:
    """Groups that must move in one wave and are more than one wave may move."""
    empty = Floor(board, per_host, total)
    for unit in units:
        if len(unit) > 1 and not empty.room(unit):
            limit = f"moves_per_host: {per_host}" + ("" if total is None else f", moves_total: {total}")
            for guest, _index in unit:
                others = listing([other.name for other, _index in unit if other is not guest])
                yield Stays(guest.name, f"must move at the same time as {others}; too many for {limit}")


# -- a bound --------------------------------------------------------------------------------------------------------


def least_waves(board: Board, goal: t.Mapping[str, int], per_host: int, total: int | None) -> int:
    """A number of waves that no schedule of these moves undercuts, parking or not.

    Every move takes a turn at its source and at its target. In the first wave nobody has left yet, so a target takes
    no more arrivals then than the smallest of its arrivals have room for.
    """
    arrivals: dict[int, list[GuestState]] = {}
    leaving: dict[int, int] = {}
    for name, target in goal.items():
        arrivals.setdefault(target, []).append(board.problem.guests[name])
        leaving[board.where[name]] = leaving.get(board.where[name], 0) + 1
    bound = 0 if total is None else -(-len(goal) // total)
    for index in {*arrivals, *leaving}:
        come, go = arrivals.get(index, []), leaving.get(index, 0)
        at_once = min(_fitting(board, come, index) + go, per_host, len(come) + go)
        bound = max(bound, (at_once > 0 or bool(come)) - (-(len(come) + go - at_once) // per_host))
    return bound


def _fitting(board: Board, guests: t.Sequence[GuestState], index: int) -> int:
    """An upper bound on how many of these the host takes as it is: by each kind alone, small ones first."""
    least = len(guests)
    for kind, free in enumerate(board.free[index]):
        left, count = free, 0
        for wish in sorted(board.amount(guest)[kind] for guest in guests):
            left -= wish
            if wish and left < 0:
                break
            count += 1
        least = min(least, count)
    return least
