# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make_room: true`: who fits nowhere gets a place by moving others, with few moves, and a bound on the fewest."""

from __future__ import annotations

import dataclasses
import typing as t

from . import _planner_room_exact as exact
from . import _tolerate
from ._constraints import Board
from ._plan import GuestState, Place, Plan, Problem, Stays
from ._planner_eject import Ejector
from ._planner_fit import first_homeless, place_all
from ._planner_room_bound import least_moves
from ._planner_waves import waves
from ._words import counted, listing, percent

#: Looks for another host, for all guests together, before the search gives up.
STEPS = 200_000
MOVES_PER_HOST = 2


@dataclasses.dataclass(frozen=True)
class Room:
    """Who got a place and who moved for it. `bound`: at least so many must; None: nothing places them all."""

    places: t.Mapping[str, int]  #: guest without a place -> host number
    moved: t.Mapping[str, int]  #: guest that had one -> its new host number
    stays: tuple[Stays, ...]
    bound: int | None
    engine: str


def make_room(
    board: Board,
    homeless: t.Sequence[GuestState],
    *,
    steps: int = STEPS,
    solver: bool = True,
    good: t.Callable[[], bool] | None = None,
) -> Room:
    """Put the homeless on the board, moving others where nothing else helps; the board is as the answer says.

    First without any move; then ejections, from one host and then over two; then, where highspy is there, an exact
    model over the hosts nearest to the matter. With `good` (losses tolerated, ...) they come one by one, and
    it is asked before a place is kept.
    """
    where: dict[str, int] = {}
    stays = [Stays(guest.name, "no HostOS fits within what must be tolerated") for guest in homeless]
    if good is None:
        stays, where = _without_moves(board, homeless)
        if not stays:
            return Room(where, {}, (), 0, "first-fit")
    for name in where:
        board.take(board.problem.guests[name])
    bound, home = least_moves(board, homeless), dict(board.where)
    for name, index in where.items():
        board.put(board.problem.guests[name], index)
    ejector, engine = Ejector(board, steps), "ejection"
    ejector.home = home  # the homeless that found a place already may change it: that is no move
    left = sorted((stay.guest for stay in stays), key=lambda name: (-board.amount(ejector.guests[name])[1], name))
    for depth in (1, 2):
        for name in list(left):
            mark = ejector.mark()
            if _tied(board, name) or not ejector.place(name, depth):
                continue
            if good is not None and not good():
                ejector.undo(mark)
                continue
            left.remove(name)
    mark = ejector.mark()
    ejector.go_home()
    if solver and (left or (bound is not None and ejector.moves > bound)) and exact.available():
        if exact.improve(ejector, [guest.name for guest in homeless]):
            engine = "ejection, highspy"
        if bound is not None and ejector.moves > bound:
            model = exact.least(ejector, [guest.name for guest in homeless])
            if model > bound:
                bound, engine = model, "ejection, highspy"
    if good is not None and ejector.mark() > mark and not good():
        ejector.undo(mark)
    reasons = {stay.guest: stay.reason for stay in stays}
    still = [
        Stays(
            guest.name,
            f"{reasons.get(guest.name, 'no HostOS fits')}; moving others made no room for it",
            board.rejected(guest),
        )
        for guest in homeless
        if guest.name not in board.where
    ]
    places = {guest.name: board.where[guest.name] for guest in homeless if guest.name in board.where}
    return Room(places, ejector.moved, tuple(still), bound, engine)


def _tied(board: Board, name: str) -> bool:
    """Whether the guest must be together with others: such a group is placed as a whole or not at all."""
    return any(not group.apart and len(group.rule.guests) > 1 for group in board.rules.hard.get(name, ()))


def _without_moves(board: Board, homeless: t.Sequence[GuestState]) -> tuple[list[Stays], dict[str, int]]:
    """Place on the emptiest hosts, or, where that leaves more without a place, on the fullest."""
    attempts: list[tuple[list[Stays], dict[str, int]]] = []
    for tight in (False, True):
        board.tight = tight
        placed, stays = place_all(board, homeless)
        attempts.append((stays, {name: index for name, (index, _reason) in placed.items()}))
        if not stays:
            break
        for name in placed:
            board.take(board.problem.guests[name])
    board.tight = False
    best = min(attempts, key=lambda attempt: len(attempt[0]))
    if best[0]:
        for name, index in best[1].items():
            board.put(board.problem.guests[name], index)
    return best


# -- the plan -------------------------------------------------------------------------------------------------------


