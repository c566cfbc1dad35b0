# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays a plan and names every constraint that it breaks. Shares no code with the planner, on purpose.

It is the last look before a decision is recorded, and what every test of a planner asks. What was broken before the
plan and is not made worse by it is no complaint.
"""

from __future__ import annotations

import collections
import itertools
import typing as t

from ._model import Rule
from ._plan import Plan, Problem


def complaints(problem: Problem, plan: Plan, *, always_together: bool = False) -> list[str]:
    """What is wrong with the plan, in words; empty: nothing.

    `always_together`: groups that were together stay so after each wave, not only in the end.
    """
    found = list(_answers(problem, plan))
    if found:
        return found  # what follows takes names for granted
    start = {n: guest.host for n, guest in problem.guests.items() if guest.host and guest.host in problem.hosts}
    waves: dict[int, list[tuple[str, str]]] = collections.defaultdict(list)
    for place in plan.places:
        waves[place.wave].append((place.guest, place.host))
    for move in plan.moves:
        waves[move.wave].append((move.guest, move.target))
    arriving = {guest for steps in waves.values() for guest, _host in steps}
    allowed = set(_pairs_apart(problem, {name: {host} for name, host in start.items()}))
    now = dict(start)
    whole = [rule for rule in problem.cluster.rules if not list(_torn(problem, (rule,), start, set(start)))]
    during: dict[str, set[str]] = {name: {host} for name, host in now.items()}
    on: dict[str, set[str]] = collections.defaultdict(set)
    for name, host in now.items():
        on[host].add(name)
    for number in sorted(waves):
        for guest, target in waves[number]:
            found += _entry(problem, plan, guest, target)
            during.setdefault(guest, set()).add(target)
            on[target].add(guest)
        found += [f"wave {number}: {text}" for text in _overfull(problem, on, waves[number])]
        found += [f"wave {number}: {text}" for text in _pairs_apart(problem, during) if text not in allowed]
        for guest, target in waves[number]:
            for left in during[guest] - {target}:
                on[left].discard(guest)
            now[guest], during[guest] = target, {target}
        if always_together and number:
            steps = {guest for guest, _target in waves[number]}
            found += [f"after wave {number}: {text}" for text in _torn(problem, whole, now, steps)]
    return found + list(_torn(problem, problem.cluster.rules, now, arriving))


def _answers(problem: Problem, plan: Plan) -> t.Iterator[str]:
    """Every guest asked about is answered exactly once, with names that exist."""
    answered = collections.Counter(
        [p.guest for p in plan.places] + [m.guest for m in plan.moves] + [s.guest for s in plan.stays]
    )
    for name, times in answered.items():
        if name not in problem.guests:
            yield f"guest {name} does not exist"
        if times > 1 and not _parked(plan, name, times):
            yield f"guest {name} is answered {times} times"
    for name in [p.host for p in plan.places] + [m.target for m in plan.moves]:
        if name not in problem.hosts:
            yield f"host {name} does not exist"
    for place in plan.places:
        if place.guest in problem.guests and problem.guests[place.guest].host is not None:
            yield f"guest {place.guest} is placed but has a host already"
    at: dict[str, str | None] = {name: guest.host for name, guest in problem.guests.items()}
    for move in sorted(plan.moves, key=lambda move: move.wave):
        if move.guest in at and (at[move.guest] != move.source or move.source == move.target):
            yield f"guest {move.guest} is moved from {move.source} to {move.target} but is on {at[move.guest]}"
        at[move.guest] = move.target
    for name, guest in problem.guests.items():
        asked = guest.host is None and not guest.frozen if problem.verb == "place" else False
        asked = asked or (problem.verb == "evacuate" and guest.host in problem.subjects)
        if asked and name not in answered:
            yield f"guest {name} got no answer"


def _parked(plan: Plan, name: str, times: int) -> bool:
    """A guest may be moved twice, in two waves: to where it is parked, and on."""
    waves = {move.wave for move in plan.moves if move.guest == name}
    return times == 2 == len(waves)


def _entry(problem: Problem, plan: Plan, name: str, target: str) -> t.Iterator[str]:
    """What forbids this guest on this host whoever else is there."""
    guest, host = problem.guests[name], problem.hosts[target]
    if guest.frozen:
        yield f"{name} must not be touched: {guest.frozen}"
    if host.partition not in guest.on:
        yield f"{name} may not run in {host.partition} ({target})"
    if host.closed or (problem.verb == "evacuate" and target in problem.subjects):
        yield f"{target} is closed but gets {name}"
    for need in guest.needs:
        if need in host.lacks:
            yield f"{target} cannot do {need}, which {name} needs"
    for rule in problem.cluster.rules:
        if rule.kind == "pin" and not rule.soft and name in rule.guests and target not in rule.hosts:
            yield f"{name} is pinned to {rule.hosts} but goes to {target}"


def _overfull(
    problem: Problem, on: t.Mapping[str, t.Collection[str]], steps: t.Sequence[tuple[str, str]]
) -> t.Iterator[str]:
    """Hosts that get more of something than they have; one that is overfull may still get who needs none of it."""
    arriving: dict[str, list[str]] = collections.defaultdict(list)
    for name, target in steps:
        arriving[target].append(name)
    for target in sorted(arriving):
        state = problem.hosts[target]
        if state.capacity is None:
            yield f"{target} has no known capacity but gets guests"
            continue
        for kind in ("vcpus", "memory", "disk"):
            wished = sum(getattr(problem.guests[name].demand, kind) for name in on[target])
            there = getattr(state.capacity, kind) - getattr(state.foreign, kind)
            more = sum(getattr(problem.guests[name].demand, kind) for name in arriving[target])
            if wished > there + 1e-3 and more > 0:
                yield f"{target}: {kind}: {wished} of {there}"


def _enclosure(problem: Problem, host: str, level: str) -> str | None:
    if level == "host":
        return host
    return dict(reversed(problem.hosts[host].enclosures)).get(level)


def _pairs_apart(problem: Problem, at: t.Mapping[str, set[str]]) -> t.Iterator[str]:
    """Pairs of guests that a hard apart rule forbids in one domain; unknown domains count as the same one."""
    for rule in problem.cluster.rules:
        if rule.kind != "apart" or rule.soft:
            continue
        inside: dict[str | None, set[str]] = collections.defaultdict(set)
        for name in rule.guests:
            for host in at.get(name, ()):
                inside[_enclosure(problem, host, rule.over)].add(name)
        for domain, names in inside.items():
            for one, two in itertools.combinations(sorted(names), 2):
                yield f"{one} and {two} are both in {rule.over} {domain}"


def _torn(problem: Problem, rules: t.Iterable[Rule], at: t.Mapping[str, str], arriving: set[str]) -> t.Iterator[str]:
    """Groups that a hard together rule wants in one domain and that this plan tore, or joined to a torn one."""
    for rule in rules:
        if rule.kind != "together" or rule.soft:
            continue
        domains = {name: _enclosure(problem, at[name], rule.over) for name in rule.guests if name in at}
        if arriving & set(domains) and (len(set(domains.values())) > 1 or None in domains.values()):
            yield f"together over {rule.over}: {sorted(domains.items(), key=str)}"
