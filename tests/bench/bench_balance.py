# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`balance` against Ganeti's hbal, judged by hbal's own score of hbal's own text format, failure-domain tags on.

hbal plans with its defaults; ours gets as many moves as hbal made and the weights that hbal uses. Then hbal reads the
cluster after either plan anew and prints its score: `ours` and `peer` are these scores, `ratio` their quotient. Both
plans are of the same mode: disks on external storage, each move a migration to any node. hbal's N+1 checks concern
DRBD only and do not bind here; vCPU ratio, memory and exclusion tags bind both. `cpu` and `peer_cpu` are seconds.
`python bench_balance.py` runs it alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pathlib
import sys
import time
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
#: What hbal counts: vCPUs per physical CPU (ours are per vCPU allowed), memory, guests per node four times (the four
#: dynamic loads are 1 per guest by default), exclusion tags on a node twice and in a rack once.
DISK, SPREAD = 0.0, 0.0
#: hosts, guests, seed, seconds of CPU that hbal may take
SIZES = ((46, 164, 1, 90), (46, 164, 2, 90), (100, 1000, 1, 180))
LARGE = (500, 10_000, 1, 120)
LARGE_MOVES = 1000
#: Seconds of CPU after which hbal is stopped to compare what both have by then.
SHORT = ((46, 164, 3, 2), (46, 164, 3, 5), (100, 1000, 2, 20))


def sibling(name: str) -> t.Any:
    """A module of this folder, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        if spec is None or spec.loader is None:
            raise ImportError(name)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def weights(htools: t.Any) -> dict[str, float]:
    return {
        "vcpus": htools.OVERCOMMIT,
        "memory": 1.0,
        "disk": DISK,
        "guests": 4.0,
        "hard": 2.0,
        "soft": 1.0,
        "spread": SPREAD,
    }


def ours(htools: t.Any, cluster: t.Any, moves: int, **options: t.Any) -> tuple[list[tuple[str, str]], float]:
    """Our moves, replayed by the checker one after the other, and the CPU seconds of the planner alone."""
    from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
    from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_balance import balance

    asked = htools.problem(cluster, "balance", moves=moves, weights=weights(htools), min_gain=1e-9, **options)
    begin = time.process_time()
    plan = balance(asked)
    seconds = time.process_time() - begin
    in_turn = tuple(dataclasses.replace(move, wave=number) for number, move in enumerate(plan.moves, 1))
    wrong = complaints(asked, dataclasses.replace(plan, moves=in_turn))
    if wrong:
        raise AssertionError(f"our plan breaks: {wrong[:3]}")
    return [(m.guest, m.target) for m in plan.moves], seconds


def row(what: str, mine: float, peer: float | None, goal: float, holds: bool, **more: t.Any) -> dict[str, t.Any]:
    ratio = mine / peer if peer else None
    rounded = {key: round(value, 2) if isinstance(value, float) else value for key, value in more.items()}
    return {
        "bar": what,
        "ours": round(mine, 3),
        "peer": round(peer, 3) if peer else None,
        "ratio": round(ratio, 4) if ratio else None,
        "goal": goal,
        "holds": holds,
        **rounded,
    }


def same_moves(htools: t.Any, hosts: int, guests: int, seed: int, seconds: int) -> dict[str, t.Any]:
    cluster = htools.world(hosts, guests, seed)
    peer = htools.hbal(cluster, 10_000, seconds)
    moves, cpu = ours(htools, cluster, len(peer.moves))
    mine, theirs = (htools.score(htools.moved(cluster, plan)) for plan in (moves, peer.moves))
    end = "" if peer.finished else f", all that hbal made in {seconds} s of CPU"
    what = f"balance {hosts}/{guests} (seed {seed}), {len(peer.moves)} moves{end}: hbal's score"
    cpus = {"cpu": cpu, "peer_cpu": peer.cpu, "cpu_ratio": cpu / peer.cpu, "start": htools.score(cluster)}
    holds = mine <= 1.01 * theirs and len(moves) <= len(peer.moves)
    return row(what, mine, theirs, 1.01, holds, moves=len(moves), **cpus)


def same_time(htools: t.Any, hosts: int, guests: int, seed: int, seconds: int) -> dict[str, t.Any]:
    """With no limit on the moves; ours must have taken less CPU than hbal was given."""
    cluster = htools.world(hosts, guests, seed)
    peer = htools.hbal(cluster, 10_000, seconds)
    moves, cpu = ours(htools, cluster, guests, steps=100_000 * seconds)
    mine, theirs = (htools.score(htools.moved(cluster, plan)) for plan in (moves, peer.moves))
    what = f"balance {hosts}/{guests} (seed {seed}), {seconds} s of CPU: hbal's score"
    more = {"cpu": cpu, "peer_cpu": peer.cpu, "moves": len(moves), "peer_moves": len(peer.moves)}
    return row(what, mine, theirs, 1.0, mine <= theirs and cpu <= seconds, start=htools.score(cluster), **more)


def large(htools: t.Any, hosts: int, guests: int, seed: int, seconds: int) -> list[dict[str, t.Any]]:
    cluster = htools.world(hosts, guests, seed)
    peer = htools.hbal(cluster, 10_000, seconds)
    moves, cpu = ours(htools, cluster, LARGE_MOVES)
    mine = htools.score(htools.moved(cluster, moves))
    theirs = htools.score(htools.moved(cluster, peer.moves))
    size = f"balance {hosts}/{guests} (seed {seed})"
    stop = (
        f"hbal's first {len(peer.moves)} moves in {seconds} s of CPU"
        if peer.moves
        else f"hbal: no move in {seconds} s of CPU"
    )
    more = {
        "moves": len(moves),
        "peer_moves": len(peer.moves),
        "start": htools.score(cluster),
        "cpu": cpu,
        "peer_cpu": peer.cpu,
    }
    return [
        row(f"{size}, {len(moves)} moves, {stop}: hbal's score", mine, theirs, 1.0, mine < theirs, **more),
        row(f"{size}, {len(moves)} moves: CPU seconds", cpu, None, 60.0, cpu <= 60, score=mine),
    ]


def rows() -> list[dict[str, t.Any]]:
    sibling("bench_inventory").find_collection()
    htools = sibling("htools")
    found = [same_moves(htools, *size) for size in SIZES]
    found += [same_time(htools, *size) for size in SHORT]
    found += large(htools, *LARGE)
    assert not any(math.isnan(one["ours"]) for one in found)
    return found


def main() -> int:
    found = rows()
    for one in found:
        words = " ".join(f"{key}={value}" for key, value in one.items() if key != "bar")
        sys.stdout.write(f"{'ok  ' if one['holds'] else 'MISS'} {one['bar']}: {words}\n")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
