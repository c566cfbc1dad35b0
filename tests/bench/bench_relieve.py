# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves that relieve hosts against the fewest possible: how many guests must leave each host above the threshold.

The bound is counted here anew, by dynamic programming, and not taken from the planner: for each host the fewest of
its guests that free what is too much of every resource. A plan with as many moves is one with the fewest.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import sys
import time
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import conftest

conftest.pytest_configure()

import instances
from ansible_collections.oscarv.virt.plugins.plugin_utils import _planner_relieve as planner
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Plan, Problem

SEEDS = (1, 2, 3)
THRESHOLDS = (0.9, 0.8)
KINDS = ("vcpus", "memory", "disk")


def fewest(problem: Problem, threshold: float) -> int:
    """Guests that must leave, at least: exact for each host, with nothing said of where they go."""
    on: dict[str | None, list[t.Any]] = collections.defaultdict(list)
    for guest in problem.guests.values():
        on[guest.host].append(guest.demand)
    return sum(_fewest_of(on[name], host.capacity, threshold) for name, host in problem.hosts.items())


def _fewest_of(demands: t.Sequence[t.Any], capacity: t.Any, threshold: float) -> int:
    """Guest by guest, the best that can be freed with each number of guests, without what is no better than another."""
    over = [
        max(0.0, sum(getattr(d, kind) for d in demands) - threshold * getattr(capacity, kind) * (1 + 1e-9))
        for kind in KINDS
    ]
    if not any(over):
        return 0
    frees: dict[int, set[tuple[float, ...]]] = {0: {(0.0, 0.0, 0.0)}}
    most = len(demands)
    for demand in demands:
        for count in sorted(frees, reverse=True):
            if count + 1 > most:
                continue
            more = {
                tuple(min(o, f + getattr(demand, kind)) for o, f, kind in zip(over, free, KINDS, strict=True))
                for free in frees[count]
            }
            frees[count + 1] = _best(frees.get(count + 1, set()) | more)
            if tuple(over) in frees[count + 1]:
                most = min(most, count + 1)
    return most


def _best(frees: set[tuple[float, ...]]) -> set[tuple[float, ...]]:
    kept: list[tuple[float, ...]] = []
    for free in sorted(frees, reverse=True):
        if not any(all(a >= b for a, b in zip(other, free, strict=True)) for other in kept):
            kept.append(free)
    return set(kept)


def fullest(problem: Problem, plan: Plan) -> float:
    goes = {move.guest: move.target for move in plan.moves}
    used: dict[tuple[str | None, str], float] = collections.defaultdict(float)
    for guest in problem.guests.values():
        for kind in KINDS:
            used[goes.get(guest.name, guest.host), kind] += getattr(guest.demand, kind)
    return max(used[name, kind] / getattr(h.capacity, kind) for name, h in problem.hosts.items() for kind in KINDS)


def row(hosts: int, guests: int, threshold: float) -> dict[str, t.Any]:
    moves, bounds, seconds, waves = [], [], [], []
    for seed in SEEDS:
        made = instances.cluster(hosts, guests, seed)
        asked = dataclasses.replace(made, verb="relieve", options={"threshold": threshold})
        started = time.process_time()
        plan = planner.relieve(asked)
        seconds.append(round(time.process_time() - started, 3))
        found = complaints(asked, plan)
        assert not found, found[:3]
        assert fullest(asked, plan) <= threshold + 1e-6, plan.notes
        moves.append(len(plan.moves))
        bounds.append(fewest(asked, threshold))
        waves.append(max(move.wave for move in plan.moves))
    ratio = sum(moves) / sum(bounds)
    return {
        "bar": f"relieve {hosts}/{guests} to {threshold:.0%} (moves; peer: certified fewest; {len(SEEDS)} seeds)",
        "ours": sum(moves),
        "peer": sum(bounds),
        "ratio": ratio,
        "goal": "<= 1.05",
        "holds": ratio <= 1.05,
        "seconds": seconds,
        "worst": max(ours / least for ours, least in zip(moves, bounds, strict=True)),
        "waves": waves,
    }


def rows() -> list[dict[str, t.Any]]:
    return [row(*size, threshold) for size in instances.SIZES for threshold in THRESHOLDS]
