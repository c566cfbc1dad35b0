# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner where machines are lost, clusters are full, and moves need an order. The checker replays every plan.

hail (Ganeti's allocator) gets the same guests on the same cluster in its own text format, one after the other and the
big ones first, without its N+1 checks and without our apart rules, which all favours it.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import planner_cluster as clusters
from ansible_collections.oscarv.virt.plugins.plugin_utils import _tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._constraints import Board
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner import solve
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_evacuate import evacuate
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_fit import first_homeless, place_all
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_waves import Schedule, waves

HAIL = "/usr/lib/ganeti/iallocators/hail"
SEEDS = (0, 1, 2)
LOST = ("node007", "node123", "node400")


def replayed(asked: Problem, plan: Plan) -> Plan:
    wrong = complaints(asked, plan, always_together=True)
    if wrong:
        raise AssertionError("; ".join(wrong[:5]))
    return plan


def timed(answer: t.Callable[[Problem], Plan], asked: Problem) -> tuple[Plan, float]:
    """The answer and its CPU seconds."""
    begin = time.process_time()
    plan = answer(asked)
    return plan, time.process_time() - begin


def row(what: str, ours: t.Any, peer: t.Any, ratio: float, goal: t.Any, holds: bool, **more: t.Any) -> dict[str, t.Any]:
    return {"bar": what, "ours": ours, "peer": peer, "ratio": ratio, "goal": goal, "holds": holds, **more}


# -- a cluster at 96 % memory ---------------------------------------------------------------------------------------


def full_cluster(seed: int, now: float = 0.945, then: float = 0.96) -> Problem:
    """46 hosts, evenly full; new guests of 16 GiB and more bring them to 96 % of their memory."""
    asked = clusters.cluster(46, 0, seed, fill=now)
    rng = random.Random(seed + 1)
    total = sum(host.capacity.memory for host in asked.hosts.values() if host.capacity)
    used = sum(guest.demand.memory for guest in asked.guests.values())
    new = {}
    while used < then * total:
        wants = clusters.demand(rng)
        if wants.memory >= 16 * clusters.GIB:
            name = f"new{len(new):03}"
            new[name] = clusters.guest(name, wants, None)
            used += wants.memory
    guests = {**asked.guests, **new}
    return clusters.problem(asked.hosts, guests, asked.cluster.rules, options={"make_room": True})


def hail(asked: Problem) -> tuple[int, float]:
    """How many of the guests without a host hail places, and its CPU seconds."""
    where = {name: guest.host for name, guest in asked.guests.items() if guest.host}
    new = sorted((g for g in asked.guests.values() if not g.host), key=lambda g: (-g.demand.memory, g.name))
    placed = 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(prefix="oscarv-bench-") as folder:
        text, request = pathlib.Path(folder, "cluster"), pathlib.Path(folder, "request")
        for guest in new:
            text.write_text(clusters.htools_text(asked, where), encoding="utf-8")
            request.write_text(json.dumps(clusters.hail_request(guest.name, guest.demand)), encoding="utf-8")
            command = [HAIL, "-t", str(text), "--no-capacity-checks", "--ignore-soft-errors", str(request)]
            told = subprocess.run(command, check=True, capture_output=True, text=True)
            answer = json.loads(told.stdout)
            if answer["success"]:
                placed += 1
                where[guest.name] = answer["result"][0]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return placed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def full_rows() -> t.Iterator[dict[str, t.Any]]:
    for seed in SEEDS:
        asked = full_cluster(seed)
        homeless = sum(guest.host is None for guest in asked.guests.values())
        plan, ours = timed(solve, asked)
        replayed(asked, plan)
        placed, theirs = hail(asked)
        yield row(
            f"96 % memory, 46 hosts, {len(asked.guests)} guests, seed {seed}: new guests placed, hail one by one",
            f"{len(plan.places)} of {homeless}",
            f"{placed} of {homeless}",
            round(ours / theirs, 3),
            "all, hail not",
            not plan.stays and placed < homeless,
            cpu_seconds=round(ours, 3),
            peer_cpu_seconds=round(theirs, 3),
            moves=len(plan.moves),
            notes=list(plan.notes),
            engine=plan.engine,
        )


# -- a lost host --------------------------------------------------------------------------------------------------


def lose(asked: Problem, name: str) -> Problem:
    """The host is fenced and its guests have no host."""
    hosts = dict(asked.hosts)
    hosts[name] = dataclasses.replace(hosts[name], closed="is fenced: it is said to be off")
    guests = {n: dataclasses.replace(g, host=None) if g.host == name else g for n, g in asked.guests.items()}
    return dataclasses.replace(asked, hosts=hosts, guests=guests, options={"make_room": True})


def lost_rows(roomy: Problem, full: Problem) -> t.Iterator[dict[str, t.Any]]:
    for what, whole, goal in (("without a move", roomy, 0.1), ("others make room", full, 5.0)):
        seconds, notes, moves, homeless, left = [], [], 0, 0, 0
        for name in LOST:
            asked = lose(whole, name)
            plan, cpu = timed(solve, asked)
            replayed(asked, plan)
            seconds.append(cpu)
            notes += plan.notes
            moves += len(plan.moves)
            homeless += sum(guest.host is None for guest in asked.guests.values())
            left += len(plan.stays)
        yield row(
            f"a lost host at {len(whole.hosts)}/{len(whole.guests)}, {what}: CPU seconds, slowest of {len(LOST)}",
            round(max(seconds), 3),
            None,
            round(max(seconds) / goal, 3),
            goal,
            max(seconds) <= goal and not left and bool(moves) == (what != "without a move"),
            guests=homeless,
            moves=moves,
            notes=notes,
        )


# -- the order of moves -----------------------------------------------------------------------------------------------


def shuffled(asked: Problem, part: float, seed: int) -> dict[str, str]:
    """Another place for a part of the guests, such that all fit: on the fullest hosts that have room."""
    rng, board = random.Random(seed), Board(asked)
    names = rng.sample(sorted(asked.guests), int(part * len(asked.guests)))
    for name in names:
        board.take(asked.guests[name])
    board.tight = True
    placed, _stays = place_all(board, [asked.guests[name] for name in names])
    return {name: board.hosts[index].name for name, (index, _reason) in placed.items()}


def order_rows(roomy: Problem) -> t.Iterator[dict[str, t.Any]]:
    cases = [(clusters.cluster(100, 1000, seed), 0.3) for seed in SEEDS]
    cases += [(clusters.cluster(100, 0, seed, fill=0.8), 0.2) for seed in SEEDS]
    cases += [(clusters.cluster(100, 0, seed, fill=0.96), 0.1) for seed in SEEDS]
    cases += [(roomy, 0.1)]
    found = []
    for asked, part in cases:
        asked = dataclasses.replace(asked, verb="balance")
        begin = time.process_time()
        made = waves(asked, goal := shuffled(asked, part, 9), moves_per_host=2)
        cpu = time.process_time() - begin
        replayed(asked, Plan(moves=made.moves, stays=made.stays))
        found.append((made.waves / max(1, made.bound), made, len(goal), cpu))
    racks = sorted({dict(host.enclosures)["rack"] for host in roomy.hosts.values()})[:3]
    for rack in racks:
        subjects = tuple(name for name, host in roomy.hosts.items() if ("rack", rack) in host.enclosures)
        asked = dataclasses.replace(roomy, verb="evacuate", subjects=subjects)
        plan, cpu = timed(evacuate, asked)
        replayed(asked, plan)
        made = Schedule(plan.moves, plan.stays, int(plan.notes[0].rsplit(" ", 1)[1]))
        found.append((made.waves / made.bound, made, len(plan.moves), cpu))
    worst = max(ratio for ratio, *_rest in found)
    stays = sum(len(made.stays) for _ratio, made, *_rest in found)
    yield row(
        f"order of the moves of {len(found)} plans, 2 per host: waves against a certified bound (worst)",
        round(worst, 3),
        1.0,
        round(worst, 3),
        1.5,
        worst <= 1.5 and not stays,
        mean=round(statistics.mean(ratio for ratio, *_rest in found), 3),
        each=[
            {
                "ratio": round(r, 3),
                "moves": n,
                "parked": len(m.parked),
                "left": len(m.stays),
                "cpu_seconds": round(c, 3),
            }
            for r, m, n, c in found
        ],
    )


# -- tolerate -------------------------------------------------------------------------------------------------------


def tolerate_row(asked: Problem) -> dict[str, t.Any]:
    board = Board(asked)
    begin = time.process_time()
    every = {(1, "host"): {"workers"}}
    verdict = _tolerate.check(asked, board, first_homeless, every, witness=True)
    seconds = time.process_time() - begin
    for (_lose, _of, (lost,)), where in list(verdict.witness.items())[::25]:
        places = [Place(name, host, "") for name, host in where.items()]
        replayed(lose(asked, lost), Plan(places=tuple(places)))
    return row(
        f"tolerate: every single host loss at {len(asked.hosts)}/{len(asked.guests)}: CPU seconds",
        round(seconds, 3),
        None,
        round(seconds / 5, 3),
        5.0,
        seconds <= 5 and verdict.answer == "yes" and len(verdict.witness) == len(asked.hosts),
        answer=verdict.answer,
    )


def rows() -> list[dict[str, t.Any]]:
    roomy = clusters.cluster(500, 10_000, 5)
    full = clusters.cluster(500, 0, 5, fill=0.96, big=True)
    return [*full_rows(), *lost_rows(roomy, full), *order_rows(roomy), tolerate_row(roomy)]


def main() -> int:
    found = rows()
    for one in found:
        words = " ".join(f"{key}={value}" for key, value in one.items() if key != "bar")
        sys.stdout.write(f"{'ok  ' if one['holds'] else 'MISS'} {one['bar']}: {words}\n")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
