# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `consolidate` may decide: who stays where it is, and the others as flavours of guests and kinds of hosts."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ._constraints import Board
from ._model import Resources
from ._plan import GuestState
from ._planner_fit import bundles
from ._planner_packing import Amount, Flavour, Kind, Packing
from ._planner_seats import Item
from ._rules import HOST
from ._words import listing

NOTHING = Resources(0, 0, 0)
#: Obstacles that depend on the guest and the host alone, not on who else is there.
ALONE = ("partition", "closed", "capability", "pin")

Admission = tuple[t.Any, ...]  #: what decides whom a host may take at all


def used(board: Board, scope: t.Sequence[int]) -> set[int]:
    """Hosts that cannot be switched off: with guests, or with foreign use."""
    foreign = {i for i in scope if board.hosts[i].foreign != NOTHING}
    return foreign | set(board.where.values()).intersection(scope)


def staying(board: Board, scope: t.Collection[int]) -> dict[str, str]:
    """Guests that stay where they are, and why."""
    why: dict[str, str] = {}
    for name, index in list(board.where.items()):
        if index not in scope:
            continue
        guest = board.problem.guests[name]
        spread = board.rules.spreads.get(guest.partition)
        if guest.frozen:
            why[name] = guest.frozen
        elif board.closed[index]:
            why[name] = f"its host {board.closed[index]}"
        elif spread and spread.level == HOST and not spread.soft:
            why[name] = "its partition is spread over hosts"
        else:
            board.take(guest)
            obstacle = board.obstacle(guest, index)
            if obstacle is not None:
                why[name] = f"{board.hosts[index].name} {board.words(guest, index, obstacle)}"
            board.put(guest, index)
    return why


@dataclasses.dataclass(frozen=True)
class Task:
    """The decision to make: what is in `items` may move, what it may use is in `hosts` by kind."""

    packing: Packing
    items: tuple[Item, ...]
    hosts: tuple[tuple[int, ...], ...]  #: host numbers by kind


def task(board: Board, scope: t.Sequence[int], stay: t.Collection[str]) -> Task:
    """Take the movable guests off the board and say what is to be decided."""
    groups = [sorted(group) for group in _groups(board, set(scope), stay)]
    homes = [board.where[group[0]] for group in groups]
    guests = board.problem.guests
    keys = [_admission(board, [guests[name] for name in group]) for group in groups]
    example = dict(zip(keys, groups, strict=True))
    admits = {key: _admits(board, scope, [guests[name] for name in group]) for key, group in example.items()}
    bound = [any(board.rules.hard.get(name) for name in group) for group in groups]
    demands = [_taken(board, [guests[name] for name in group], home) for group, home in zip(groups, homes, strict=True)]
    flavours = sorted(set(zip(demands, keys, strict=True)), key=repr)
    number = {flavour: index for index, flavour in enumerate(flavours)}
    items = tuple(
        Item(tuple(group), demand, number[demand, key], home, tied)
        for group, demand, key, home, tied in zip(groups, demands, keys, homes, bound, strict=True)
    )
    counts = collections.Counter(item.flavour for item in items)
    made = [Flavour(demand, counts[index]) for index, (demand, _key) in enumerate(flavours)]
    by_key: dict[Admission, set[int]] = collections.defaultdict(set)
    for index, (_demand, key) in enumerate(flavours):
        by_key[key].add(index)
    needed = used(board, scope)
    kinds: dict[tuple[Amount, frozenset[Admission], bool], list[int]] = collections.defaultdict(list)
    for host in scope:
        takes = frozenset(key for key, hosts in admits.items() if host in hosts)
        if takes:
            vcpus, memory, disk = board.free[host]
            kinds[(vcpus, memory, disk), takes, host in needed].append(host)
    packing = Packing(
        tuple(
            Kind(room, len(hosts), frozenset().union(*(by_key[key] for key in takes)), is_needed)
            for (room, takes, is_needed), hosts in kinds.items()
        ),
        tuple(made),
    )
    return Task(packing, items, tuple(map(tuple, kinds.values())))


def _groups(board: Board, scope: set[int], stay: t.Collection[str]) -> list[set[str]]:
    """Movable guests; those that must be together on a host as one, and none of them if one must stay."""
    rules = [rule for rule in board.problem.cluster.rules if rule.over == HOST]
    here = [name for name, index in board.where.items() if index in scope]
    return [group for group in bundles(rules, here) if not group.intersection(stay)]


def _admission(board: Board, guests: t.Sequence[GuestState]) -> Admission:
    """Equal for groups of guests that the same hosts may take."""
    return tuple(sorted({(g.on, g.needs, _pinned(board, g), _enclosures(board, g)) for g in guests}, key=repr))


def _pinned(board: Board, guest: GuestState) -> tuple[tuple[str, ...], ...]:
    return tuple(sorted(rule.hosts for rule in board.rules.pins.get(guest.name, ())))


def _enclosures(board: Board, guest: GuestState) -> tuple[tuple[str, str | None], ...]:
    """(level, enclosure) that the guest keeps, because a hard spread or together rule looks at that level."""
    spread = board.rules.spreads.get(guest.partition)
    levels = {group.rule.over for group in board.rules.hard.get(guest.name, ()) if not group.apart}
    if spread and not spread.soft:
        levels.add(spread.level)
    home = board.where[guest.name]
    return tuple((level, board.rules.domains(level)[home]) for level in sorted(levels - {HOST}))


def _admits(board: Board, scope: t.Sequence[int], guests: t.Sequence[GuestState]) -> set[int]:
    """The hosts that may take these guests, whoever else is there."""
    keeps = {pair for guest in guests for pair in _enclosures(board, guest)}
    found = set()
    for host in scope:
        obstacles = (board.obstacle(guest, host) for guest in guests)
        if any(obstacle is not None and obstacle.kind in ALONE for obstacle in obstacles):
            continue
        if all(board.rules.domains(level)[host] == domain for level, domain in keeps):
            found.add(host)
    return found


def _taken(board: Board, guests: t.Sequence[GuestState], home: int) -> Amount:
    """Take the guests off the board and return what that frees."""
    before = list(board.free[home])
    for guest in guests:
        board.take(guest)
    vcpus, memory, disk = (now - then for now, then in zip(board.free[home], before, strict=True))
    return (vcpus, memory, disk)


def why_notes(why: t.Mapping[str, str]) -> list[str]:
    """One line for each reason to stay."""
    by_reason: dict[str, list[str]] = collections.defaultdict(list)
    for name, reason in sorted(why.items()):
        by_reason[reason].append(name)
    return [f"stays where it is: {listing(names, 3)}: {reason}" for reason, names in sorted(by_reason.items())]