def with_room(problem: Problem, plain: Plan) -> Plan:
    """The plan of `place` where `make_room` is true. `plain` is the plan without it: its stays are what is to do.

    Under `tolerate` its places are kept and nothing is moved that breaks a clause that held before. Options:
    moves_per_host (2), moves_total (unlimited), solver (true: highspy may be used).
    """
    fits_nowhere = {stay.guest for stay in plain.stays if stay.rejected}
    if not fits_nowhere:
        return plain
    kept = {place.guest: place.host for place in plain.places} if _tolerate.clauses(problem) else {}
    problem = moved_to(problem, kept)
    wanted = fits_nowhere | ({place.guest for place in plain.places} - set(kept))
    refused: dict[str, Stays] = {stay.guest: stay for stay in plain.stays if stay.guest not in fits_nowhere}
    while True:
        board = Board(problem)
        homeless = [guest for guest in problem.guests.values() if guest.name in wanted]
        room = make_room(board, homeless, solver=bool(problem.options.get("solver", True)), good=_good(problem, board))
        answer = _ordered(problem, board, room, plain)
        if isinstance(answer, Plan):
            break
        refused.update(answer)
        wanted -= set(answer)
    stays = sorted([*answer.stays, *refused.values()], key=lambda stay: stay.guest)
    places = sorted([*answer.places, *(p for p in plain.places if p.guest in kept)], key=lambda place: place.guest)
    return dataclasses.replace(
        answer, places=tuple(places), stays=tuple(stays), notes=(*plain.notes, *_notes(room, answer))
    )


def moved_to(problem: Problem, where: t.Mapping[str, str]) -> Problem:
    """The same problem with these guests on these hosts."""
    guests = {n: dataclasses.replace(g, host=where[n]) if n in where else g for n, g in problem.guests.items()}
    return dataclasses.replace(problem, guests=guests)


def _good(problem: Problem, board: Board) -> t.Callable[[], bool] | None:
    """Whether every loss that was tolerated before still is."""
    if not _tolerate.clauses(problem):
        return None

    def broken() -> set[tuple[int, str]]:
        return {found.clause for found in _tolerate.check(problem, board, first_homeless).broken}

    before = broken()
    return lambda: broken() <= before


def _ordered(problem: Problem, board: Board, room: Room, plain: Plan) -> Plan | dict[str, Stays]:
    """The moves in waves and the places after those that make their room; or who must do without."""
    names = [host.name for host in board.hosts]
    touched = set(room.moved.values()) | {board.index[str(problem.guests[name].host)] for name in room.moved}
    partners = {name for mover in room.moved for group in board.rules.hard.get(mover, ()) for name in group.rule.guests}
    early = {n: index for n, index in room.places.items() if index not in touched and n not in partners}
    running = moved_to(problem, {name: names[index] for name, index in early.items()})
    schedule = waves(
        running,
        {name: names[index] for name, index in room.moved.items()},
        moves_per_host=int(problem.options.get("moves_per_host", MOVES_PER_HOST)),
        moves_total=problem.options.get("moves_total"),
        reasons=_move_reasons(problem, room),
    )
    after = Board(moved_to(running, {move.guest: move.target for move in schedule.moves}))
    last_on: dict[str, int] = {}
    last_of: dict[str, int] = {}
    for move in schedule.moves:
        last_on[move.source] = last_on[move.target] = move.wave
        last_of.update(dict.fromkeys(_partners(board, move.guest), move.wave))
    places, homeless = [], {}
    was = {place.guest: place for place in plain.places}
    for name, index in room.places.items():
        guest, wave = problem.guests[name], 0
        if name not in early:
            if after.obstacle(guest, index) is not None:
                why = f"moving others would make room on {names[index]}, but no order of these moves keeps the rules"
                homeless[name] = Stays(name, why, after.rejected(guest))
                continue
            after.put(guest, index)
            wave = max(last_on.get(names[index], 0), last_of.get(name, 0))
            wave += wave > 0
        reason = was[name].reason if name in was and was[name].host == names[index] else ""
        reason = reason or ("others make room for it" if wave else "the smallest gap that fits")
        places.append(Place(name, names[index], f"{reason}, then {percent(board.load(index), 1)} full", wave))
    if homeless:
        return homeless
    return Plan(places=tuple(places), moves=schedule.moves, stays=room.stays, engine=room.engine)


def _partners(board: Board, name: str) -> t.Iterator[str]:
    return (other for group in board.rules.hard.get(name, ()) for other in group.rule.guests)


def _move_reasons(problem: Problem, room: Room) -> dict[str, str]:
    """For whom each mover makes room."""
    on: dict[str, list[str]] = {}
    board_names = list(problem.hosts)
    for name, index in room.places.items():
        on.setdefault(board_names[index], []).append(name)
    return {
        name: f"makes room on {source} for {listing(on[source], 3)}" if source in on else f"makes room on {source}"
        for name in room.moved
        for source in [str(problem.guests[name].host)]
    }


def _notes(room: Room, plan: Plan) -> t.Iterator[str]:
    moves = len({move.guest for move in plan.moves})
    if room.bound is None:
        yield "no moves of other guests make room for all of them: there is not enough of a kind for their sizes"
    elif moves:
        least = "which is the fewest possible" if room.bound == moves else f"at least {room.bound} must move"
        yield f"{counted(moves, 'guest')} moved to make room for others; {least}"
        parked = len(plan.moves) - moves
        if parked:
            yield f"{counted(parked, 'guest')} parked on the way"
