# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many moves for a balance: the best one again and again, then exchanges, then taking some back and choosing anew."""

from __future__ import annotations

import random
import typing as t

from ._balance_search import Search

#: Rounds of taking back and choosing anew without success before giving up, and more of them per move.
FEW, PER_MOVE = 100, 10
#: Hosts at each end of the order by load between which exchanges of two guests are tried.
ENDS = 8
#: Part of the rounds that try an exchange, and of those that do not take the very best but by chance another.
EXCHANGE, NOISY = 0.3, 0.5


class Exchange(t.NamedTuple):
    change: float
    one: int
    other: int


def descend(search: Search, limit: int, least: float) -> None:
    """Do the best move until `limit` guests are away from home or nothing gains more than `least` per move."""
    fresh = False
    while search.steps > 0 and len(search.moved) < limit:
        choice = search.best(least)
        if choice is not None:
            search.move(choice.guest, choice.target)
        elif not fresh:
            search.refresh()
        elif not _exchange(search, limit, least, _pairs(search)):
            return
        fresh = choice is None


def improve(search: Search, limit: int, least: float, seed: int = 1) -> None:
    """Take a few moves back and choose anew, keep what is better; until steps or ideas run out."""
    chance = random.Random(seed)
    idle = 0
    while search.steps > 0 and search.moved and idle < FEW + PER_MOVE * len(search.moved):
        search.steps -= len(search.moved) + ENDS
        idle += 1
        before, spreads = search.score.total(), search.hard_spreads()
        where = {guest: search.score.at[guest] for guest in search.moved}
        taken = [guest for guest in _victims(search, chance) if search.undo(guest)]
        tabu = set(taken[:1]) if chance.random() < 0.5 else set()
        noise = (lambda: 0.4 + 0.6 * chance.random()) if chance.random() < NOISY else None
        if chance.random() < EXCHANGE:
            _exchange(search, limit, least, [chance.choice(_pairs(search) or [(0, 0)])])
        for _step in range(len(taken) + limit - len(search.moved)):
            choice = search.best(least, tabu, noise) if len(search.moved) < limit else None
            if choice is None:
                break
            search.move(choice.guest, choice.target)
        now = search.score.total()
        if now > before - (1e-12 if len(search.moved) >= len(where) else -1e-12) or any(
            later > earlier for earlier, later in zip(spreads, search.hard_spreads(), strict=True)
        ):
            search.restore(where)
        elif now < before - 1e-9:
            idle = 0


def _victims(search: Search, chance: random.Random) -> list[int]:
    """One to four moves, half of the time such that share a host."""
    moved = list(search.moved)
    first = chance.choice(moved)
    number = chance.choice((1, 1, 2, 2, 3, 4)) - 1
    others = [guest for guest in moved if guest != first]
    if chance.random() < 0.5:
        ends = {search.home[first], search.score.at[first]}
        others = [guest for guest in others if search.home[guest] in ends or search.score.at[guest] in ends]
    return [first, *chance.sample(others, min(number, len(others)))]


# -- exchanges ------------------------------------------------------------------------------------------------------


def _pairs(search: Search) -> list[tuple[int, int]]:
    """Pairs of a loaded and an idle host that can exchange guests."""
    score = search.score
    load = {host: score.pressure(host) for host, yes in enumerate(score.counted) if yes}
    order = sorted(load, key=lambda host: (-load[host], host))
    search.steps -= len(order)
    return [(full, idle) for full in order[:ENDS] for idle in order[-ENDS:] if load[full] > load[idle] and full != idle]


def _exchange(search: Search, limit: int, least: float, pairs: t.Sequence[tuple[int, int]]) -> bool:
    """Do the exchange of two guests that gains most, more than `least` for each of them; whether there was one."""
    found: Exchange | None = None
    for full, idle in pairs:
        for one in sorted(search.on_host[full]):
            for other in sorted(search.on_host[idle]):
                search.steps -= 1
                change = _change(search, one, other)
                if change < -2 * least and (found is None or change < found.change):
                    if _newcomers(search, one, other) <= limit and _fit(search, one, other):
                        found = Exchange(change, one, other)
    if found is None:
        return False
    one, other = found.one, found.other
    here, there = search.score.at[one], search.score.at[other]
    search.move(one, there)
    search.move(other, here)
    return True


def _newcomers(search: Search, one: int, other: int) -> int:
    """How many guests are away from home after the exchange."""
    at, home = search.score.at, search.home
    after = (at[other] != home[one]) + (at[one] != home[other])
    return len(search.moved) - (one in search.moved) - (other in search.moved) + after


def _change(search: Search, one: int, other: int) -> float:
    """By how much the score grows if the two change places."""
    score = search.score
    here, there = score.at[one], score.at[other]
    growth = 0.0
    for metric, out, back in zip(score.metrics, score.demands[one], score.demands[other], strict=True):
        if out != back:
            squares = metric.squares
            growth += metric.value(squares + metric.change(out - back, here, there)) - metric.value(squares)
    return growth + score.rules.exchange(one, other, here, there)


def _fit(search: Search, one: int, other: int) -> bool:
    """Whether one of the two can go first, the other after it, and no spread becomes less even."""
    here, there = search.score.at[one], search.score.at[other]
    if search.score.rules.exchange_refused(one, other, here, there):
        return False
    return any(
        _one_by_one(search, first, second, to, back)
        for first, second, to, back in ((one, other, there, here), (other, one, here, there))
    )


def _one_by_one(search: Search, first: int, second: int, to: int, back: int) -> bool:
    board, guests = search.score.board, search.score.guests
    if not search.fits(first, to):
        return False
    board.take(guests[first])
    board.put(guests[first], to)
    free = search.fits(second, back)
    board.take(guests[first])
    board.put(guests[first], back)
    return free
