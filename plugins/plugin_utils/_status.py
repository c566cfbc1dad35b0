# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as it is: definition against ledger against what HostOSes show, a row per HostOS and per guest.

Drift is whatever the next deploy would change or somebody has to decide; what cannot be known is said to be unknown.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._assign_problem import ask
from ._constraints import KINDS, Board
from ._ledger_rows import GuestRow, LedgerState, newest_builds
from ._ledger_seen import SeenGuest, Sight, read_sights
from ._model import Cluster, Guest
from ._specs import nics_of
from ._words import counted, listing, natural, number, size, table

UNREACHABLE = "unreachable"


@dataclasses.dataclass(frozen=True)
class GuestStatus:
    guest: str
    partition: str
    host: str | None
    state: str  #: as seen; unreachable, missing or none where nothing was seen
    address: str | None
    epoch: int | None
    drift: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HostStatus:
    host: str
    partition: str
    state: str  #: ok, unreachable, maintenance, fenced or not measured
    guests: int
    foreign: int
    used: tuple[str, str, str]  #: vCPUs, memory, disk: "USED/CAPACITY"
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Status:
    hosts: tuple[HostStatus, ...]
    guests: tuple[GuestStatus, ...]

    @property
    def drifting(self) -> int:
        return sum(bool(guest.drift) for guest in self.guests) + sum(bool(host.notes) for host in self.hosts)


def status(
    cluster: Cluster,
    state: LedgerState,
    observed: t.Mapping[str, t.Any],
    selected: t.Collection[str] | None = None,
) -> Status:
    """`observed`: {HOST: result of guest_info, or None where it could not be reached}. Raises Refused for what cannot
    be read."""
    sights = read_sights({h: d for h, d in observed.items() if h in cluster.hosts}, cluster.name, set(cluster.hosts))
    return _Comparer(cluster, state, observed, sights).compare(selected)


