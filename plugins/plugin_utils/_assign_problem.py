# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From definition and ledger to the planner's question: what each HostOS can take, and who is where."""

from __future__ import annotations

import dataclasses
import typing as t

from ._ledger_rows import GuestRow, HostRow, LedgerState
from ._model import Cluster, Guest, Host, HostPartition, Resources
from ._plan import GuestState, HostState, Problem

NOTHING = Resources(0, 0, 0)
#: Where a guest's hypervisor is no matter: a new guest has none, and who names the HostOS asks for the move himself
#: (the ledger refuses it unless it is cold).
_ANYWHERE = ("place", "move")


def ask(
    cluster: Cluster,
    state: LedgerState,
    verb: str = "place",
    subjects: tuple[str, ...] = (),
    options: t.Mapping[str, t.Any] | None = None,
) -> Problem:
    """The problem as definition and ledger have it. Guests that are `absent` and were never placed need no place."""
    rows = {row.name: row for row in state.guests.values() if row.state != "released"}
    guests: dict[str, GuestState] = {}
    for guest in cluster.guests.values():
        row = rows.get(guest.name)
        if guest.state == "absent" and (row is None or row.host is None):
            continue
        found = _guest(guest, row, state)
        guests[guest.name] = found if verb in _ANYWHERE else _at_home(cluster, found)
    for row in rows.values():
        if row.name not in guests and row.host is not None:
            guests[row.name] = _leaving(row, state)
    held = _held_by_moves(cluster, state)
    hosts = {
        host.name: _host(cluster, host, state.hosts.get(host.name), held.get(host.name, NOTHING))
        for host in cluster.hosts.values()
    }
    return Problem(cluster, hosts, guests, verb, subjects, options or {})


def _guest(guest: Guest, row: GuestRow | None, state: LedgerState) -> GuestState:
    return GuestState(
        name=guest.name,
        partition=guest.partition,
        demand=guest.demand,
        on=guest.on,
        host=row.host if row else None,
        frozen=_frozen(row, state) if row else "",
        needs=("uefi",) if guest.firmware == "uefi" else (),
    )


def _at_home(cluster: Cluster, guest: GuestState) -> GuestState:
    """Places are looked for within a hypervisor: to another one a guest goes cold, which its owner must ask for."""
    here = cluster.hosts.get(str(guest.host))
    if here is None:
        return guest
    same = tuple(name for name in guest.on if cluster.host_partitions[name].hypervisor == here.hypervisor)
    return dataclasses.replace(guest, on=same)


def _frozen(row: GuestRow, state: LedgerState) -> str:
    move = state.moves.get(row.uuid)
    if move:
        return f"it is being moved from {move.source} to {move.target}: run oscarv.virt.settle"
    if row.state == "leaving":
        return "it left the definition"
    return ""


def _leaving(row: GuestRow, state: LedgerState) -> GuestState:
    """A guest that left the definition holds what it was given until its absence is proved."""
    demand = Resources(row.vcpus or 0, row.memory or 0, row.disk or 0)
    return GuestState(row.name, row.partition, demand, (), row.host, _frozen(row, state) or "it left the definition")


def _held_by_moves(cluster: Cluster, state: LedgerState) -> dict[str, Resources]:
    """What moves in flight hold on their targets; on their sources the guests themselves do."""
    held: dict[str, Resources] = {}
    for move in state.moves.values():
        row = state.guests.get(move.guest)
        guest = cluster.guests.get(row.name) if row else None
        if guest:
            held[move.target] = add(held.get(move.target, NOTHING), guest.demand)
    return held


def _host(cluster: Cluster, host: Host, row: HostRow | None, held: Resources) -> HostState:
    foreign = Resources(row.foreign_vcpus, row.foreign_memory, row.foreign_disk) if row else NOTHING
    return HostState(
        name=host.name,
        partition=host.partition,
        hypervisor=host.hypervisor,
        capacity=capacity(cluster.host_partitions[host.partition], row),
        enclosures=host.enclosures,
        closed=_closed(row),
        foreign=add(foreign, held),
        lacks=lacks(row),
    )


def capacity(partition: HostPartition, row: HostRow | None) -> Resources | None:
    """What guests may use of a host: the definition's word, else what was measured; less the reserve, overcommitted."""
    raw = partition.capacity
    if raw is None:
        if row is None or row.vcpus is None or row.memory is None or row.disk is None:
            return None
        raw = Resources(row.vcpus, row.memory, row.disk)
    reserve = partition.reserve
    return Resources(
        max(raw.vcpus - reserve.vcpus, 0) * partition.overcommit_vcpus,
        max(raw.memory - reserve.memory, 0),
        max(raw.disk - reserve.disk, 0),
    )


def _closed(row: HostRow | None) -> str:
    if row and row.fenced:
        return "is fenced: it is said to be off"
    if row and row.maintenance:
        return f"is in maintenance: {row.maintenance}"
    return ""


def lacks(row: HostRow | None) -> dict[str, str]:
    """What the HostOS said that it cannot do. A host that was never asked is taken to be able."""
    told = row.facts.get("capabilities") if row else None
    if not isinstance(told, t.Mapping):
        return {}
    return {
        str(name): str(word.get("reason") or "not supported")
        for name, word in told.items()
        if isinstance(word, t.Mapping) and not word.get("supported", True)
    }


def add(one: Resources, two: Resources) -> Resources:
    return Resources(one.vcpus + two.vcpus, one.memory + two.memory, one.disk + two.disk)
