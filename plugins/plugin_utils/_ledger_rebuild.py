# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`rebuild`: a lost ledger from the marks that the guests carry.

Every HostOS must have answered with its complete list, or be declared off: an address of a guest that was not seen
would be given to another. Rows that the ledger has are never changed; what is missing is added.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ._ledger_changes import applied
from ._ledger_outcome import Outcome, Refused, Stamp
from ._ledger_rows import Changes, GuestRow, HistoryRow, HostKeyRow, HostRow, LedgerState, NicRow
from ._ledger_seen import SeenGuest, Sight
from ._model import Cluster
from ._settle import forgotten

_BUILD_ID = re.compile(r"[0-9a-f]{64}")
_NIC_NAME = re.compile(r"eth([0-9]{1,3})")
_RUNS = ("running", "paused", "moving")


@dataclasses.dataclass(frozen=True)
class _Copy:
    host: str
    seen: SeenGuest

    @property
    def epoch(self) -> int:
        return self.seen.epoch or 0

    def __str__(self) -> str:
        return f"{self.host} ({self.seen.state}, epoch {self.seen.epoch})"


def rebuild(
    cluster: Cluster,
    state: LedgerState,
    sights: t.Mapping[str, Sight | None],
    stamp: Stamp,
    fenced: t.Collection[str] = (),
) -> Outcome:
    """`fenced`: HostOSes that are off on the operator's word. Raises Refused with everything that is in the way."""
    _refuse_gaps(cluster, sights, fenced)
    copies: dict[str, list[_Copy]] = {}
    stones: dict[str, int] = {}
    for host, sight in sights.items():
        for seen in sight.guests.values() if sight else ():
            copies.setdefault(seen.uuid, []).append(_Copy(host, seen))
        for stone in sight.stones.values() if sight else ():
            stones[stone.uuid] = max(stones.get(stone.uuid, 0), stone.epoch)
    found = _Rebuilt(cluster, state, stamp)
    for uuid in sorted(copies):
        if uuid not in state.guests:
            found.add(copies[uuid], stones.get(uuid, 0))
    found.check_names_and_addresses()
    if found.errors:
        raise Refused(found.errors)
    hosts = [
        HostRow(name, cluster.hosts[name].hypervisor, fenced=stamp.now) for name in fenced if name not in state.hosts
    ]
    changes = Changes(
        guests=tuple(found.guests),
        nics=tuple(found.nics),
        hosts=tuple(hosts),
        host_keys=tuple(found.keys),
        history=tuple(found.history) + tuple(stamp.history("fence", row.name, "off during a rebuild") for row in hosts),
    )
    result = {
        "guests": sorted(row.name for row in found.guests),
        "known": sorted(state.guests[uuid].name for uuid in copies if uuid in state.guests),
        "stale": found.stale,
        "cleanup": forgotten(applied(state, changes), sights),
    }
    return Outcome(changes, result, tuple(item["reason"] for item in found.stale) + tuple(found.warnings))


def _refuse_gaps(cluster: Cluster, sights: t.Mapping[str, Sight | None], fenced: t.Collection[str]) -> None:
    errors = [
        f"host {name}: fenced: not a HostOS of cluster {cluster.name}" for name in fenced if name not in cluster.hosts
    ]
    for host in cluster.hosts.values():
        sight = sights.get(host.name)
        if host.external or (host.name in fenced and sight is None):
            continue
        if host.name in fenced:
            errors.append(f"host {host.name}: is called fenced but it answered")
        elif sight is None:
            errors.append(
                f"host {host.name}: did not answer; addresses of its guests would be given away. Bring it up, or say"
                " with `fenced` that it is off for good"
            )
        elif not sight.complete:
            errors.append(f"host {host.name}: not its complete list; pass the result of oscarv.virt.guest_info")
    if errors:
        raise Refused(errors)


