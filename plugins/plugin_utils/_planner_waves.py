# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of moves: waves that run one after the other, each keeping every rule while all its moves are under way.

Given is who goes where; sought are few waves. Each wave takes what it can: first guests whose place others wait for,
then the hosts with most left to do. Where nothing can start any more (a cycle: each waits for the other's place),
guests are parked on a third host, one of each host and each guest at most once. So it always ends: a wave starts a
move towards a target, or parks a guest for the only time.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import typing as t

from ._constraints import Board
from ._plan import GuestState, Move, Problem, Stays
from ._planner_floor import Floor
from ._planner_units import Unit, forbidden, least_waves, too_wide, units
from ._rules import rule_text
from ._words import listing


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Moves in their order, and who of those asked for cannot be moved. `bound`: no schedule has fewer waves."""

    moves: tuple[Move, ...] = ()
    stays: tuple[Stays, ...] = ()
    bound: int = 0

    @property
    def waves(self) -> int:
        return max((move.wave for move in self.moves), default=0)

    @property
    def parked(self) -> tuple[str, ...]:
        """Guests that are moved twice."""
        counts = collections.Counter(move.guest for move in self.moves)
        return tuple(sorted(name for name, count in counts.items() if count > 1))


def waves(
    problem: Problem,
    targets: t.Mapping[str, str],
    *,
    moves_per_host: int,
    moves_total: int | None = None,
    reasons: t.Mapping[str, str] | None = None,
) -> Schedule:
    """Order the moves of `targets` (guest -> HostOS). A host takes part in at most `moves_per_host` at a time.

    Guests that a `together` rule ties move in one wave. Raises ValueError for a name that is not in the problem, a
    guest without a host, or a limit below 1.
    """
    if moves_per_host < 1 or (moves_total is not None and moves_total < 1):
        raise ValueError("moves_per_host and moves_total must be 1 or more")
    for name, target in targets.items():
        if name not in problem.guests or problem.guests[name].host not in problem.hosts or target not in problem.hosts:
            raise ValueError(f"guest {name} cannot be moved to {target}: one of them is not there")
    board = Board(problem)
    wanted = {
        name: board.index[target] for name, target in sorted(targets.items()) if problem.guests[name].host != target
    }
    stays: dict[str, Stays] = {}
    for again in itertools.count():
        _refuse(stays, wanted, forbidden(board, wanted))
        tied = units(board, wanted)
        _refuse(stays, wanted, too_wide(board, tied, moves_per_host, moves_total))
        tied = [unit for unit in tied if all(guest.name in wanted for guest, _index in unit)]
        run = _best(board, tied, moves_per_host, moves_total, PATIENCE if again < RETRIES else PATIENCE[:1])
        floor, left = run.floor, run.left
        undone = _undone(board, floor, wanted, left)
        if not undone:
            break
        _refuse(stays, wanted, undone)
    stays.update({stay.guest: stay for stay in _leftovers(board, floor, left)})
    why = reasons or {}
    done = tuple(
        Move(
            name,
            board.hosts[source].name,
            board.hosts[target].name,
            wave,
            why.get(name, "") if target == wanted[name] else f"parked: on the way to {board.hosts[wanted[name]].name}",
        )
        for wave, name, source, target in run.steps
    )
    bound = least_waves(board, {name: wanted[name] for _wave, name, *_ends in run.steps}, moves_per_host, moves_total)
    return Schedule(done, tuple(sorted(stays.values(), key=lambda stay: stay.guest)), bound)


def _refuse(stays: dict[str, Stays], wanted: dict[str, int], new: t.Iterable[Stays]) -> None:
    for stay in new:
        stays[stay.guest] = stay
        wanted.pop(stay.guest, None)


# -- what a schedule left -------------------------------------------------------------------------------------------


def _undone(board: Board, floor: Floor, wanted: t.Mapping[str, int], left: t.Sequence[Unit]) -> list[Stays]:
    """After a schedule that did not do all: whose moves must not even begin, because they would end halfway."""
    stuck = {guest.name: index for unit in left for guest, index in unit}
    halfway = [name for name in stuck if floor.at[name] != board.where[name]]
    if halfway:
        return [Stays(name, f"{board.hosts[stuck[name]].name} never gets room for it") for name in halfway]
    if not stuck:
        return []
    done = {name: index for name, index in wanted.items() if name not in stuck}
    return forbidden(board, done)


def _leftovers(board: Board, floor: Floor, left: t.Iterable[Unit]) -> t.Iterator[Stays]:
    for unit in left:
        for guest, index in unit:
            host = board.hosts[index].name
            obstacle = floor.obstacle(guest, index)
            why = _words(board, floor, guest, index) if obstacle else "its group cannot come along"
            if len(unit) > 1 and obstacle is None:
                why = f"{listing([other.name for other, _index in unit if other is not guest])} cannot come along"
            yield Stays(guest.name, f"no order of the moves gives it a place on {host}: {why}", {host: why})


def _words(board: Board, floor: Floor, guest: GuestState, index: int) -> str:
    obstacle = floor.obstacle(guest, index)
    if obstacle is None:
        return ""
    if obstacle.kind == "rule":
        return rule_text(obstacle.detail.rule)
    was, board.free[index] = board.free[index], floor.free[index]
    text = board.words(guest, index, obstacle)
    board.free[index] = was
    return text


# -- the waves ------------------------------------------------------------------------------------------------------

#: Part of a schedule's bound that is close enough to stop looking for a better one.
CLOSE = 1.25
#: Who waits is parked where a wave would move less than one of so many that are left; the first parks in need only.
PATIENCE = (10**9, 20, 10)

#: Schedules begun again without who would have ended halfway, before only the quick ways are tried.
RETRIES = 3

Step = tuple[int, str, int, int]  #: wave, guest, source, target


def _best(
    board: Board, units: list[Unit], per_host: int, total: int | None, patience_of: t.Sequence[int] = PATIENCE
) -> _Run:
    """The attempt that leaves least undone, then with few waves, then with few moves.

    Which guests go first decides much on full clusters, and so does how soon one parks instead of waiting; so several
    ways are tried until one is close to the bound.
    """
    goal = {guest.name: index for unit in units for guest, index in unit}
    close = math.ceil(CLOSE * least_waves(board, goal, per_host, total))
    attempts: list[tuple[tuple[int, ...], _Run]] = []
    for patience in patience_of:
        for prefer in ("busy", "big", "small"):
            run = _Run(board, units, per_host, total, prefer, patience)
            run.all()
            attempts.append(((len(run.left), max(run.waves, close), len(run.steps), run.waves), run))
            if not run.left and run.waves <= close:
                return min(attempts, key=lambda attempt: attempt[0])[1]
    return min(attempts, key=lambda attempt: attempt[0])[1]


class _Run:
    """One attempt at a schedule."""

    def __init__(
        self, board: Board, units: list[Unit], per_host: int, total: int | None, prefer: str, patience: int
    ) -> None:
        self.board = board
        self.floor = Floor(board, per_host, total)
        self.left = list(units)
        self.steps: list[Step] = []
        self.prefer = prefer
        self.patience = patience
        self.waves = 0
        self.parked: set[str] = set()

    def all(self) -> None:
        wave = 1
        while self.left:
            started = set()
            for unit in sorted(self.left, key=self._key()):
                if self.floor.start(unit):
                    started.add(id(unit))
            few = len(started) * self.patience < len(self.left)
            self.left = [unit for unit in self.left if id(unit) not in started]
            if few and self.left and not self._park(only_useful=bool(started)) and not started:
                return
            self.steps += [(wave, *ends) for ends in self.floor.finish()]
            self.waves = wave
            wave += 1

    def _key(self) -> t.Callable[[Unit], tuple[t.Any, ...]]:
        ends: dict[int, int] = {}
        for unit in self.left:
            for guest, target in unit:
                for index in (self.floor.at[guest.name], target):
                    ends[index] = ends.get(index, 0) + 1

        waited_for = {
            target for unit in self.left for guest, target in unit if self.floor.obstacle(guest, target) is not None
        }

        def weight(unit: Unit) -> int:
            return max(self.board.amount(guest)[1] for guest, _target in unit)

        def key(unit: Unit) -> tuple[t.Any, ...]:
            both = [ends[index] for guest, target in unit for index in (self.floor.at[guest.name], target)]
            blocks = any(self.floor.at[guest.name] in waited_for for guest, _target in unit)
            busy = (-max(both), -sum(both))
            if self.prefer == "busy":
                return (not blocks, *busy, -weight(unit), unit[0][0].name)
            if self.prefer == "big":
                return (not blocks, -weight(unit), *busy, unit[0][0].name)
            return (not blocks, weight(unit), *busy, unit[0][0].name)

        return key

    # -- parking ----------------------------------------------------------------------------------------------------

    def _park(self, *, only_useful: bool) -> bool:
        """Start guests towards a third host, small ones whose place is enough for who waits for it; else any one."""
        waiting: dict[int, list[GuestState]] = {}
        for unit in self.left:
            for guest, target in unit:
                waiting.setdefault(target, []).append(guest)
        choices = []
        for unit in self.left:
            guest, target = unit[0]
            if len(unit) > 1 or guest.name in self.parked:
                continue
            others = waiting.get(self.floor.at[guest.name], ())
            frees = sum(self._frees(guest, other) for other in others)
            size = self.board.amount(guest)[1]
            choices.append((not frees, not others, size if frees else -size, guest.name, guest, target))
        sources: set[int] = set()
        for useless, _wanted, _size, name, guest, target in sorted(choices, key=lambda choice: choice[:4]):
            here = self.floor.at[guest.name]
            if here in sources or (useless and (sources or only_useful)):
                continue
            for index in self._spots(guest, target, waiting):
                if self.floor.start([(guest, index)]):
                    self.parked.add(name)
                    sources.add(here)
                    break
        return bool(sources)

    def _frees(self, leaves: GuestState, waits: GuestState) -> bool:
        """Whether the place of the one, once it is gone, is enough for the other."""
        free = self.floor.free[self.floor.at[leaves.name]]
        parts = zip(free, self.board.amount(leaves), self.board.amount(waits), strict=True)
        return all(wish <= have + more or not wish for have, more, wish in parts)

    def _spots(self, guest: GuestState, target: int, waiting: t.Mapping[int, t.Any]) -> list[int]:
        """Hosts where the guest may be parked: those that nobody waits for first, then the one with most memory."""
        board, here = self.board, self.floor.at[guest.name]
        together = [group for group in board.rules.hard.get(guest.name, ()) if not group.apart]
        found = [
            index
            for index in range(len(board.hosts))
            if index not in (here, target)
            and self.floor.obstacle(guest, index) is None
            and board.forbidden(guest, index) is None
            and all(group.domains[index] == group.domains[here] for group in together)
        ]
        return sorted(found, key=lambda index: (index in waiting, -self.floor.free[index][1], index))