class _Comparer:
    def __init__(
        self,
        cluster: Cluster,
        state: LedgerState,
        observed: t.Mapping[str, t.Any],
        sights: t.Mapping[str, Sight | None],
    ) -> None:
        self.cluster = cluster
        self.state = state
        self.observed = observed
        self.sights = sights
        self.newest = newest_builds(state)
        self.nics = nics_of(state)
        self.copies: dict[str, list[tuple[str, SeenGuest]]] = {}  # uuid -> (host, copy)
        for host, sight in sights.items():
            for seen in sight.guests.values() if sight else ():
                self.copies.setdefault(seen.uuid, []).append((host, seen))

    def compare(self, selected: t.Collection[str] | None) -> Status:
        rows = {row.name: row for row in self.state.guests.values() if row.state != "released"}
        names = sorted({*self.cluster.guests, *rows}, key=natural)
        guests = [
            self._guest(name, self.cluster.guests.get(name), rows.get(name))
            for name in names
            if selected is None or name in selected
        ]
        return Status(tuple(self._hosts()), tuple(guests))

    # -- guests -----------------------------------------------------------------------------------------------------

    def _guest(self, name: str, guest: Guest | None, row: GuestRow | None) -> GuestStatus:
        if row is None:
            partition = guest.partition if guest else "-"
            return GuestStatus(name, partition, None, "none", None, None, ("not decided yet: deploy",))
        copies = self.copies.get(row.uuid, [])
        seen = next((copy for host, copy in copies if host == row.host), None)
        addresses = [address for nic in self.nics.get(row.uuid, ()) for address in nic.addresses]
        drift = [*self._place(row, seen, copies), *self._wishes(guest, row, seen)]
        if guest is not None and row.state != "leaving" and row.host and not row.first_contact:
            drift += ["never reached"] if guest.state == "running" and seen else []
        return GuestStatus(
            guest=name,
            partition=row.partition,
            host=row.host,
            state=self._seen_state(row, seen),
            address=addresses[0] if addresses else None,
            epoch=row.epoch,
            drift=tuple(drift),
        )

    def _seen_state(self, row: GuestRow, seen: SeenGuest | None) -> str:
        if seen:
            return seen.state
        if row.host is None:
            return "none"
        return "missing" if self.sights.get(row.host) else UNREACHABLE

    def _place(self, row: GuestRow, seen: SeenGuest | None, copies: list[tuple[str, SeenGuest]]) -> t.Iterator[str]:
        move = self.state.moves.get(row.uuid)
        if move:
            yield f"being moved from {move.source} to {move.target}: settle"
        running = [host for host, copy in copies if copy.state in ("running", "paused")]
        if len(running) > 1 and not move:
            yield f"RUNS TWICE: on {listing(sorted(running, key=natural))}: stop one by hand now"
        if row.host is None:
            yield "has no HostOS: plan says why"
        elif row.host not in self.cluster.hosts:
            yield f"its HostOS {row.host} is not in the definition"
        for host, copy in copies:
            if host != row.host and not move:
                yield f"a copy is {copy.state} on {host} (epoch {copy.epoch})"
        if seen and seen.epoch is not None and seen.epoch != row.epoch:
            yield f"epoch {seen.epoch}, the ledger has {row.epoch}"

    def _wishes(self, guest: Guest | None, row: GuestRow, seen: SeenGuest | None) -> t.Iterator[str]:
        if guest is None or row.state == "leaving":
            if row.host is None or seen or not self.sights.get(row.host):
                yield "left the definition: deploy with oscarv_prune=remove"
            else:
                yield "left the definition and is gone: deploy releases it"
            return
        known = row.host is not None and self.sights.get(row.host) is not None
        is_now = seen.state if seen else "missing"
        wanted = {"absent": "missing"}.get(guest.state, guest.state)
        if known and guest.state != "present" and is_now != wanted:
            yield f"is {is_now}, wanted {guest.state}"
        elif known and guest.state == "present" and seen is None:
            yield "is missing"
        if seen:
            yield from self._sizes(guest, row, seen)
        newest = self.newest.get(guest.image)
        if newest and row.build_id and newest.build_id != row.build_id:
            yield "build outdated: rebuild"

    def _sizes(self, guest: Guest, row: GuestRow, seen: SeenGuest) -> t.Iterator[str]:
        entry = self.observed[t.cast(str, row.host)]["guests"].get(row.uuid, {})
        for kind, show, wanted in (("vcpus", number, guest.vcpus), ("memory", size, guest.memory)):
            found = entry.get(kind)
            if isinstance(found, int) and found != wanted:
                yield f"{kind} {show(found)}, wanted {show(wanted)}"
        if entry.get("restart_required"):
            yield "restart required"

    # -- hosts ------------------------------------------------------------------------------------------------------

    def _hosts(self) -> t.Iterator[HostStatus]:
        problem = ask(self.cluster, self.state)
        board = Board(problem)
        here: dict[int, int] = {}
        for index in board.where.values():
            here[index] = here.get(index, 0) + 1
        for index, host in enumerate(board.hosts):
            yield HostStatus(
                host=host.name,
                partition=host.partition,
                state=self._host_state(host.name, host.capacity is not None),
                guests=here.get(index, 0),
                foreign=len(_list(self.observed.get(host.name), "foreign")),
                used=self._used(board, index) if host.capacity else ("-", "-", "-"),
                notes=tuple(self._host_notes(host.name)),
            )

    def _host_state(self, name: str, measured: bool) -> str:
        row = self.state.hosts.get(name)
        if row and row.fenced:
            return "fenced"
        if name in self.sights and self.sights[name] is None:
            return UNREACHABLE
        if row and row.maintenance:
            return "maintenance"
        if not measured:
            return "not measured"
        return "ok" if name in self.sights else "not asked"

    def _used(self, board: Board, index: int) -> tuple[str, str, str]:
        words = []
        for kind, total, free in zip(KINDS, board.total[index], board.free[index], strict=True):
            if kind == "vcpus":
                words.append(f"{number((total - free) / 1000)}/{number(total / 1000)}")
            else:
                words.append(f"{size(total - free)}/{size(total)}")
        return (words[0], words[1], words[2])

    def _host_notes(self, name: str) -> t.Iterator[str]:
        row, sight = self.state.hosts.get(name), self.sights.get(name)
        if row and row.maintenance:
            yield row.maintenance
        if row and row.facts.get("acceleration") == "tcg":
            yield "emulates (no KVM)"
        unknown = [seen.name for seen in sight.guests.values() if seen.uuid not in self.state.guests] if sight else []
        if unknown:
            yield f"guests that the ledger does not know: {listing(sorted(unknown, key=natural))}"


def _list(data: t.Any, key: str) -> list[t.Any]:
    found = data.get(key) if isinstance(data, t.Mapping) else None
    return list(found) if isinstance(found, (list, tuple)) else []


def status_lines(cluster: Cluster, state: LedgerState, found: Status) -> list[str]:
    """Aligned text; what needs somebody comes last, where it is seen."""
    hosts = [
        (h.host, h.partition, h.state, str(h.guests), str(h.foreign or ""), *h.used, "; ".join(h.notes))
        for h in found.hosts
    ]
    guests = [
        (g.guest, g.partition, g.host or "-", g.state, g.address or "-", str(g.epoch or "-"), "; ".join(g.drift))
        for g in found.guests
    ]
    head = ("HOSTOS", "PARTITION", "STATE", "GUESTS", "FOREIGN", "VCPUS", "MEMORY", "DISK", "NOTES")
    lines = [f"Cluster {cluster.name}, ledger revision {state.revision}", "", *table(head, hosts), ""]
    lines += table(("GUEST", "PARTITION", "HOSTOS", "STATE", "ADDRESS", "EPOCH", "DRIFT"), guests) if guests else []
    drifting = [guest.guest for guest in found.guests if guest.drift]
    away = [host.host for host in found.hosts if host.state in (UNREACHABLE, "fenced")]
    lines += ["", f"{counted(len(hosts), 'HostOS').replace('HostOSs', 'HostOSes')}, {counted(len(guests), 'guest')}: "]
    lines[-1] += f"drift in {listing(drifting, 8)}" if drifting else "no drift"
    lines[-1] += f"; not reached: {listing(away, 8)}" if away else ""
    return lines
