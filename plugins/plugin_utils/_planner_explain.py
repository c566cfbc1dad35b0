# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explain: for a guest, every host with the first constraint that rules it out, or its score; as words and as data."""

from __future__ import annotations

import dataclasses
import typing as t

from ._constraints import Board, Obstacle
from ._plan import GuestState, Plan, Problem
from ._rules import Group
from ._words import counted, percent


@dataclasses.dataclass(frozen=True)
class Choice:
    """One host for one guest; where it fits, with what ranks it: spread, soft rules broken, load."""

    host: str
    here: bool  #: the guest runs there
    words: str
    constraint: str = ""  #: partition, closed, capability, pin, vcpus, memory, disk, apart, together; empty: it fits
    rule: str = ""  #: file:line of the rule in the way
    rank: int | None = None  #: 1: what the planner would choose
    load: float | None = None  #: of the host with the guest: the fullest of vCPUs, memory, disk; 1 is full
    spread: int | None = None  #: guests of its partition in that domain already
    soft_broken: int | None = None  #: soft rules that it would break there


def choices(problem: Problem, name: str) -> tuple[Choice, ...]:
    """Every host for one guest, as if it had no host now. Raises KeyError for a guest that there is not."""
    return _choices(Board(problem), problem.guests[name])


def explain(problem: Problem) -> Plan:
    """For each guest of `problem.subjects`; the words are the plan's notes, the data its details by guest."""
    board = Board(problem)
    notes, details = [], {}
    for name in problem.subjects:
        every = _choices(board, problem.guests[name])
        notes += [f"{name} on {one.host}: {one.words}" + (" (it is here)" if one.here else "") for one in every]
        details[name] = [dataclasses.asdict(one) for one in every]
    return Plan(engine="first-fit", notes=tuple(notes), details=details)


def _choices(board: Board, guest: GuestState) -> tuple[Choice, ...]:
    here = board.take(guest) if guest.name in board.where else None
    ranks = {index: rank for rank, index in enumerate(board.candidates(guest), 1)}
    spread = board.rules.spreads.get(guest.partition)
    domains = board.rules.domains(spread.level) if spread else None
    found = []
    for index, host in enumerate(board.hosts):
        obstacle = board.obstacle(guest, index)
        if obstacle is not None:
            words = board.words(guest, index, obstacle)
            found.append(Choice(host.name, index == here, words, *_constraint(obstacle)))
            continue
        load, soft = board.load_with(guest, index), board.rules.soft_cost(guest.name, index)
        words = f"fits, choice {ranks[index]} of {len(ranks)}, then {percent(load, 1)} full"
        words += f", breaks {counted(soft, 'soft rule')}" if soft else ""
        there = board.rules.spread_counts[guest.partition][domains[index]] if domains else None
        found.append(
            Choice(
                host.name, index == here, words, rank=ranks[index], load=round(load, 4), spread=there, soft_broken=soft
            )
        )
    if here is not None:
        board.put(guest, here)
    return tuple(found)


def _constraint(obstacle: Obstacle) -> tuple[str, str]:
    """What kind of constraint it is, and where its rule stands."""
    rule: t.Any = obstacle.detail.rule if isinstance(obstacle.detail, Group) else obstacle.detail
    where = getattr(rule, "where", None)
    place = f"{where.file}:{where.line}" if where else ""
    return (rule.kind if obstacle.kind == "rule" else obstacle.kind), place
