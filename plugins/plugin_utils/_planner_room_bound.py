# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bound on the fewest moves that make room: no answer that places all of these guests has fewer.

A host that takes x of the homeless takes at least the x smallest amounts of each kind, and what it then lacks must
leave it, the biggest first. The cheapest way to hand out all homeless under these costs, as fractions, is the bound.
"""

from __future__ import annotations

import bisect
import itertools
import math
import typing as t

from ._constraints import Board
from ._plan import GuestState

#: Hosts times guests beyond which no bound is worked out.
WORK = 400_000
#: Sizes of guests from which on the bound is tried: small guests fit anywhere and would hide the big ones.
SIZES = 8


def least_moves(board: Board, homeless: t.Sequence[GuestState]) -> int | None:
    """At least so many guests must move for all homeless to fit; None: no moves are enough. The homeless are off it."""
    residents: list[list[GuestState]] = [[] for _host in board.hosts]
    for name, index in board.where.items():
        if not board.problem.guests[name].frozen:
            residents[index].append(board.problem.guests[name])
    leaving = [
        [
            [0, *itertools.accumulate(sorted((board.amount(guest)[kind] for guest in there), reverse=True))]
            for kind in range(3)
        ]
        for there in residents
    ]
    best = 0
    for kind in (1, 0, 2):
        sizes = sorted({board.amount(guest)[kind] for guest in homeless}, reverse=True)
        for size in sizes[:: max(1, len(sizes) // SIZES)]:
            big = [guest for guest in homeless if board.amount(guest)[kind] >= size]
            if len(big) * len(board.hosts) > WORK:
                continue
            found = _least(board, big, leaving)
            if found is None:
                return None
            best = max(best, found)
    return best


def _least(board: Board, homeless: t.Sequence[GuestState], leaving: t.Sequence[t.Sequence[list[int]]]) -> int | None:
    wishes = [[0, *itertools.accumulate(sorted(board.amount(guest)[kind] for guest in homeless))] for kind in range(3)]
    slopes: list[tuple[float, int]] = []
    for index, leave in enumerate(leaving):
        if any(board.forbidden(guest, index) is None for guest in homeless):
            slopes += _hull(_costs(board, index, wishes, leave))
    left, cost = len(homeless), 0.0
    for slope, length in sorted(slopes):
        take = min(left, length)
        cost += slope * take
        left -= take
    return None if left else math.ceil(cost - 1e-6)


def _costs(board: Board, index: int, wishes: t.Sequence[t.Sequence[int]], leave: t.Sequence[list[int]]) -> list[int]:
    """For x = 0, 1, ... homeless on this host: how many must leave; ends where all leaving is not enough."""
    costs = [0]
    for count in range(1, len(wishes[0])):
        most = 0
        for wish, free, gone in zip(wishes, board.free[index], leave, strict=True):
            if wish[count]:
                most = max(most, bisect.bisect_left(gone, wish[count] - free))
        if most >= len(leave[0]):
            break
        costs.append(most)
    return costs


def _hull(costs: t.Sequence[int]) -> list[tuple[float, int]]:
    """The lower convex hull of the costs as (slope, length)."""
    corners = [(0, 0)]
    for x, cost in enumerate(costs[1:], 1):
        while len(corners) > 1:
            (x1, c1), (x2, c2) = corners[-2:]
            if (c2 - c1) * (x - x2) < (cost - c2) * (x2 - x1):
                break
            corners.pop()
        corners.append((x, cost))
    return [((c2 - c1) / (x2 - x1), x2 - x1) for (x1, c1), (x2, c2) in itertools.pairwise(corners)]
