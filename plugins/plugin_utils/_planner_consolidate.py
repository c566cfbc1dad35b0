# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""consolidate: all guests on the fewest hosts, within the rules.

What may not be decided stays where it is: frozen guests, guests of closed hosts (those are evacuate's), guests that
stand against a rule already or on a host that holds more than it has. A guest keeps its enclosure at each level over
which its partition is spread, or over which it must be together with others; so the spread stays as even as it is.
Guests that must be together on a host move as one.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from . import _planner_fill, _planner_pattern, _tolerate
from ._constraints import Board
from ._plan import Move, Plan, PlannerError, Problem
from ._planner_fit import first_homeless
from ._planner_keep import keep
from ._planner_packing import Fill, Packing, Pattern, parts, volume_bound
from ._planner_scope import Task, staying, task, used, why_notes
from ._planner_seats import Seating, hosts_for
from ._rules import HOST
from ._words import percent

ENGINES = ("auto", "pure", "highspy")
PURE, PATTERNS = "bin-centric", "patterns (highspy)"
#: Times that guests without a place are left where they are and the rest is decided anew.
ATTEMPTS = 5


def consolidate(problem: Problem) -> Plan:
    """Moves to the fewest hosts, all in wave 1; none if no host becomes empty.

    `problem.subjects` name hosts: their host partitions are consolidated, all of them without subjects. The option
    `engine` is auto (pure Python, and highspy where that does not prove that its answer is best), pure, or highspy.
    Foreign use keeps a host in use. Raises PlannerError for an unknown engine or one that cannot be imported.
    """
    engine = _engine(problem)
    board = Board(problem)
    partitions = {problem.hosts[name].partition for name in problem.subjects}
    scope = [i for i, host in enumerate(board.hosts) if not partitions or host.partition in partitions]
    start, before = dict(board.where), used(board, scope)
    tolerated = _broken(problem, board)
    why = staying(board, set(scope))
    answer, left = _attempt(board, scope, why, engine)
    for _number in range(ATTEMPTS):
        if not left:
            break
        for name, home in start.items():
            if board.where.get(name) != home:
                if name in board.where:
                    board.take(problem.guests[name])
                board.put(problem.guests[name], home)
        why.update((name, "no other place was found for it") for name in left)
        answer, left = _attempt(board, scope, why, engine)
    after = used(board, scope)
    gains = not left and len(after) < len(before)
    fresh = [text for clause, text in _broken(problem, board).items() if clause not in tolerated] if gains else []
    moved = gains and not fresh
    notes = [
        f"hosts used: {len(before)} before, {len(after if moved else before)} after, at least {answer.bound} needed; "
        f"engine {answer.engine}",
        *why_notes(why),
        *(f"nothing is moved, for then {text}" for text in fresh),
        *([] if gains else ["no host would become empty: nothing is moved"]),
    ]
    return Plan(moves=_moves(board, start, after) if moved else (), engine=answer.engine, notes=tuple(notes))


def _engine(problem: Problem) -> str:
    engine = str(problem.options.get("engine", "auto"))
    if engine not in ENGINES:
        raise PlannerError(f"option engine: {engine!r} is none of {', '.join(ENGINES)}")
    if engine == "highspy" and not _planner_pattern.available():
        raise PlannerError("option engine: highspy cannot be imported here; auto and pure do without it")
    return engine


def _broken(problem: Problem, board: Board) -> dict[tuple[int, str], str]:
    """Clauses of `tolerate` that do not hold, in words."""
    if not _tolerate.clauses(problem):
        return {}
    return {broken.clause: str(broken) for broken in _tolerate.check(problem, board, first_homeless).broken}


@dataclasses.dataclass(frozen=True)
class _Answer:
    bound: int  #: on the hosts used
    engine: str


def _attempt(board: Board, scope: t.Sequence[int], stay: t.Collection[str], engine: str) -> tuple[_Answer, list[str]]:
    """Decide and put everybody on the board: (what the engines said, who found no place)."""
    group = _largest_apart(board, scope, stay)
    asked = task(board, scope, stay)
    opened = used(board, scope)
    split = parts(asked.packing)
    bound = len(opened) - asked.packing.needed  # in use, but nothing can be decided there
    engines: dict[str, None] = {}
    chosen: t.Mapping[int, Pattern] = {}
    for packing, kinds, flavours in split:
        least, fills, who = solve_packing(packing, engine, _planner_fill.STEPS // len(split))
        bound += least
        engines[who] = None
        now = _as_it_is(asked, kinds)
        if fills is None or packing.used(fills) >= len(opened.intersection(_hosts(asked, kinds)).union(now)):
            chosen = {**chosen, **now}
        else:
            named = [(kinds[kind], tuple((flavours[f], n) for f, n in pattern)) for kind, pattern in fills]
            fitted = hosts_for(named, asked.hosts, asked.items)
            chosen = {**chosen, **{host: pattern for host, (_kind, pattern) in fitted.items()}}
    chosen = keep(asked, chosen)
    spare = [host for hosts in asked.hosts for host in hosts if host not in chosen]
    left = Seating(board, chosen, opened, spare).run(asked.items)
    answer = _Answer(max(bound, group), ", ".join(engines) or PURE)
    return answer, [name for item in left for name in item.guests]


def solve_packing(
    packing: Packing, engine: str, steps: int = _planner_fill.STEPS
) -> tuple[int, list[Fill] | None, str]:
    """(a lower bound on the hosts used, an answer or None, the engine that gave it)."""
    bound, weights = volume_bound(packing)
    if not packing.flavours:
        return packing.needed, [], PURE
    suits = engine != "pure" and _planner_pattern.suits(packing)
    if engine == "highspy" and suits:
        proved, fills = _planner_pattern.solve(packing)
        if fills is not None:
            return max(bound, proved), fills, PATTERNS
    fills = _planner_fill.fill(packing, weights, bound, steps)
    if engine != "auto" or not suits or (fills is not None and packing.used(fills) <= bound):
        return bound, fills, PURE
    if not _planner_pattern.available():
        return bound, fills, PURE
    proved, better = _planner_pattern.solve(packing, fills)
    return max(bound, proved), better, PATTERNS


def _hosts(asked: Task, kinds: t.Iterable[int]) -> set[int]:
    return {host for kind in kinds for host in asked.hosts[kind]}


def _as_it_is(asked: Task, kinds: t.Iterable[int]) -> dict[int, Pattern]:
    """The patterns that these hosts have now."""
    found: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    hosts = _hosts(asked, kinds)
    for item in asked.items:
        if item.home in hosts:
            found[item.home][item.flavour] += 1
    return {host: tuple(sorted(counts.items())) for host, counts in found.items()}


def _largest_apart(board: Board, scope: t.Sequence[int], stay: t.Collection[str]) -> int:
    """Movable guests of one rule that needs as many hosts."""
    here = set(scope)
    return max(
        (
            sum(board.where.get(name) in here and name not in stay for name in group.rule.guests)
            for group in board.rules.groups
            if group.apart and not group.rule.soft and group.rule.over == HOST
        ),
        default=0,
    )


def _moves(board: Board, start: t.Mapping[str, int], after: t.Collection[int]) -> tuple[Move, ...]:
    answer = []
    for name, home in sorted(start.items()):
        target = board.where[name]
        if target != home:
            source, goal = board.hosts[home].name, board.hosts[target].name
            ends = "gives its place to others" if home in after else f"{source} becomes empty"
            full = percent(board.load(target), 1)
            answer.append(Move(name, source, goal, 1, f"{ends}; {goal} then {full} full"))
    return tuple(answer)
