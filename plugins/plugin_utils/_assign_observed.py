# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What HostOSes showed, as far as decisions need it: copies that may be removed, NICs that are really gone.

`observed` is {HOST: result of oscarv.virt.guest_info}; hosts that did not answer are missing or None.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._ledger_observe import later
from ._ledger_rows import LedgerState, NicRow
from ._ledger_seen import SeenGuest, read_sights
from ._model import Cluster


def detached_and_gone(
    cluster: Cluster, state: LedgerState, observed: t.Mapping[str, t.Any], now: str, skip: t.Collection[str]
) -> list[NicRow]:
    """Detached NICs that their guest no longer has: from now on their addresses rest. `skip`: MACs decided already."""
    detached = [n for n in state.nics.values() if n.position < 0 and n.free_after is None and n.mac not in skip]
    if not detached:
        return []
    macs = _macs_seen(cluster, state, observed)
    free_after = later(now, cluster.quarantine)
    return [
        dataclasses.replace(nic, free_after=free_after)
        for nic in detached
        if nic.guest in macs and nic.mac not in macs[nic.guest]
    ]


def _macs_seen(cluster: Cluster, state: LedgerState, observed: t.Mapping[str, t.Any]) -> dict[str, set[str]]:
    """uuid -> MACs of the guest as its HostOS has it; only guests that are where the ledger has them."""
    found: dict[str, set[str]] = {}
    for host, data in observed.items():
        guests = data.get("guests") if isinstance(data, t.Mapping) else None
        for uuid, entry in guests.items() if isinstance(guests, t.Mapping) else ():
            row = state.guests.get(str(uuid))
            nics = entry.get("nics") if isinstance(entry, t.Mapping) else None
            if row and row.host == host and isinstance(nics, (list, tuple)):
                found[row.uuid] = {str(nic.get("mac")).lower() for nic in nics if isinstance(nic, t.Mapping)}
    return found


def prunable(
    cluster: Cluster, state: LedgerState, observed: t.Mapping[str, t.Any] | None
) -> dict[str, list[dict[str, t.Any]]]:
    """For each HostOS the guests that may be removed there: leaving ones, and copies that the ledger has no use for.

    A copy is stale where its guest was released, or is recorded on another HostOS with a newer epoch. Without
    `observed` released guests are named on the HostOS that had them. Guests with a move in flight are never named.
    `epoch` is newer than the copy's own where somebody else lives in its files on a shared pool: they are left alone.
    """
    answer: dict[str, list[dict[str, t.Any]]] = {host: [] for host in cluster.hosts}
    names = {row.name for row in state.guests.values() if row.state != "released"}
    for row in state.guests.values():
        named = row.state == "leaving" or (row.state == "released" and observed is None)
        if named and row.host in answer and row.uuid not in state.moves:
            answer[row.host].append({"name": row.name, "uuid": row.uuid, "epoch": row.epoch})
    sights = read_sights({h: d for h, d in (observed or {}).items() if h in answer}, cluster.name, set(answer))
    for host, sight in sights.items():
        listed = {item["uuid"] for item in answer[host]}
        for seen in sight.guests.values() if sight else ():
            if seen.uuid not in listed and _stale(state, seen, host):
                answer[host].append({"name": seen.name, "uuid": seen.uuid, "epoch": _newest(state, seen, names)})
    for items in answer.values():
        items.sort(key=lambda item: (item["name"], item["uuid"]))
    return answer


def _newest(state: LedgerState, seen: SeenGuest, names: t.Collection[str]) -> int:
    """The newest epoch that the ledger knows of a guest, beyond the copy's own where another guest has its name now."""
    row, own = state.guests[seen.uuid], seen.epoch or 0
    if row.state == "released":
        return own + (seen.name in names)
    return max(row.epoch, own)


def _stale(state: LedgerState, seen: SeenGuest, host: str) -> bool:
    row = state.guests.get(seen.uuid)
    if row is None or row.uuid in state.moves or seen.epoch is None:
        return False
    if row.state == "released":
        return True
    return row.host is not None and row.host != host and seen.epoch < row.epoch
