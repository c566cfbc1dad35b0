# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that runs may not grow beyond what its HostOS has: the others there would pay for it.

A HostOS that became too small without anybody growing (measured again, more foreign guests) is only noted.
"""

from __future__ import annotations

import typing as t

from ._assign_problem import NOTHING, add
from ._ledger_rows import GuestRow
from ._model import Cluster, Guest, Resources
from ._plan import HostState, Plan, Problem
from ._words import natural, number, size


def growth_errors(cluster: Cluster, rows: t.Mapping[str, GuestRow], problem: Problem, plan: Plan) -> list[str]:
    """`rows`: by name, still with what each guest was given last."""
    at = {name: guest.host for name, guest in problem.guests.items()} | {p.guest: p.host for p in plan.places}
    used: dict[str, Resources] = {}
    for name, place in at.items():
        if place is not None:
            used[place] = add(used.get(place, NOTHING), problem.guests[name].demand)
    errors: list[str] = []
    for name in sorted(problem.guests, key=natural):
        guest, row, host = cluster.guests.get(name), rows.get(name), problem.hosts.get(at[name] or "")
        if guest and row and host and host.capacity and row.vcpus is not None:
            errors += _errors(guest, Resources(row.vcpus, row.memory or 0, row.disk or 0), host, used[host.name])
    return errors


def _errors(guest: Guest, old: Resources, host: HostState, used: Resources) -> t.Iterator[str]:
    capacity = t.cast(Resources, host.capacity)
    for kind in ("vcpus", "memory", "disk"):
        before, after = getattr(old, kind), getattr(guest.demand, kind)
        free = getattr(capacity, kind) - getattr(host.foreign, kind) - getattr(used, kind)
        if after > before and free < 0:
            show = number if kind == "vcpus" else size
            place = f" ({guest.where.file}:{guest.where.line})" if guest.where else ""
            more = show(max(free + after - before, 0))
            yield (
                f"guest {guest.name}{place}: {kind} grows from {show(before)} to {show(after)}, but {host.name} has"
                f" only {more} more: give it less, or move it first (oscarv.virt.migrate)"
            )
