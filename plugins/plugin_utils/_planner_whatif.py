# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What if: these hosts or racks are lost, so many hosts are added, how many more guests of a partition fit.

The question is turned into a supposed problem, which is planned as any other; nothing of it is recorded.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

from . import _tolerate
from ._constraints import Board
from ._model import Resources
from ._plan import GuestState, HostState, Place, Plan, Problem, Stays
from ._planner_fit import first_homeless, place_all
from ._planner_room import with_room
from ._words import counted, listing, size

LOST = "is supposed to be lost"


def supposed(problem: Problem) -> Problem:
    """The problem as it would be: what `lose` names is closed and its guests have no host, what `add` wants is there.

    This is what the answer's plan is a plan for, and what a checker must be asked about. Raises ValueError where
    `lose` or `add` name what there is not.
    """
    hosts = dict(problem.hosts)
    lost = _lost(problem)
    for name in lost:
        hosts[name] = dataclasses.replace(hosts[name], closed=LOST)
    for host in _added(problem):
        hosts[host.name] = host
    guests = {
        name: dataclasses.replace(guest, host=None, frozen="") if guest.host in lost else guest
        for name, guest in problem.guests.items()
        if guest.host not in lost or guest.on  # who left the definition needs no other host
    }
    return dataclasses.replace(problem, hosts=hosts, guests=guests, verb="place", subjects=())


def what_if(problem: Problem) -> Plan:
    """Options: lose: [HOST or ENCLOSURE], add: {count: N, like: HOST}, fit: PARTITION, make_room: true.

    Guests without a host are placed first, those of lost hosts among them; `fit` counts on top of that. The numbers
    are in `details`. Raises ValueError for names that there are not.
    """
    options, asked = problem.options, supposed(problem)
    board = Board(asked)
    homeless = [guest for guest in asked.guests.values() if guest.host is None and not guest.frozen]
    placed, stays = _place(board, homeless)
    plan = Plan(
        places=tuple(Place(name, board.hosts[index].name, why) for name, (index, why) in sorted(placed.items())),
        stays=tuple(sorted(stays, key=lambda stay: stay.guest)),
    )
    if options.get("make_room") and stays:
        plan = with_room(asked, plan)
    notes = list(_headline(problem, asked, plan))
    details: dict[str, t.Any] = {"lost": sorted(_lost(problem)), "added": [host.name for host in _added(problem)]}
    if options.get("fit"):
        words, details["fit"] = _fit(asked, plan, str(options["fit"]))
        notes.append(words)
    return dataclasses.replace(plan, notes=(*notes, *plan.notes), details=details)


def _place(board: Board, homeless: t.Sequence[GuestState]) -> tuple[dict[str, tuple[int, str]], list[Stays]]:
    """On the emptiest hosts, or on the fullest where that leaves fewer without a place."""
    placed, stays = place_all(board, homeless)
    if not stays:
        return placed, stays
    other = Board(board.problem)
    other.tight = True
    tight, fewer = place_all(other, homeless)
    return (tight, fewer) if len(fewer) < len(stays) else (placed, stays)


def _lost(problem: Problem) -> set[str]:
    found = set()
    for wish in problem.options.get("lose") or ():
        inside = {name for name, host in problem.hosts.items() if wish in (name, *(e for _level, e in host.enclosures))}
        if not inside:
            raise ValueError(f"lose: there is no HostOS or enclosure {wish} in cluster {problem.cluster.name}")
        found |= inside
    return found


def _added(problem: Problem) -> list[HostState]:
    wish = problem.options.get("add") or {}
    if not wish:
        return []
    count, like = int(wish.get("count", 1)), str(wish.get("like", ""))
    if like not in problem.hosts or count < 1:
        raise ValueError(f"add: expected count: N, like: HOST; there is no HostOS {like!r} or {count} is not 1 or more")
    model = dataclasses.replace(problem.hosts[like], closed="", foreign=Resources(0, 0, 0))
    return [dataclasses.replace(model, name=f"{like}+{number}") for number in range(1, count + 1)]