class _Rebuilt:
    """Rows made from marks, and what is wrong with them."""

    def __init__(self, cluster: Cluster, state: LedgerState, stamp: Stamp) -> None:
        self._cluster = cluster
        self._state = state
        self._stamp = stamp
        self.guests: list[GuestRow] = []
        self.nics: list[NicRow] = []
        self.keys: list[HostKeyRow] = []
        self.history: list[HistoryRow] = []
        self.stale: list[dict[str, t.Any]] = []
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def add(self, copies: list[_Copy], stone_epoch: int) -> None:
        """One guest, of which there may be several copies."""
        newest = self._choose(copies, stone_epoch)
        if newest is None:
            return
        seen, mark = newest.seen, newest.seen.mark
        build = mark.get("build_id")
        if build is not None and not _BUILD_ID.fullmatch(str(build)):
            self.errors.append(f"guest {seen.name} on {newest.host}: its mark's build_id {str(build)[:80]!r} is none")
            return
        if not mark.get("partition"):
            self.errors.append(f"guest {seen.name} on {newest.host}: its mark names no partition")
            return
        row = GuestRow(
            uuid=seen.uuid,
            name=seen.name,
            partition=str(mark["partition"]),
            host=newest.host,
            epoch=newest.epoch,
            state="running" if seen.state == "moving" else seen.state,
            image=mark.get("image"),
            build_id=build,
            hypervisor=self._cluster.hosts[newest.host].hypervisor,
            # The seed is ejected after first contact, never before.
            first_contact=self._stamp.now if seen.told_seed and seen.seed is None else None,
        )
        self.guests.append(row)
        if seen.host_key:
            self.keys.append(HostKeyRow(seen.uuid, seen.host_key, self._stamp.now))
        self._add_nics(newest)
        why = f"from its mark on {newest.host}, epoch {newest.epoch}"
        self.history.append(self._stamp.history("rebuild", seen.name, why))

    def _choose(self, copies: list[_Copy], stone_epoch: int) -> _Copy | None:
        ranked = sorted(copies, key=lambda copy: (-copy.epoch, copy.host))
        newest, rest = ranked[0], ranked[1:]
        who = f"guest {newest.seen.name} ({newest.seen.uuid})"
        running = [copy for copy in ranked if copy.seen.state in _RUNS]
        if newest.epoch < 1:
            self.errors.append(f"{who}: its mark on {newest.host} has no epoch")
        elif len(running) > 1:
            where = " and on ".join(map(str, running))
            self.errors.append(f"{who}: runs on {where}: wait if it is moving, else power one off by hand, now")
        elif rest and rest[0].epoch == newest.epoch:
            self.errors.append(f"{who}: copies of one epoch on {newest} and {rest[0]}: remove the wrong one by hand")
        elif running and running[0] is not newest:
            self.errors.append(f"{who}: runs on {running[0]}, but the newer copy is on {newest}: remove the wrong one")
        elif stone_epoch > newest.epoch:
            self.errors.append(
                f"{who}: a tombstone has epoch {stone_epoch}, the newest copy ({newest}) only {newest.epoch}: the real"
                " one is not among these HostOSes"
            )
        else:
            for copy in rest:
                reason = f"{who}: the copy on {copy} is stale; the right one is on {newest}"
                self.stale.append(
                    {
                        "guest": copy.seen.name,
                        "uuid": copy.seen.uuid,
                        "host": copy.host,
                        "state": copy.seen.state,
                        "epoch": copy.seen.epoch,
                        "reason": reason,
                    }
                )
            return newest
        return None

    def _add_nics(self, copy: _Copy) -> None:
        mark = copy.seen.mark
        position = -1
        for number, nic in enumerate(mark.get("nics") or ()):
            who = f"guest {copy.seen.name} on {copy.host}: NIC {number} of its mark"
            network = self._cluster.networks.get(str(nic.get("network"))) if isinstance(nic, t.Mapping) else None
            if not isinstance(nic, t.Mapping) or not isinstance(nic.get("mac"), str):
                self.errors.append(f"{who}: has no mac")
                continue
            if nic.get("network") is None:
                self.warnings.append(
                    f"{who}: {nic['mac']} is not in its mark; somebody added it by hand, it is left out"
                )
                continue
            # Its name says which wish of the definition it fulfils; the domain's order need not.
            named = _NIC_NAME.fullmatch(str(nic.get("name")))
            position = int(named[1]) if named else position + 1
            if network is None:
                self.warnings.append(
                    f"{who}: network {nic.get('network')!r} is not in the definition; taken as realm default"
                )
            try:
                addresses = tuple(str(ipaddress.ip_interface(str(item)).ip) for item in nic.get("addresses") or ())
            except ValueError as error:
                self.errors.append(f"{who}: {error}")
                continue
            realm = network.realm if network else "default"
            self.nics.append(
                NicRow(nic["mac"].lower(), copy.seen.uuid, position, str(nic.get("network")), realm, addresses)
            )

    def check_names_and_addresses(self) -> None:
        """Two marks must not claim one name, MAC or address; nor one that the ledger has for another guest."""
        names: dict[str, str] = {
            row.name: row.host or "" for row in self._state.guests.values() if row.state != "released"
        }
        for row in self.guests:
            if row.name in names:
                self.errors.append(f"guest {row.name}: two guests of this name, on {names[row.name]} and {row.host}")
            names[row.name] = row.host or ""
        called = {uuid: row.name for uuid, row in self._state.guests.items()} | {
            row.uuid: row.name for row in self.guests
        }
        holders: dict[tuple[str, str], str] = {}
        for nic in (*self._state.nics.values(), *self.nics):
            for claim in (("MAC", nic.mac), *((f"realm {nic.realm}", address) for address in nic.addresses)):
                holder = holders.setdefault(claim, nic.guest)
                if holder != nic.guest:
                    both = f"{called.get(holder)} and {called.get(nic.guest)}"
                    self.errors.append(f"guests {both}: both marks claim {claim[1]} ({claim[0]})")
