# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of a balance measure with: the score from its definition, and brute force; nothing under test."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import statistics
import typing as t

from ansible_collections.oscarv.virt.plugins.plugin_utils._balance_score import WEIGHTS
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Move, Place, Plan, Problem

RACKS = tuple((("rack", f"r{n}"),) for n in range(4))


def ask(asked: Problem, moves: int = 3, **options: t.Any) -> Problem:
    return dataclasses.replace(asked, verb="balance", options={"moves": moves, **options})


def sequence(plan: Plan) -> Plan:
    """One wave per move, in the plan's order: the checker then looks at every moment."""
    return dataclasses.replace(
        plan, moves=tuple(dataclasses.replace(move, wave=n) for n, move in enumerate(plan.moves, 1))
    )


def after(asked: Problem, moves: t.Iterable[tuple[str, str]]) -> dict[str, str]:
    at = {name: state.host for name, state in asked.guests.items() if state.host}
    return {**at, **dict(moves)}


def domain(asked: Problem, name: str, level: str) -> str | None:
    return name if level == "host" else dict(asked.hosts[name].enclosures).get(level)


def true_score(asked: Problem, at: dict[str, str], weights: t.Mapping[str, float] | None = None) -> float:
    """The documented score from its definition; all hosts must be comparable."""
    weights = WEIGHTS if weights is None else weights
    open_hosts = [h for h in asked.hosts.values() if not h.closed and h.capacity is not None]
    total = 0.0
    for kind in ("vcpus", "memory", "disk"):
        fill = []
        for state in open_hosts:
            used = sum(getattr(asked.guests[g].demand, kind) for g, h in at.items() if h == state.name)
            whole = getattr(state.capacity, kind)
            fill.append((used + getattr(state.foreign, kind)) / whole if whole else 0.0)
        if fill:
            total += weights[kind] * statistics.pstdev(fill)
    count = collections.Counter(at.values())
    if open_hosts:
        total += weights["guests"] * statistics.pstdev([count[h.name] for h in open_hosts])
    for rule in asked.cluster.rules:
        weight = weights["soft" if rule.soft else "hard"]
        members = [name for name in rule.guests if name in at]
        if rule.kind == "pin":
            total += weight * sum(at[name] not in rule.hosts for name in members)
            continue
        inside = collections.Counter(domain(asked, at[name], rule.over) for name in members)
        if len(members) > 1:
            known = [number for where, number in inside.items() if where is not None]
            if rule.kind == "apart":
                total += weight * (len(members) - len(known))
            else:
                total += weight * (len(members) - max(known, default=0))
    return total + weights["spread"] * uneven(asked, at)


def uneven(asked: Problem, at: dict[str, str]) -> float:
    """Steps to an even spread of `workers`, soft ones at half weight."""
    spread = asked.cluster.guest_partitions["workers"].spread
    if spread is None or len(at) < 2:
        return 0.0
    names = {p for g in at for p in asked.guests[g].on}
    every = {
        domain(asked, h.name, spread.level)
        for h in asked.hosts.values()
        if h.partition in names and not h.closed and h.capacity is not None
    }
    count = collections.Counter(domain(asked, h, spread.level) for h in at.values())
    numbers = [count[where] for where in every | set(count)]
    best = [len(at) // len(numbers) + (n < len(at) % len(numbers)) for n in range(len(numbers))]
    return (0.5 if spread.soft else 1.0) * (sum(n * n for n in numbers) - sum(n * n for n in best)) / 2


def one_partition(asked: Problem) -> Problem:
    """The problem with all hosts comparable: everything runs in `hosts`."""
    hosts = {n: dataclasses.replace(h, partition="hosts") for n, h in asked.hosts.items()}
    guests = {n: dataclasses.replace(g, on=("hosts",)) for n, g in asked.guests.items()}
    return dataclasses.replace(asked, hosts=hosts, guests=guests)


def feasible_moves(asked: Problem, at: dict[str, str]) -> t.Iterator[tuple[str, str]]:
    """Every single move that the checker accepts, without hosts of which rules do not know the rack."""
    for name, target in itertools.product(at, asked.hosts):
        if at[name] == target or asked.hosts[at[name]].closed or asked.hosts[at[name]].capacity is None:
            continue
        fresh = {**asked.guests, name: dataclasses.replace(asked.guests[name], host=None)}
        placed = Plan(places=(Place(name, target, ""),))  # what it broke where it was is no excuse where it goes
        wrong = complaints(asked, Plan(moves=(Move(name, at[name], target, 1, ""),)))
        if not wrong and not complaints(dataclasses.replace(asked, guests=fresh, verb="balance"), placed):
            if "rack" in dict(asked.hosts[target].enclosures) or not asked.cluster.rules:
                yield name, target


def worse_spread(asked: Problem, before: dict[str, str], now: dict[str, str]) -> bool:
    spread = asked.cluster.guest_partitions["workers"].spread
    return bool(spread and not spread.soft and uneven(asked, now) > uneven(asked, before) + 1e-9)


def best_of(asked: Problem, number: int) -> float:
    """The lowest score that this many moves of different guests can reach, in any order that the checker accepts."""
    start = after(asked, ())
    best = true_score(asked, start)
    for names in itertools.combinations(start, number):
        for targets in itertools.product(asked.hosts, repeat=number):
            steps = tuple(zip(names, targets, strict=True))
            if all(start[name] != target for name, target in steps):
                reached = true_score(asked, after(asked, steps))
                if reached < best - 1e-9 and any(in_turn(asked, order) for order in itertools.permutations(steps)):
                    best = reached
    return best


def in_turn(asked: Problem, steps: t.Iterable[tuple[str, str]]) -> bool:
    moves = [Move(name, asked.guests[name].host or "", target, n, "") for n, (name, target) in enumerate(steps)]
    return not complaints(asked, Plan(moves=tuple(moves)))
