# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The board that guests are placed on: what is free, and the first constraint that keeps a guest off a host.

Every constraint is judged here and nowhere else, so placing, evacuating, checking losses and explaining agree.
"""

from __future__ import annotations

import bisect
import dataclasses
import typing as t

from ._model import Resources
from ._plan import GuestState, Problem
from ._rules import Group, RuleBook, rule_text
from ._words import number, size

#: vCPUs are fractions (overcommit 1.5) and are counted in thousandths, so that taking back is exact.
MILLI = 1000
KINDS = ("vcpus", "memory", "disk")
UNKNOWN_CAPACITY = "capacity not known: run oscarv.virt.hostos, or give it in the definition"

Amount = tuple[int, int, int]  #: thousandths of vCPUs, bytes of memory, bytes of disk


def _amount(resources: Resources | None) -> Amount:
    if resources is None:
        return (0, 0, 0)
    return (round(resources.vcpus * MILLI), resources.memory, resources.disk)


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """The first constraint in the way; `words` are made only when somebody reads them."""

    kind: str  #: partition | closed | capability | pin | vcpus | memory | disk | rule
    detail: t.Any = None


class Board:
    """Guests on hosts. Hosts are numbered in the order of the definition."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.hosts = list(problem.hosts.values())
        self.index = {host.name: number for number, host in enumerate(self.hosts)}
        self.closed = [host.closed or ("" if host.capacity else UNKNOWN_CAPACITY) for host in self.hosts]
        self.total = [_amount(host.capacity) for host in self.hosts]
        self.free = [
            [whole - used for whole, used in zip(total, _amount(host.foreign), strict=True)]
            for host, total in zip(self.hosts, self.total, strict=True)
        ]
        self.whole = [max(1, sum(total[kind] for total in self.total)) for kind in range(3)]  #: of all hosts together
        self.rules = RuleBook(problem)
        self.tight = False  #: candidates: the fullest host first instead of the emptiest
        self._amounts: dict[str, Amount] = {}
        self.where: dict[str, int] = {}
        self._lanes: dict[tuple[tuple[str, ...], str | None], dict[str | None, list[tuple[float, int]]]] = {}
        self._lanes_of: list[list[list[tuple[float, int]]]] = [[] for _host in self.hosts]
        for guest in problem.guests.values():
            index = self.index.get(guest.host) if guest.host is not None else None
            if index is not None:
                self.where[guest.name] = index
                self.rules.put(guest, index)
                vcpus, memory, disk = self.amount(guest)
                free = self.free[index]
                free[0] -= vcpus
                free[1] -= memory
                free[2] -= disk
        self._loads = [self.load(index) for index in range(len(self.hosts))]

    # -- what is where ------------------------------------------------------------------------------------------

    def amount(self, guest: GuestState) -> Amount:
        """What a guest of this problem needs, in whole numbers; worked out once."""
        found = self._amounts.get(guest.name)
        if found is None:
            found = self._amounts[guest.name] = _amount(guest.demand)
        return found

    def put(self, guest: GuestState, index: int) -> None:
        self.where[guest.name] = index
        self.rules.put(guest, index)
        self._use(index, self.amount(guest), -1)

    def take(self, guest: GuestState, *, ghost: bool = False) -> int:
        """Take a guest away and return where it was."""
        index = self.where.pop(guest.name)
        self.rules.take(guest, index, ghost=ghost)
        self._use(index, self.amount(guest), 1)
        return index

    def _use(self, index: int, amount: Amount, sign: int) -> None:
        vcpus, memory, disk = amount
        free = self.free[index]
        free[0] += sign * vcpus
        free[1] += sign * memory
        free[2] += sign * disk
        before, after = self._loads[index], self.load(index)
        self._loads[index] = after
        for lane in self._lanes_of[index]:
            del lane[bisect.bisect_left(lane, (before, index))]
            bisect.insort(lane, (after, index))

    def load(self, index: int) -> float:
        """The fullest of vCPUs, memory and disk: 0 is empty, 1 is full."""
        (vcpus, memory, disk), (all_vcpus, all_memory, all_disk) = self.free[index], self.total[index]
        best = 1 - memory / all_memory if all_memory > 0 else None  # written out: this is asked most of all
        if all_vcpus > 0 and (best is None or 1 - vcpus / all_vcpus > best):
            best = 1 - vcpus / all_vcpus
        if all_disk > 0 and (best is None or 1 - disk / all_disk > best):
            best = 1 - disk / all_disk
        return 1.0 if best is None else best

    def load_with(self, guest: GuestState, index: int) -> float:
        """The load after one more guest."""
        parts = zip(self.free[index], self.amount(guest), self.total[index], strict=True)
        return max((1 - (free - wish) / total for free, wish, total in parts if total > 0), default=1.0)

    # -- whether one more fits ----------------------------------------------------------------------------------

    def obstacle(self, guest: GuestState, index: int) -> Obstacle | None:
        """The first hard constraint that keeps the guest off the host; None: it fits."""
        return self.forbidden(guest, index) or self._shortage(guest, index) or self._group(guest.name, index)

    def forbidden(self, guest: GuestState, index: int) -> Obstacle | None:
        """The first hard constraint that keeps the guest off the host whoever else is there."""
        host = self.hosts[index]
        if host.partition not in guest.on:
            return Obstacle("partition")
        if self.closed[index]:
            return Obstacle("closed")
        for need in guest.needs:
            if need in host.lacks:
                return Obstacle("capability", need)
        for rule in self.rules.pins.get(guest.name, ()):
            if host.name not in rule.hosts:
                return Obstacle("pin", rule)
        return None

    def _shortage(self, guest: GuestState, index: int) -> Obstacle | None:
        for kind, wish, free in zip(KINDS, self.amount(guest), self.free[index], strict=True):
            if wish > free and wish:
                return Obstacle(kind, wish)
        return None

    def _group(self, guest: str, index: int) -> Obstacle | None:
        for group in self.rules.hard.get(guest, ()):
            if group.broken_by(guest, index):
                return Obstacle("rule", group)
        return None

    def words(self, guest: GuestState, index: int, obstacle: Obstacle) -> str:
        """An obstacle as a person reads it; call it before the board changes."""
        host, kind, detail = self.hosts[index], obstacle.kind, obstacle.detail
        if kind == "partition":
            return f"is in {host.partition}; the guest may run on {', '.join(guest.on) or 'no host partition'}"
        if kind == "closed":
            return self.closed[index]
        if kind == "capability":
            return f"cannot do {detail}: {host.lacks[detail]}"
        if kind == "pin":
            return f"is not among the hosts of {rule_text(detail)}"
        if isinstance(detail, Group):
            return detail.words(guest.name, index)
        free = self.free[index][KINDS.index(kind)]
        if kind == "vcpus":
            return f"vcpus: needs {number(detail / MILLI)}, {number(max(free, 0) / MILLI)} free"
        return f"{kind}: needs {size(detail)}, {size(max(free, 0))} free"

    def rejected(self, guest: GuestState) -> dict[str, str]:
        """For each host the first constraint in the way, in words."""
        reasons = {}
        for index, host in enumerate(self.hosts):
            obstacle = self.obstacle(guest, index)
            reasons[host.name] = (
                self.words(guest, index, obstacle) if obstacle else "fits alone, but not with its group"
            )
        return reasons

    # -- the order in which hosts are tried -----------------------------------------------------------------------

    def candidates(self, guest: GuestState) -> t.Iterator[int]:
        """Hosts that fit, best first: even spread, then fewest soft rules broken, then the emptiest (`tight`: fullest).

        The caller may stop at any time; after the board changes the iterator is worthless.
        """
        name = guest.name
        if name in self.rules.soft or name in self.rules.soft_pins:
            yield from self._ranked(guest)
            return
        for lane in self._ordered_lanes(guest):
            for _load, index in reversed(lane) if self.tight else lane:
                if self.obstacle(guest, index) is None:
                    yield index

    def _ranked(self, guest: GuestState) -> list[int]:
        spread = self.rules.spreads.get(guest.partition)
        domains = self.rules.domains(spread.level) if spread else None
        counts = self.rules.spread_counts[guest.partition]

        def rank(index: int) -> tuple[float, ...]:
            even = counts[domains[index]] if domains else 0
            cost = self.rules.soft_cost(guest.name, index)
            first = (cost, even) if spread and spread.soft else (even, cost)
            return (*first, -self._loads[index] if self.tight else self._loads[index], index)

        fitting = [index for index in range(len(self.hosts)) if self.obstacle(guest, index) is None]
        return sorted(fitting, key=rank)

    def _ordered_lanes(self, guest: GuestState) -> list[list[tuple[float, int]]]:
        """Copies of the lanes in the order of the spread counts, so that the board may change meanwhile."""
        spread = self.rules.spreads.get(guest.partition)
        lanes = self._lanes_for(guest.on, spread.level if spread else None)
        if spread is None:
            return list(lanes.values())
        counts = self.rules.spread_counts[guest.partition]
        order = sorted(lanes, key=lambda domain: (counts.get(domain, 0), lanes[domain][0], str(domain)))
        return [lanes[domain] for domain in order]

    def _lanes_for(self, on: tuple[str, ...], level: str | None) -> dict[str | None, list[tuple[float, int]]]:
        """Open hosts of these partitions by domain, each list sorted by load and kept so by `_use`."""
        key = (on, level)
        if key not in self._lanes:
            domains = self.rules.domains(level) if level else None
            lanes: dict[str | None, list[tuple[float, int]]] = {}
            for index, host in enumerate(self.hosts):
                if host.partition in on and not host.closed and host.capacity is not None:
                    lanes.setdefault(domains[index] if domains else None, []).append((self._loads[index], index))
            for lane in lanes.values():
                lane.sort()
                for _load, index in lane:
                    self._lanes_of[index].append(lane)
            self._lanes[key] = lanes
        return self._lanes[key]
