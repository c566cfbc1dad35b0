# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One try at relieving hosts, host by host, on a board of its own."""

from __future__ import annotations

import collections
import dataclasses
import math
import random
import typing as t

from ._constraints import KINDS, MILLI, Board
from ._plan import GuestState
from ._planner_covers import Unit, covers, least
from ._planner_fit import bundles
from ._rules import HOST
from ._words import counted, listing

#: Sets of guests tried for one host and one number of guests, and how many guests more than the fewest are tried.
SETS, MORE = 100, 3
#: Sets for which other guests are asked to give way, and hosts on which one is asked for.
GIVING_SETS, GIVING_HOSTS = 5, 60
#: How often the emptiest host is chosen when dice choose.
EMPTIEST = 0.6
#: Loads are fractions in floating point; what is above by less is not above.
SLACK = 1e-9


@dataclasses.dataclass(frozen=True)
class Step:
    guest: str
    source: int
    target: int
    wave: int
    room_for: str = ""  #: the guest for which this one gives way


class Relief:
    """Moves for one order of the hosts. Targets are the emptiest hosts; with `dice` now and then the fullest ones.

    When the steps (hosts looked at for a guest) are used up, what is not relieved fails.
    """

    def __init__(self, board: Board, threshold: float, steps: int, dice: random.Random | None = None) -> None:
        self.board, self.steps, self.dice = board, steps, dice
        # what must stay free of each resource; none of one that the host does not have, as in Board.load
        self.keep = [
            [whole - math.floor(whole * threshold + SLACK * whole) if whole > 0 else None for whole in total]
            for total in board.total
        ]
        self.moves: list[Step] = []
        self.bounds: dict[int, int] = {}  #: fewest guests that must leave, by host
        self.failed: dict[int, str] = {}
        self.left_in: dict[int, int] = {}  #: last wave in which a guest leaves, by host
        self.over: set[int] = set()
        self.gone: set[str] = set()  #: guests that are moved: never twice
        rules = [rule for rule in board.problem.cluster.rules if rule.over == HOST]
        self.groups: dict[int, list[set[str]]] = collections.defaultdict(list)
        for group in bundles(rules, board.where):
            self.groups[board.where[min(group)]].append(group)

    @property
    def rank(self) -> tuple[int, int]:
        return (len(self.failed), len(self.moves))

    def run(self, over: t.Sequence[int]) -> None:
        self.over = set(over)
        for host in over:
            why = self._relieve(host)
            if why:
                self.failed[host] = why

    def _relieve(self, host: int) -> str:
        """Why it is not possible; empty: it is done."""
        self.bounds[host] = 0
        if self.board.closed[host]:
            return f"it {self.board.closed[host]}; evacuate it instead"
        free, keep = self.board.free[host], self.keep[host]
        excess = [wish - there if wish is not None else 0 for wish, there in zip(keep, free, strict=True)]
        if max(excess) <= 0:
            return ""
        units = self._units(host)
        cost = least(units, excess)
        if cost is None:
            return "what may not be moved from it is too much alone"
        found = covers(units, excess, cost, SETS)
        while not found.sets and found.complete and cost < sum(unit.cost for unit in units):
            cost += 1
            found = covers(units, excess, cost, SETS)
        self.bounds[host] = cost
        placeable = self._placeable(units, host)
        for sets, limit, give in ((placeable, SETS, False), (units, GIVING_SETS, True)):
            for more in range(MORE + 1):
                for chosen in self._shuffled(covers(sets, excess, cost + more, SETS).sets)[:limit]:
                    if self.steps < 0:
                        break
                    if self._move_all(chosen, host, give):
                        return ""
        return self._why_not(next(iter(found.sets), ()), host)

    def _placeable(self, units: t.Sequence[Unit], host: int) -> list[Unit]:
        """Units that some host could take now; there will never be more while the host is being relieved."""
        known: dict[t.Hashable, bool] = {}
        for unit in units:
            if unit.alike not in known:
                done, waves = len(self.moves), dict(self.left_in)
                known[unit.alike] = self._move(unit, host)
                self._undo(done, waves)
        return [unit for unit in units if known[unit.alike]]

    def _shuffled(self, sets: t.Sequence[tuple[Unit, ...]]) -> list[tuple[Unit, ...]]:
        if self.dice is None:
            return list(sets)
        ranks = [number * self.dice.random() for number in range(len(sets))]
        return [sets[number] for number in sorted(range(len(sets)), key=lambda number: ranks[number])]

    def _units(self, host: int) -> list[Unit]:
        """Who may leave: each guest alone, or those who must be together on a host."""
        return [unit for group in self.groups[host] if (unit := self._unit(group, host)) is not None]

    def _unit(self, group: set[str], host: int) -> Unit | None:
        states = [self.board.problem.guests[name] for name in sorted(group)]
        if any(guest.frozen or guest.name in self.gone or self.board.where[guest.name] != host for guest in states):
            return None
        first = states[0]
        names = tuple(guest.name for guest in states)
        equal = len(states) == 1 and not self.board.rules.bound(first.name)
        alike = (first.demand, first.on, first.needs, first.partition) if equal else names
        return Unit(names, _amount(states), alike)

    def _move_all(self, chosen: t.Sequence[Unit], host: int, give: bool) -> bool:
        """Move all of them, or none."""
        done = len(self.moves)
        waves = dict(self.left_in)
        for unit in sorted(chosen, key=lambda unit: (-sum(unit.demand[1:]), unit.guests)):
            if not (self._move(unit, host) or (give and self._give_way(unit, host))):
                self._undo(done, waves)
                return False
        return True

    def _undo(self, done: int, waves: dict[int, int]) -> None:
        for step in reversed(self.moves[done:]):
            guest = self.board.problem.guests[step.guest]
            self.board.take(guest)
            self.board.put(guest, step.source)
            self.gone.discard(step.guest)
        del self.moves[done:]
        self.left_in = waves

    def _move(self, unit: Unit, host: int, room_for: str = "", target: int | None = None) -> bool:
        """Move the unit to the host of choice, or to `target`, if it may go there."""
        guests = [self.board.problem.guests[name] for name in unit.guests]
        for guest in guests:
            self.board.take(guest, ghost=True)
        if target is None:
            target = self._target(unit, guests, host)
        elif self._refused(unit, guests, host, target):
            target = None
        if target is None:
            for guest in guests:
                self.board.put(guest, host)
            return False
        wave = 1 + self.left_in.get(target, 0)
        self.left_in[host] = max(wave, self.left_in.get(host, 0))
        for guest in guests:
            self.board.put(guest, target)
            self.gone.add(guest.name)
            self.moves.append(Step(guest.name, host, target, wave, room_for))
        return True

    def _target(self, unit: Unit, guests: t.Sequence[GuestState], host: int) -> int | None:
        """The best host that takes a unit which is off the board."""
        order = list(self.board.candidates(guests[0])) if len(guests) > 1 else self.board.candidates(guests[0])
        fitting = (index for index in order if not self._refused(unit, guests, host, index))
        if self.dice is None or self.dice.random() < EMPTIEST:
            return next(fitting, None)
        return max(fitting, key=lambda index: (self.board.load(index), -index), default=None)

    def _room(self, unit: Unit, index: int) -> bool:
        """Whether the host stays under the threshold with it."""
        parts = zip(self.board.free[index], unit.demand, self.keep[index], strict=True)
        return all(there - wish >= keep for there, wish, keep in parts if keep is not None)

    def _refused(self, unit: Unit, guests: t.Sequence[GuestState], host: int, index: int) -> bool:
        """Whether a rule or the threshold keeps a unit off a host; it is off the board."""
        self.steps -= 1
        if index == host or not self._room(unit, index):
            return True
        if len(guests) == 1:
            return self.board.obstacle(guests[0], index) is not None or not self._even(guests[0], host, index)
        there: list[GuestState] = []
        for guest in guests:
            if self.board.obstacle(guest, index) is not None or not self._even(guest, host, index):
                break
            self.board.put(guest, index)
            there.append(guest)
        for guest in there:
            self.board.take(guest)
        return len(there) < len(guests)

    def _even(self, guest: GuestState, host: int, index: int) -> bool:
        """Whether a hard spread is as even as before; the guest is off the board."""
        spread = self.board.rules.spreads.get(guest.partition)
        if spread is None or spread.soft:
            return True
        domains = self.board.rules.domains(spread.level)
        counts = self.board.rules.spread_counts[guest.partition]
        return domains[host] == domains[index] or counts[domains[index]] <= counts[domains[host]]

    def _give_way(self, unit: Unit, host: int) -> bool:
        """Let one other guest leave a host so that the unit has room there."""
        hosts = sorted((i for i in range(len(self.board.hosts)) if i not in self.over), key=self.board.load)
        guest = self.board.problem.guests[unit.guests[0]]
        tried = 0
        for index in hosts:
            obstacle = self.board.obstacle(guest, index)
            if obstacle is not None and obstacle.kind not in (*KINDS, "rule"):
                continue
            tried += 1
            if tried > GIVING_HOSTS or self.steps < 0:
                return False
            done, waves = len(self.moves), dict(self.left_in)
            for other in sorted(self._units(index), key=lambda other: (sum(other.demand[1:]), other.guests)):
                room = zip(self.board.free[index], unit.demand, other.demand, self.keep[index], strict=True)
                if other.cost > 1 or any(k is not None and f - u + o < k for f, u, o, k in room):
                    continue
                if self._move(other, index, room_for=unit.guests[0]):
                    if self._move(unit, host, target=index):
                        return True
                    self._undo(done, waves)
        return False

    def _why_not(self, chosen: t.Sequence[Unit], host: int) -> str:
        """What keeps the first of a set of guests that would be enough off the other hosts."""
        kinds: collections.Counter[str] = collections.Counter()
        for unit in sorted(chosen, key=lambda unit: -sum(unit.demand[1:]))[:1]:
            guest = self.board.problem.guests[unit.guests[0]]
            self.board.take(guest)
            for index in range(len(self.board.hosts)):
                obstacle = self.board.obstacle(guest, index)
                if index != host:
                    kinds[obstacle.kind if obstacle else "threshold"] += 1
            self.board.put(guest, host)
            reasons = [f"{kind} ({counted(count, 'host')})" for kind, count in kinds.most_common()]
            return f"{unit.guests[0]} would have to leave and no HostOS takes it: {listing(reasons)}"
        return "no set of guests was found that is enough"


def _amount(states: t.Sequence[GuestState]) -> tuple[int, int, int]:
    return (
        sum(round(guest.demand.vcpus * MILLI) for guest in states),
        sum(guest.demand.memory for guest in states),
        sum(guest.demand.disk for guest in states),
    )
