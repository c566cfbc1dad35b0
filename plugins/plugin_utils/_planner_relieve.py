# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""relieve: fewest moves to bring hosts under a threshold.

Only hosts above the threshold lose guests: as few as can do, and of such sets the smallest. No host is pushed above
the threshold for it. Where no host has room, one guest may give way. A host that cannot be brought under the
threshold is left as it is, and the notes say why.
"""

from __future__ import annotations

import math
import random
import typing as t

from . import _tolerate
from ._constraints import Board
from ._plan import Move, Plan, PlannerError, Problem
from ._planner_fit import first_homeless
from ._planner_relief import SLACK, Relief
from ._words import percent

ENGINE = "smallest covers"
#: Times that all is decided anew, with those first who found no relief, until no fewer moves are possible.
ROUNDS = 60
#: Hosts looked at for a guest, in all rounds: some two seconds. The option `steps` says otherwise.
STEPS = 500_000


def relieve(problem: Problem) -> Plan:
    """Moves after which no host, or none of `problem.subjects`, is fuller than the option `threshold` (0 to 1).

    Full is the fullest of vCPUs, memory and disk. Moves are in waves: within one, capacity is held on both ends.
    The option `steps` bounds the work (default STEPS). Closed hosts are left alone. Raises PlannerError without a
    threshold, or for one not above 0 and at most 1.
    """
    threshold = _threshold(problem)
    board = Board(problem)
    wanted = set(problem.subjects or problem.hosts)
    known = [i for i, host in enumerate(board.hosts) if host.name in wanted and host.capacity is not None]
    over = sorted((i for i in known if board.load(i) > threshold + SLACK), key=lambda i: (-board.load(i), i))
    steps, first, dice = int(problem.options.get("steps", STEPS)), list[int](), random.Random(len(over))
    best = Relief(Board(problem), threshold, steps)
    best.run(over)
    left = best.steps
    for _round in range(ROUNDS):
        if left < 0 or best.rank <= (0, sum(best.bounds.values())):
            break
        first = list(dict.fromkeys([*best.failed, *first]))
        rest = [host for host in over if host not in first]
        dice.shuffle(rest)
        relief = Relief(Board(problem), threshold, left, dice)
        relief.run([*first, *rest])
        left = relief.steps
        if relief.rank < best.rank:
            best = relief
    return _plan(problem, board, best, over, threshold)


def _plan(problem: Problem, before: Board, relief: Relief, over: t.Sequence[int], threshold: float) -> Plan:
    names = [host.name for host in before.hosts]
    limit = percent(threshold, 1)
    notes = [
        f"moves: {len(relief.moves)}, at least {sum(relief.bounds[i] for i in over if i not in relief.failed)} needed; "
        f"hosts above {limit}: {len(over)} before, {len(relief.failed)} after"
    ]
    notes += [f"{names[i]} stays {percent(before.load(i), 1)} full: {why}" for i, why in sorted(relief.failed.items())]
    if relief.moves and _tolerate.clauses(problem):
        held = {broken.clause for broken in _tolerate.check(problem, before, first_homeless).broken}
        found = _tolerate.check(problem, relief.board, first_homeless).broken
        fresh = [f"nothing is moved, for then {broken}" for broken in found if broken.clause not in held]
        if fresh:
            return Plan(engine=ENGINE, notes=(*notes, *fresh))
    moves = []
    for step in relief.moves:
        source, target = names[step.source], names[step.target]
        why = f"makes room on {source} for {step.room_for}"
        if not step.room_for:
            why = f"{source} is {percent(before.load(step.source), 1)} full, above {limit}"
        why += f"; {target} then {percent(relief.board.load(step.target), 1)} full"
        moves.append(Move(step.guest, source, target, step.wave, why))
    ordered = tuple(sorted(moves, key=lambda move: (move.wave, move.guest)))
    return Plan(moves=ordered, engine=ENGINE, notes=tuple(notes))


def _threshold(problem: Problem) -> float:
    wish = problem.options.get("threshold")
    if wish is None:
        raise PlannerError("relieve needs the option threshold: how full a host may be, above 0 and at most 1")
    try:
        threshold = float(wish)
    except (TypeError, ValueError):
        threshold = math.nan
    if isinstance(wish, bool) or not 0 < threshold <= 1:
        raise PlannerError(f"option threshold: {wish!r} is not above 0 and at most 1")
    return threshold