def _headline(problem: Problem, asked: Problem, plan: Plan) -> t.Iterator[str]:
    lost, added = _lost(problem), _added(problem)
    if lost:
        hit = {name for name, guest in problem.guests.items() if guest.host in lost and guest.on}
        left = hit & {stay.guest for stay in plan.stays}
        yield (
            f"without {listing(sorted(lost))}: {counted(len(hit), 'guest')} lose their host, "
            f"{len(hit) - len(left)} find another"
        )
    if added:
        yield f"with {counted(len(added), 'host')} like {problem.options['add']['like']} more"


# -- how many more ----------------------------------------------------------------------------------------------------


def _fit(asked: Problem, plan: Plan, partition: str) -> tuple[str, dict[str, t.Any]]:
    """How many more guests like most of the partition's fit, and what then stops the next."""
    kinds = collections.Counter(
        (guest.demand, guest.on, guest.needs) for guest in asked.guests.values() if guest.partition == partition
    )
    if not kinds:
        raise ValueError(f"fit: no guest of a partition {partition!r} is there to take the size from")
    (demand, on, needs), _times = kinds.most_common(1)[0]
    where = {place.guest: place.host for place in plan.places} | {move.guest: move.target for move in plan.moves}
    guests = {n: dataclasses.replace(g, host=where.get(n, g.host)) for n, g in asked.guests.items()}
    board = Board(dataclasses.replace(asked, guests=guests))
    one = GuestState(f"{partition}+1", partition, demand, on, needs=needs)
    each = [_room(board, one, index) for index in range(len(board.hosts))]
    most, stopped = sum(each), {}
    names = [f"{partition}+{number}" for number in range(1, most + 2)]
    new = {name: dataclasses.replace(one, name=name) for name in names}
    board = Board(dataclasses.replace(asked, guests={**guests, **new}))
    clauses = {c: p for c, p in _tolerate.clauses(asked).items() if partition in p}
    count = most
    broken = ""
    if clauses and most:
        count, broken = _tolerated(board, [new[name] for name in names[:-1]], clauses)
    else:
        for index, amount in enumerate(each):
            for _number in range(amount):
                board.put(new[names.pop()], index)
    last = new[names[-1]]
    if broken:
        reason = broken
    else:
        stopped = board.rejected(last)
        reasons = collections.Counter(re.split(r": | \(", words)[0] for words in stopped.values())
        ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        reason = "no HostOS fits: " + listing([f"{why} ({counted(times, 'host')})" for why, times in ranked], 3)
    sizes = f"{counted(int(demand.vcpus), 'vCPU')}, {size(demand.memory)} memory, {size(demand.disk)} disk each"
    words = f"{counted(count, 'more guest')} of {partition} ({sizes}) fit; then: {reason}"
    details = {"partition": partition, "count": count, "stopped_by": reason, "rejected": dict(stopped)}
    return words, {**details, "without_tolerate": most}


def _room(board: Board, guest: GuestState, index: int) -> int:
    """How many equal guests under no rule this host takes: whole numbers, so the count is exact."""
    if board.forbidden(guest, index) is not None:
        return 0
    parts = zip(board.free[index], board.amount(guest), strict=True)
    return min((max(0, free) // wish for free, wish in parts if wish), default=0)


def _tolerated(
    board: Board, new: t.Sequence[GuestState], clauses: t.Mapping[tuple[int, str], t.Collection[str]]
) -> tuple[int, str]:
    """How many of these may come, on the emptiest hosts, until a tolerated loss is one no more; and which."""

    def broken() -> str:
        found = _tolerate.check(board.problem, board, first_homeless, clauses).broken
        return str(found[0]) if found else ""

    low, high, why = -1, len(new) + 1, ""
    on_board = 0
    while high - low > 1:
        middle = (low + high) // 2 if low >= 0 else 0
        while on_board > min(middle, len(new)):
            on_board -= 1
            board.take(new[on_board])
        while on_board < min(middle, len(new)):
            index = next(board.candidates(new[on_board]), None)
            if index is None:
                break
            board.put(new[on_board], index)
            on_board += 1
        words = broken() if on_board == middle else "no HostOS fits"
        if words:
            high, why = middle, words
        else:
            low = middle
    return max(low, 0), why
