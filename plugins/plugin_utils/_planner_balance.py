# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Better balance for at most K moves. A pure function of the problem.

Options: `moves` (K, default 10), `steps` (bound on the work, default STEPS; some two microseconds each), `weights`
(what counts how much, see `_balance_score.WEIGHTS`), `min_gain` (a move must lower the score by more; default a
hundredth divided by the number of hosts).

The moves come in an order in which they can be done one by one with every hard rule kept while each guest counts on
both ends; all are of wave 1, because what runs at the same time is for another module to say.
"""

from __future__ import annotations

import typing as t

from . import _tolerate
from ._balance_improve import descend, improve
from ._balance_score import RESOURCES, WEIGHTS, Score
from ._balance_search import Search
from ._constraints import Board
from ._plan import Move, Plan, Problem
from ._planner_fit import first_homeless
from ._rules import rule_text
from ._words import counted, percent

ENGINE = "local search"
MOVES = 10
STEPS = 4_000_000


def balance(problem: Problem) -> Plan:
    """At most `moves` moves that lower the score of the cluster, none that gains nothing.

    Raises ValueError for a weight of an unknown name or one below 0, and for negative `moves` or `min_gain`.
    """
    limit, least, weights = _options(problem)
    board = Board(problem)
    score = Score(board, weights)
    movable = [index for index, guest in enumerate(score.guests) if not guest.frozen and score.counted[score.at[index]]]
    before, parts, broken = score.total(), score.parts(), score.rules.broken()
    search = Search(score, movable, int(problem.options.get("steps", STEPS)))
    spreads = search.hard_spreads()
    check_losses = bool(limit and _tolerate.clauses(problem))
    already = _tolerate.check(problem, board, first_homeless).broken if check_losses else ()

    def why_not() -> str:
        """The objection to the board as it is: what holds at the start must hold at the end."""
        if score.total() >= before - least:
            return "it gains nothing"
        if any(now > then for now, then in zip(search.hard_spreads(), spreads, strict=True)):
            return "a spread would be less even"
        if check_losses:
            clauses = {broken.clause for broken in already}
            found = _tolerate.check(problem, board, first_homeless).broken
            return next((str(broken) for broken in found if broken.clause not in clauses), "")
        return ""

    if limit:
        descend(search, limit, least)
        improve(search, limit, least)
    order = _finish(search, least)
    wished = len(order)
    objection = _sound(search, order, least, why_not)
    notes = [_summary(len(order), before, score, parts, broken)]
    notes += [f"broken before and after: {loss}" for loss in already]
    if objection:
        notes.append(f"{counted(wished - len(order), 'move')} left out: {objection}")
    if search.steps <= 0:
        notes.append("the bound of steps was reached: more may find better")
    moves = [_move(search, guest, target) for guest, target in order]
    return Plan(moves=tuple(moves), engine=ENGINE, notes=tuple(notes))


def _options(problem: Problem) -> tuple[int, float, dict[str, float]]:
    given: t.Mapping[str, float] = problem.options.get("weights") or {}
    unknown = sorted(set(given) - set(WEIGHTS))
    if unknown:
        raise ValueError(f"weights: there is no {', '.join(unknown)}; there are {', '.join(WEIGHTS)}")
    if any(weight < 0 for weight in given.values()):
        raise ValueError("weights: none may be below 0")
    limit = int(problem.options.get("moves", MOVES))
    if limit < 0:
        raise ValueError(f"moves: {limit} is less than none")
    least = float(problem.options.get("min_gain", 0.01 / max(1, len(problem.hosts))))
    if least < 0:
        raise ValueError(f"min_gain: {least} is a loss")
    return limit, least, {**WEIGHTS, **given}


# -- what is left after the search ----------------------------------------------------------------------------------


def _finish(search: Search, least: float) -> list[tuple[int, int]]:
    """Moves in an order in which each can be done; moves that cannot or that gain nothing are taken back."""
    while True:
        while _prune(search, least):
            pass
        order, stuck = _in_order(search)  # the stuck are at home now, and the others fit nevertheless
        if not stuck:
            return order


def _prune(search: Search, least: float) -> bool:
    """Take back moves whose loss does not worsen the score; True if there were any."""
    score, taken = search.score, False
    for guest in list(search.moved):
        home = search.home[guest]
        worth = score.change(guest, home)
        if worth <= least and not score.rules.refused(guest, score.at[guest], home) and search.undo(guest):
            taken = True
    return taken


def _in_order(search: Search) -> tuple[list[tuple[int, int]], list[int]]:
    """(guest, target) in an order that can be done from where all are at home; and who cannot move in any."""
    targets = {guest: search.score.at[guest] for guest in search.moved}
    for guest in targets:
        search.move(guest, search.home[guest])
    order: list[tuple[int, int]] = []
    waiting = list(targets)
    while waiting:
        still = []
        for guest in waiting:
            if search.fits(guest, targets[guest]):
                search.move(guest, targets[guest])
                order.append((guest, targets[guest]))
            else:
                still.append(guest)
        if len(still) == len(waiting):
            break
        waiting = still
    return order, waiting


def _sound(search: Search, order: list[tuple[int, int]], least: float, why: t.Callable[[], str]) -> str:
    """Shorten the order until `why` has no objection to where all are then; the first objection, empty if none."""
    first = ""
    while order and (objection := why()):
        first = first or objection
        low, high, kept = 0, len(order), len(order)  # the first `low` moves are good, the first `high` are not
        while kept != low or high - low > 1:
            middle = (low + high) // 2 if high - low > 1 else low
            for guest, _target in reversed(order[middle:kept]):
                search.move(guest, search.home[guest])
            for guest, target in order[kept:middle]:
                search.move(guest, target)
            kept = middle
            if middle > low:
                low, high = (low, middle) if why() else (middle, high)
        order[:] = _finish(search, least)
    return first


# -- words ----------------------------------------------------------------------------------------------------------


def _move(search: Search, guest: int, target: int) -> Move:
    score = search.score
    home = search.home[guest]
    hosts = score.board.hosts
    return Move(score.guests[guest].name, hosts[home].name, hosts[target].name, 1, _reason(search, guest, target))


def _reason(search: Search, guest: int, target: int) -> str:
    """What the move is best for: a rule that it mends, or the resource in which it levels most."""
    score, home = search.score, search.home[guest]
    names = [score.board.hosts[index].name for index in (home, target)]
    for crowd in score.rules.of[guest]:
        here, there = crowd.domains[home], crowd.domains[target]
        if here != there and crowd.change(there, here) > 0:
            if crowd.rule is not None:
                return f"mends {rule_text(crowd.rule)}"
            return f"spread: {score.guests[guest].partition} had too many guests in {here}"
    gains = [
        (
            round(
                metric.value(metric.squares + metric.change(amount, target, home)) - metric.value(metric.squares), 12
            ),
            -number,
        )
        for number, (metric, amount) in enumerate(zip(score.metrics, score.demands[guest], strict=True))
    ]
    if not gains:
        return "levels the hosts"
    number = -max(gains)[1]
    metric, kind = score.metrics[number], score.kinds[number]
    if kind == "guests":
        return f"guests: then {metric.fill[home]:.0f} on {names[0]}, {metric.fill[target]:.0f} on {names[1]}"
    then = [percent(metric.fill[index], 1) for index in (home, target)]
    return f"{kind}: with all moves {names[0]} is {then[0]} full, {names[1]} {then[1]}"


def _summary(
    moves: int, before: float, score: Score, parts: t.Mapping[str, float], broken: t.Mapping[str, float]
) -> str:
    """balance 0.412 to 0.103 (0 is perfect) with 4 moves: vcpus 12.1 % to 3.0 %, ..., rules broken 3 to 0"""
    text = f"balance {before:.4g} to {score.total():.4g} (0 is perfect) with {counted(moves, 'move')}"
    after, mended = score.parts(), score.rules.broken()
    pieces = [
        f"{kind} {parts[kind]:.2f} to {after[kind]:.2f}"
        if kind == "guests"
        else f"{kind} {100 * parts[kind]:.1f} % to {100 * after[kind]:.1f} %"
        for kind in RESOURCES
        if kind in parts
    ]
    pieces += [
        f"{what} {broken[key]:.3g} to {mended[key]:.3g}"
        for key, what in (("rules", "broken rules"), ("spread", "uneven spread"))
        if broken[key] or mended[key]
    ]
    return f"{text}; standard deviation over hosts: {', '.join(pieces)}"
