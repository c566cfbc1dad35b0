# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether guests that lost their hosts can be placed at all: by search, or by a proof that they cannot.

Nobody else is moved for them. What neither is found nor refuted within the steps stays unknown.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._constraints import KINDS, MILLI, Board
from ._plan import GuestState
from ._planner_fit import bundles
from ._words import counted, number, size

#: Nodes of the search for one loss.
STEPS = 300


@dataclasses.dataclass(frozen=True)
class Refusal:
    """No way was found. `proof`: why there is none; empty: there may be one beyond the search."""

    guest: str
    proof: str


def impossible(board: Board, homeless: t.Sequence[GuestState]) -> Refusal | None:
    """A proof that these cannot all be placed on the board as it is, by counting; None: none was found."""
    alone: dict[tuple[t.Any, ...], bool] = {}
    for guest in homeless:
        bound = board.rules.bound(guest.name)
        key = (guest.name,) if bound else (guest.on, board.amount(guest), guest.needs)
        if key not in alone:
            alone[key] = any(board.obstacle(guest, index) is None for index in range(len(board.hosts)))
        if not alone[key]:
            return Refusal(guest.name, "no host that is left takes it")
    open_to = [
        index
        for index in range(len(board.hosts))
        if not board.closed[index] and any(board.hosts[index].partition in guest.on for guest in homeless)
    ]
    for kind, name in enumerate(KINDS):
        needed = sum(board.amount(guest)[kind] for guest in homeless)
        free = sum(max(0, board.free[index][kind]) for index in open_to)
        if needed > free:
            biggest = max(homeless, key=lambda guest: (board.amount(guest)[kind], guest.name))
            return Refusal(biggest.name, f"{name}: they need {_words(kind, needed)}, {_words(kind, free)} are free")
    return _slots(board, homeless, open_to)


def _slots(board: Board, homeless: t.Sequence[GuestState], open_to: t.Sequence[int]) -> Refusal | None:
    """More guests of at least a size than the hosts have gaps of that size."""
    for kind in (1, 0, 2):
        name = KINDS[kind]
        for least in sorted({board.amount(guest)[kind] for guest in homeless} - {0}, reverse=True):
            big = [guest for guest in homeless if board.amount(guest)[kind] >= least]
            smallest = [min(board.amount(guest)[k] for guest in big) for k in range(3)]
            slots = sum(
                min(max(0, free) // wish for free, wish in zip(board.free[index], smallest, strict=True) if wish)
                for index in open_to
            )
            if len(big) > slots:
                words = f"{counted(len(big), 'guest')} of {_words(kind, least)} {name} or more, room for {slots}"
                return Refusal(big[-1].name, words)
    return None


def _words(kind: int, amount: int) -> str:
    return number(amount / MILLI) if kind == 0 else size(amount)


def search(board: Board, homeless: t.Sequence[GuestState], steps: int = STEPS) -> Refusal | None:
    """Depth first over all ways to place these, tight hosts first; None: they are on the board.

    Guests that must be together are not searched for. The board is unchanged where a Refusal comes back.
    """
    if any(len(group) > 1 for group in bundles(board.problem.cluster.rules, [guest.name for guest in homeless])):
        return Refusal(homeless[0].name, "")
    order = sorted(homeless, key=lambda guest: (*(-amount for amount in _by_memory(board, guest)), guest.name))
    alike = not any(board.rules.bound(guest.name) for guest in order)
    left = steps
    deepest = 0

    def run(depth: int) -> bool:
        nonlocal left, deepest
        if depth == len(order):
            return True
        deepest = max(deepest, depth)
        guest = order[depth]
        seen: set[t.Any] = set()
        fitting = [index for index in range(len(board.hosts)) if board.obstacle(guest, index) is None]
        for index in sorted(fitting, key=lambda index: (board.free[index][1], index)):
            host = board.hosts[index]
            state = (*board.free[index], host.partition, tuple(sorted(host.lacks))) if alike else index
            if state in seen:
                continue  # the same as a host that was tried
            seen.add(state)
            left -= 1
            if left < 0:
                return False
            board.put(guest, index)
            if run(depth + 1):
                return True
            board.take(guest)
        return False

    if run(0):
        return None
    proof = "" if left < 0 else "every way to place them was tried"
    return Refusal(order[deepest].name, proof)


def _by_memory(board: Board, guest: GuestState) -> tuple[int, int, int]:
    vcpus, memory, disk = board.amount(guest)
    return memory, vcpus, disk
