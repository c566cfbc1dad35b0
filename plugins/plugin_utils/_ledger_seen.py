# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules `guest` and `guest_info` answered, checked and brought into one shape.

It comes from HostOSes, which may be broken or hostile: nothing is taken over that does not look as it must.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._ledger_changes import HOST_KEY
from ._ledger_outcome import Refused

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: A driver's word for a guest's state, and the ledger's.
_STATES = {
    "running": "running",
    "paused": "paused",
    "stopped": "stopped",
    "crashed": "stopped",
    "saved": "saved",
    "moving": "moving",
    "absent": "absent",
}


@dataclasses.dataclass(frozen=True)
class SeenGuest:
    uuid: str
    name: str
    state: str  #: running | paused | stopped | saved | moving
    epoch: int | None  #: the mark's; None: not told
    host_key: str | None = None
    busy: bool = False  #: a job (a migration) is active on it; `moving` and not busy: a move that died halted it
    autostart: bool = False
    mark: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    seed: str | None = None  #: path of an attached seed
    told_seed: bool = False  #: whether `seed` was told at all


@dataclasses.dataclass(frozen=True)
class SeenStone:
    """A tombstone; see module_utils/_tombstone.py."""

    uuid: str
    epoch: int
    state: str


@dataclasses.dataclass(frozen=True)
class Sight:
    """One HostOS as it answered."""

    host: str
    complete: bool  #: `guests` is everything of ours that is there: what is not listed is not there
    guests: t.Mapping[str, SeenGuest]  #: by uuid
    gone: frozenset[str] = frozenset()  #: uuids that it said to be absent, or removed
    stones: t.Mapping[str, SeenStone] = dataclasses.field(default_factory=dict)

    def lacks(self, uuid: str) -> bool:
        """Whether this answer proves that the guest is not on the HostOS."""
        return uuid not in self.guests and (self.complete or uuid in self.gone)


def read_sight(host: str, data: t.Any, cluster: str, *, complete: bool | None = None) -> Sight:
    """From the result of `guest` (by name: not complete) or of `guest_info` (by uuid, with `tombstones`: complete).

    Guests whose mark names another cluster are left out. Raises Refused for what cannot be read.
    """
    if not isinstance(data, t.Mapping) or not isinstance(data.get("guests"), t.Mapping):
        raise Refused(
            [f"host {host}: expected the result of oscarv.virt.guest_info or oscarv.virt.guest with `guests`"]
        )
    entries: t.Mapping[str, t.Any] = data["guests"]
    by_uuid = bool(entries) and all(_UUID.fullmatch(key) for key in entries)
    errors: list[str] = []
    guests: dict[str, SeenGuest] = {}
    gone = {str(item["uuid"]) for item in data.get("pruned") or () if isinstance(item, t.Mapping) and "uuid" in item}
    for key, entry in entries.items():
        try:
            seen = _read_guest(host, key, entry)
        except Refused as error:
            errors += error.errors
            continue
        if seen is None or seen.mark.get("cluster", cluster) != cluster:
            continue
        if seen.state == "absent":
            gone.add(seen.uuid)
        else:
            guests[seen.uuid] = seen
    if errors:
        raise Refused(errors)
    whole = complete if complete is not None else "tombstones" in data or by_uuid
    return Sight(host, whole, guests, frozenset(gone), _read_stones(data.get("tombstones")))


def read_sights(observations: t.Any, cluster: str, hosts: t.Collection[str]) -> dict[str, Sight | None]:
    """Of many HostOSes: {HOST: result, or null where it could not be reached}. Raises Refused with all errors."""
    if not isinstance(observations, t.Mapping):
        raise Refused(["observations: expected a mapping from host to the result of oscarv.virt.guest_info"])
    sights: dict[str, Sight | None] = {}
    errors: list[str] = []
    for host, data in observations.items():
        if host not in hosts:
            errors.append(f"host {host}: not a HostOS of cluster {cluster}; see `partitions` in its definition")
            continue
        unreachable = data is None or (isinstance(data, t.Mapping) and _silent(data))
        try:
            sights[host] = None if unreachable else read_sight(host, data, cluster)
        except Refused as error:
            errors += error.errors
    if errors:
        raise Refused(errors)
    return sights


def _silent(data: t.Mapping[str, t.Any]) -> bool:
    """The task did not reach the host, was skipped there, or failed before it could say anything about guests."""
    return bool(data.get("unreachable") or data.get("skipped") or (data.get("failed") and "guests" not in data))


def _read_guest(host: str, key: str, entry: t.Any) -> SeenGuest | None:
    """None for a guest on which the module failed: nothing is known about it."""
    if not isinstance(entry, t.Mapping):
        raise Refused([f"host {host}: guest {key}: expected a mapping, found {type(entry).__name__}"])
    who = f"host {host}: guest {entry.get('name') or key}"
    if entry.get("failed") or entry.get("state") is None:
        return None
    mark = entry["mark"] if isinstance(entry.get("mark"), t.Mapping) else entry
    uuid = entry.get("uuid") or (key if _UUID.fullmatch(key) else "")
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise Refused([f"{who}: uuid {uuid!r} is not a UUID in lower case"])
    state = _STATES.get(str(entry["state"]))
    if state is None:
        raise Refused([f"{who}: state {entry['state']!r}; known: {', '.join(_STATES)}"])
    epoch = mark.get("epoch", entry.get("epoch"))
    if epoch is not None and (isinstance(epoch, bool) or not isinstance(epoch, int)):
        raise Refused([f"{who}: epoch {epoch!r} is not a number"])
    jobs = [entry[name] for name in ("jobs", "job") if name in entry]
    host_key = mark.get("host_key") or entry.get("host_key")
    if host_key is not None and not HOST_KEY.fullmatch(str(host_key)):
        raise Refused([f"{who}: host_key {str(host_key)[:80]!r} is not an ssh-ed25519 public key"])
    return SeenGuest(
        uuid=uuid,
        name=str(mark.get("guest") or entry.get("name") or key),
        state=state,
        epoch=epoch,
        host_key=host_key,
        busy=any(jobs) if jobs else state == "moving",
        autostart=bool(entry.get("autostart")),
        mark=mark,
        seed=entry.get("seed") or None,
        told_seed="seed" in entry,
    )


def _read_stones(data: t.Any) -> dict[str, SeenStone]:
    items = data.values() if isinstance(data, t.Mapping) else data or ()
    stones = {}
    for item in items:
        if isinstance(item, t.Mapping) and _UUID.fullmatch(str(item.get("uuid"))):
            stones[str(item["uuid"])] = SeenStone(str(item["uuid"]), int(item.get("epoch", 0)), str(item.get("state")))
    return stones
