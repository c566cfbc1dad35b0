# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewest hosts against a lower bound that is proved in the same run, for three sizes of clusters from seeds.

The bound is the better of the LP over patterns (highspy) and of the volume; `tests/bench/README.md` tells about the
public instances that OSCARV_VBP points at.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
import sys
import time
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import conftest

conftest.pytest_configure()

import instances
import vbp
from ansible_collections.oscarv.virt.plugins.plugin_utils import _planner_consolidate as planner
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem

SEEDS = (1, 2, 3)
Row = dict[str, t.Any]


class Result(t.NamedTuple):
    used: int
    bound: int
    seconds: float  #: of CPU
    moves: int


def measured(problem: Problem, engine: str) -> Result:
    """One run; raises AssertionError for a plan that breaks a rule or loses a guest."""
    asked = dataclasses.replace(problem, verb="consolidate", options={"engine": engine})
    started = time.process_time()
    plan = planner.consolidate(asked)
    seconds = time.process_time() - started
    goes = {move.guest: move.target for move in plan.moves}
    bare = {n: dataclasses.replace(g, host=None) if n in goes else g for n, g in asked.guests.items()}
    replayed = dataclasses.replace(asked, verb="place", guests=bare)
    found = complaints(replayed, Plan(places=tuple(Place(name, host, "") for name, host in goes.items())))
    assert not found, found[:3]
    said = re.search(r"at least (\d+) needed", plan.notes[0])
    assert said, plan.notes
    ends = {goes.get(name, guest.host) for name, guest in asked.guests.items()}
    assert None not in ends
    return Result(len(ends), int(said[1]), seconds, len(plan.moves))


def row(name: str, results: t.Sequence[Result], bounds: t.Sequence[int], goal: str, holds: bool) -> Row:
    """Sums over the seeds; the ratio is the worst of them."""
    return {
        "bar": f"consolidate {name} (hosts; peer: certified bound; {len(results)} seeds)",
        "ours": sum(result.used for result in results),
        "peer": sum(bounds),
        "ratio": max(result.used / bound for result, bound in zip(results, bounds, strict=True)),
        "goal": goal,
        "holds": holds,
        "seconds": [round(result.seconds, 3) for result in results],
        "moves": [result.moves for result in results],
    }


def flavours(hosts: int, guests: int) -> t.Iterator[Row]:
    """Ten flavours: the pattern engine, what `auto` does, and pure Python alone, against one bound."""
    made = [instances.cluster(hosts, guests, seed) for seed in SEEDS]
    runs = {engine: [measured(problem, engine) for problem in made] for engine in ("highspy", "auto", "pure")}
    bounds = [max(result.bound for result in same) for same in zip(*runs.values(), strict=True)]
    for engine in ("highspy", "auto"):
        pairs = list(zip(runs[engine], bounds, strict=True))
        holds = all(result.used <= bound + 1 and result.seconds <= 10 for result, bound in pairs)
        goal = "<= bound + 1, 10 s"
        if hosts >= 500:
            holds = holds and all(result.used <= 1.005 * bound for result, bound in pairs)
            goal = "<= 1.005, bound + 1, 10 s"
        yield row(f"{hosts}/{guests}, {engine}", runs[engine], bounds, goal, holds)
    pure = runs["pure"]
    holds = all(result.used <= 1.15 * bound for result, bound in zip(pure, bounds, strict=True))
    yield row(f"{hosts}/{guests}, no solver", pure, bounds, "<= 1.15", holds)


def own_sizes(hosts: int, guests: int) -> Row:
    results = [measured(instances.cluster(hosts, guests, seed, own_sizes=True), "auto") for seed in SEEDS]
    holds = all(result.used <= 1.10 * result.bound for result in results)
    bounds = [result.bound for result in results]
    return row(f"{hosts}/{guests}, own sizes", results, bounds, "<= 1.1", holds)


def public(folder: pathlib.Path) -> list[Row]:
    """The engines on public instances; the planner knows three resources, so more dimensions are left out."""
    found = vbp.folder(folder)
    ratios: dict[str, list[float]] = collections.defaultdict(list)
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    for instance in found:
        if instance.optimum is None or len(instance.room) > 3:
            continue
        for engine in ("auto", "pure"):
            started = time.process_time()
            used, _bound = vbp.solve(instance, engine)
            seconds[engine].append(time.process_time() - started)
            ratios[engine].append(used / instance.optimum)
    print(f"{folder}: {len(found)} instances, {len(ratios['auto'])} of at most 3 dimensions with a known optimum")
    return [
        {
            "bar": f"public .vbp, {engine} (mean bins / optimum; {len(every)} instances)",
            "ours": sum(every) / len(every),
            "peer": 1.0,
            "ratio": sum(every) / len(every),
            "goal": "recorded",
            "holds": True,
            "seconds": [round(sum(seconds[engine]), 3)],
        }
        for engine, every in ratios.items()
        if every
    ]


def rows() -> list[Row]:
    measured(instances.cluster(20, 60), "highspy")  # import the solver before anything is timed
    answer = [found for size in instances.SIZES for found in flavours(*size)]
    answer += [own_sizes(*size) for size in instances.SIZES]
    folder = os.environ.get("OSCARV_VBP")
    return answer + (public(pathlib.Path(folder)) if folder else [])
