# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room by an exact model over some hosts: whole numbers of equal guests per host, as few of them moved as can be.

Needs highspy. Guests under rules, frozen ones, and those that came from other hosts keep their place in the model.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import math
import typing as t

from ._constraints import Board
from ._planner_eject import Ejector

#: Hosts that are looked at together, and equal guests times hosts beyond which fewer are.
HOSTS = 30
CELLS = 2000
#: The same for the bound over all hosts.
BOUND_CELLS = 1000
#: Nodes of the search for the best whole numbers.
NODES = 200
UNPLACED = 1000.0  #: one guest without a place is worse than so many moves

Kind = tuple[t.Any, ...]  #: what alone decides where an unbound guest fits: partitions, amount, capabilities


def available() -> bool:
    try:
        importlib.import_module("highspy")
    except ImportError:
        return False
    return True


def improve(ejector: Ejector, homeless: t.Collection[str]) -> bool:
    """Place more of the homeless, or all of them with fewer moves; True: the board has changed for the better."""
    board = ejector.board
    before = (sum(name not in board.where for name in homeless), ejector.moves)
    mark = ejector.mark()
    near = _near(ejector, homeless)
    for name in sorted(ejector.moved):  # the model cannot move these; perhaps it does without their moves
        back = ejector.home[name]
        if board.rules.bound(name) and back in near:
            there = board.where[name]
            ejector.take(name)
            broken = any(group.broken_by(name, back) for group in board.rules.hard.get(name, ()))
            ejector.put(name, there if broken else back)
    kinds = _kinds(ejector, near, homeless)
    while len(near) > 2 and len(kinds) * len(near) > CELLS:
        near = near[: len(near) * 2 // 3]
        kinds = _kinds(ejector, near, homeless)
    counts = _solve(board, near, kinds)[0] if kinds else None
    if counts is not None:
        _apply(ejector, near, kinds, counts)
    fits = all(free >= 0 for index in near for free in board.free[index])
    after = (sum(name not in board.where for name in homeless), ejector.moves)
    if counts is None or not fits or after >= before:
        ejector.undo(mark)
        return False
    return True


def least(ejector: Ejector, homeless: t.Collection[str]) -> int:
    """At least so many guests must move for all homeless to fit: the model over all hosts without any rule."""
    every = range(len(ejector.board.hosts))
    kinds = _kinds(ejector, every, homeless, rules=False)
    if not kinds or len(kinds) * len(every) > BOUND_CELLS:
        return 0
    bound = _solve(ejector.board, every, kinds)[1]
    return max(0, math.ceil(bound - len(homeless) - 1e-6))


def _near(ejector: Ejector, homeless: t.Collection[str]) -> list[int]:
    """Hosts that the moves so far touched, then those that lack least for one of the homeless."""
    board = ejector.board
    left = [name for name in homeless if name not in board.where]
    touched = {index for name, there in ejector.moved.items() for index in (ejector.home[name], there)}
    touched |= {board.where[name] for name in homeless if board.where.get(name) in touched}
    if len(touched) > HOSTS:
        touched = set()
    by_room = sorted(
        (
            index
            for index in range(len(board.hosts))
            if index not in touched
            and any(board.forbidden(ejector.guests[name], index) is None for name in left or homeless)
        ),
        key=lambda index: (-board.free[index][1], index),
    )
    return sorted(touched) + by_room[: HOSTS - len(touched)]


def _kinds(
    ejector: Ejector, near: t.Sequence[int], homeless: t.Collection[str], *, rules: bool = True
) -> dict[Kind, dict[int, list[str]]]:
    """Guests that the model may move, by kind and host; -1: without a place before."""
    board = ejector.board
    kinds: dict[Kind, dict[int, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))

    def add(name: str, index: int) -> None:
        guest = ejector.guests[name]
        if not guest.frozen and not (rules and board.rules.bound(name)):
            kinds[guest.on, board.amount(guest), guest.needs][index].append(name)

    for index in near:
        for name in sorted(ejector.on[index]):
            if name in ejector.home and ejector.home[name] in near:
                add(name, ejector.home[name])
    for name in sorted(homeless):
        if name not in board.where or board.where[name] in near:
            add(name, -1)
    return kinds if any(-1 in hosts for hosts in kinds.values()) else {}


def _solve(
    board: Board, near: t.Sequence[int], kinds: t.Mapping[Kind, t.Mapping[int, list[str]]]
) -> tuple[dict[tuple[Kind, int], int] | None, float]:
    """How many guests of each kind each host gets; and what no answer's cost is below."""
    import highspy

    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("threads", 1)
    model.setOptionValue("mip_max_nodes", NODES)
    columns: dict[tuple[Kind, int], int] = {}
    free = {index: list(board.free[index]) for index in near}
    number = 0

    def column(upper: float, cost: float) -> int:
        nonlocal number
        model.addVar(0.0, upper)
        model.changeColCost(number, cost)
        number += 1
        return number - 1

    for kind, hosts in kinds.items():
        amount = kind[1]
        everyone = sum(map(len, hosts.values()))
        one = board.problem.guests[next(names[0] for names in hosts.values() if names)]
        some = dataclasses.replace(one, name="")  # any of its kind, under no pin
        indexes, values = [column(len(hosts.get(-1, ())), UNPLACED)], [1.0]
        for names in hosts.values():
            for name in names:
                if board.where.get(name) in free:
                    for k in range(3):
                        free[board.where[name]][k] += amount[k]
        for index in near:
            here = len(hosts.get(index, ()))
            if board.forbidden(some, index) is not None and not here:
                continue
            whole = column(everyone if board.forbidden(some, index) is None else here, 0.0)
            model.changeColIntegrality(whole, highspy.HighsVarType.kInteger)
            arrive = column(everyone, 1.0)
            model.addRow(-highspy.kHighsInf, here, 2, [whole, arrive], [1.0, -1.0])
            columns[kind, index] = whole
            indexes.append(whole)
            values.append(1.0)
        model.addRow(everyone, everyone, len(indexes), indexes, values)
    for index in near:
        for k, scale in enumerate((1.0, 2.0**20, 2.0**20)):
            cells = [(columns[kind, index], kind[1][k] / scale) for kind in kinds if (kind, index) in columns]
            cells = [(cell, value) for cell, value in cells if value]
            if cells:
                most = max(free[index][k], 0) / scale
                model.addRow(-highspy.kHighsInf, most, len(cells), [c for c, _v in cells], [v for _c, v in cells])
    model.run()
    solution = model.getSolution().col_value
    bound = model.getInfo().mip_dual_bound
    if len(solution) != number:
        return None, 0.0
    return {key: round(solution[cell]) for key, cell in columns.items()}, bound


def _apply(
    ejector: Ejector,
    near: t.Sequence[int],
    kinds: t.Mapping[Kind, t.Mapping[int, list[str]]],
    counts: t.Mapping[tuple[Kind, int], int],
) -> None:
    """Who is one too many at home leaves; the homeless and those who left fill up what is missing."""
    board = ejector.board
    where: list[tuple[str, int]] = []
    for kind, hosts in kinds.items():
        pool: list[str] = []
        for index in near:
            names = hosts.get(index, [])
            keep = counts.get((kind, index), 0)
            where += [(name, index) for name in names[:keep]]
            pool += names[keep:]
        pool += hosts.get(-1, [])  # last, so that a guest without a place stays without rather than one that had one
        for index in near:
            missing = counts.get((kind, index), 0) - len(hosts.get(index, ()))
            for _number in range(max(0, missing)):
                if pool:
                    where.append((pool.pop(0), index))
        for name in pool:
            if name in board.where:
                ejector.take(name)
    changed = [(name, index) for name, index in where if board.where.get(name) != index]
    for name, _index in changed:
        if name in board.where:
            ejector.take(name)
    for name, index in changed:
        ejector.put(name, index)
