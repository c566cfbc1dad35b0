# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of guests: those of one kind like the same hosts, so hosts are sorted once per kind and not once per guest."""

from __future__ import annotations

import dataclasses
import typing as t

from ._balance_score import Demand, Score, amount_of
from ._constraints import Amount

#: Kinds of guests that are told apart; more different sizes than this are grouped by shape and size.
SHAPES, SIZES = 5, 4


@dataclasses.dataclass(frozen=True)
class Kind:
    demand: Demand  #: one that stands for all, as the score counts it
    least: Amount  #: a host with less than this free takes none of them
    hosts: tuple[int, ...]  #: that may take them


def kinds_of(score: Score, movable: t.Sequence[int]) -> tuple[dict[int, int], list[Kind]]:
    """The number of each guest's kind, and the kinds."""
    kind_of: dict[int, int] = {}
    kinds: list[Kind] = []
    choosy: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for guest in movable:
        choosy.setdefault((score.guests[guest].on, score.guests[guest].needs), []).append(guest)
    for (on, needs), guests in sorted(choosy.items()):
        hosts = tuple(
            index
            for index, host in enumerate(score.board.hosts)
            if score.counted[index] and host.partition in on and not any(need in host.lacks for need in needs)
        )
        for group in _alike(score, guests):
            for guest in group:
                kind_of[guest] = len(kinds)
            amounts = [amount_of(score.guests[guest]) for guest in group]
            least = (min(a[0] for a in amounts), min(a[1] for a in amounts), min(a[2] for a in amounts))
            kinds.append(Kind(score.demands[group[len(group) // 2]], least, hosts))
    return kind_of, kinds


def _alike(score: Score, guests: t.Sequence[int]) -> t.Iterator[list[int]]:
    """Guests by demand; where that makes too many groups, by shape (vCPUs to memory) and then by size."""
    exact: dict[Demand, list[int]] = {}
    for guest in guests:
        exact.setdefault(score.demands[guest], []).append(guest)
    if len(exact) <= SHAPES * SIZES:
        yield from (exact[demand] for demand in sorted(exact))
        return
    scale = [max(metric.inverse, default=0.0) for metric in score.metrics]

    def parts(guest: int) -> list[float]:
        return [amount * unit for amount, unit in zip(score.demands[guest], scale, strict=True)]

    def shape(guest: int) -> tuple[float, int]:
        every = parts(guest)
        return (every[0] / (sum(every) or 1.0), guest)

    for slice_ in _slices(sorted(guests, key=shape), SHAPES):
        yield from _slices(sorted(slice_, key=lambda guest: (sum(parts(guest)), guest)), SIZES)


def _slices(items: list[int], number: int) -> t.Iterator[list[int]]:
    for part in range(number):
        piece = items[len(items) * part // number : len(items) * (part + 1) // number]
        if piece:
            yield piece
