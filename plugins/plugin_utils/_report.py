# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan for people: who goes where and why, who stays and why, and the cluster before and after."""

from __future__ import annotations

import dataclasses
import statistics
import typing as t

from . import _tolerate
from ._constraints import Board
from ._plan import Plan, Problem, Stays
from ._planner_fit import first_homeless
from ._words import counted, listing, natural, percent, size, table

#: Rows that are printed; the plan file has all.
ROWS = 60


def plain_plan(plan: Plan, *, details: int | None = None) -> dict[str, t.Any]:
    """The plan as plain data; `details`: for how many of the guests that stay every host's reason is told."""
    stays = [
        {"guest": stay.guest, "reason": stay.reason}
        | ({"rejected": dict(stay.rejected)} if details is None or number < details else {})
        for number, stay in enumerate(plan.stays)
    ]
    return {
        "places": [dataclasses.asdict(place) for place in plan.places],
        "moves": [dataclasses.asdict(move) for move in plan.moves],
        "stays": stays,
        "engine": plan.engine,
        "notes": list(plan.notes),
        "details": dict(plan.details),
    }


def after(problem: Problem, plan: Plan) -> Problem:
    """The problem's cluster once the plan is carried out."""
    where = {place.guest: place.host for place in plan.places}
    where |= {move.guest: move.target for move in sorted(plan.moves, key=lambda move: move.wave)}
    guests = {
        name: dataclasses.replace(guest, host=where[name]) if name in where else guest
        for name, guest in problem.guests.items()
    }
    return dataclasses.replace(problem, guests=guests)


def summary(problem: Problem) -> dict[str, t.Any]:
    """A cluster in a few numbers; loads are the fullest of vCPUs, memory and disk, 1 is full.

    `load_deviation` is the standard deviation of the hosts' loads: 0 is even.
    """
    board = Board(problem)
    known = [index for index, host in enumerate(board.hosts) if host.capacity is not None]
    used = set(board.where.values())
    loads = {board.hosts[index].name: round(board.load(index), 4) for index in known}
    fullest = max(known, key=board.load, default=None)
    lost = None
    if used and len(board.hosts) > 1:
        everybody = dict.fromkeys([(1, "host")], set(problem.cluster.guest_partitions))
        broken = _tolerate.check(problem, board, first_homeless, everybody).broken
        lost = f"without {' and '.join(broken[0].lost)}, {broken[0].guest} fits nowhere" if broken else ""
    memory = [sum(board.total[index][1] for index in known), sum(board.free[index][1] for index in known)]
    return {
        "guests_placed": len(board.where),
        "guests_unplaced": sum(guest.host is None for guest in problem.guests.values()),
        "hosts": len(board.hosts),
        "hosts_used": len(used),
        "fullest_host": board.hosts[fullest].name if fullest is not None else None,
        "fullest_load": loads[board.hosts[fullest].name] if fullest is not None else None,
        "emptiest_load": min(loads.values(), default=None),
        "load_deviation": round(statistics.pstdev(loads.values()), 4) if loads else None,
        "memory_total": memory[0],
        "memory_used": memory[0] - memory[1],
        "loss_of_any_host": {None: "-", "": "tolerated"}.get(lost, lost),
    }


def summaries(problem: Problem, plan: Plan) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """The cluster in a few numbers before and after the plan."""
    before = summary(problem)
    return before, before if plan.empty else summary(after(problem, plan))


def plan_lines(
    problem: Problem,
    plan: Plan,
    rows: int = ROWS,
    *,
    known: tuple[dict[str, t.Any], dict[str, t.Any]] | None = None,
) -> list[str]:
    """The plan as lines of text: tables of what changes, notes, and the cluster before and after.

    `known`: the `summaries`, if they are there already: in a big cluster they cost more than all the rest.
    """
    lines = [_headline(problem, plan)]
    lines += _tables(plan, rows)
    lines += [f"Note: {note}" for note in plan.notes]
    before, then = known or summaries(problem, plan)
    return [*lines, "", *_cluster_table(before, then, plan.empty)]


def _headline(problem: Problem, plan: Plan) -> str:
    words = [f"{counted(len(plan.places), 'guest')} to place"] if plan.places else []
    words += [f"{counted(len(plan.moves), 'move')}"] if plan.moves else []
    words += [f"{counted(len(plan.stays), 'guest')} without a way"] if plan.stays else []
    return f"Cluster {problem.cluster.name}: " + (", ".join(words) or "every guest has its place, nothing to move")


def _tables(plan: Plan, rows: int) -> list[str]:
    changes = [("", place.guest, "-", place.host, place.reason) for place in plan.places]
    changes += [(str(move.wave), move.guest, move.source, move.target, move.reason) for move in plan.moves]
    lines = table(("WAVE", "GUEST", "FROM", "TO", "WHY"), changes[:rows]) if changes else []
    lines += [f"... and {len(changes) - rows} more"] if len(changes) > rows else []
    alike: dict[tuple[t.Any, ...], list[Stays]] = {}
    for stay in plan.stays:
        alike.setdefault((stay.reason, *stay.rejected.values()), []).append(stay)
    for stays in list(alike.values())[:rows]:
        guests = f"{listing([stay.guest for stay in stays], 8)}"
        lines += [f"{counted(len(stays), 'guest')} without a way: {guests}: {stays[0].reason}", *_rejections(stays[0])]
    return lines + ([f"... and {len(alike) - rows} more reasons"] if len(alike) > rows else [])


def _rejections(stay: Stays, limit: int = 6) -> list[str]:
    """Hosts by reason, the most frequent reason first."""
    hosts: dict[str, list[str]] = {}
    for host, reason in stay.rejected.items():
        hosts.setdefault(reason, []).append(host)
    ordered = sorted(hosts.items(), key=lambda item: (-len(item[1]), natural(item[1][0])))
    return [f"  {listing(names, 3)}: {reason}" for reason, names in ordered[:limit]]


def _cluster_table(before: dict[str, t.Any], then: dict[str, t.Any], same: bool) -> list[str]:
    def column(numbers: dict[str, t.Any]) -> list[str]:
        fullest = numbers["fullest_load"]
        return [
            f"{numbers['guests_placed']} of {numbers['guests_placed'] + numbers['guests_unplaced']}",
            f"{numbers['hosts_used']} of {numbers['hosts']}",
            f"{size(numbers['memory_used'])} of {size(numbers['memory_total'])}",
            "-" if fullest is None else f"{numbers['fullest_host']}, {percent(fullest, 1)}",
            "-" if fullest is None else percent(numbers["emptiest_load"], 1),
            "-" if fullest is None else f"{numbers['load_deviation'] * 100:.1f} %",
            str(numbers["loss_of_any_host"]),
        ]

    names = [
        "guests placed",
        "hosts used",
        "memory used",
        "fullest host",
        "emptiest host",
        "uneven by",
        "loss of any one host",
    ]
    columns = [names, column(before)] if same else [names, column(before), column(then)]
    return table(("CLUSTER", "NOW") if same else ("CLUSTER", "BEFORE", "AFTER"), list(zip(*columns, strict=True)))
