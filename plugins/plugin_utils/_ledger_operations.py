# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations that record what HostOSes, images and operators say; moves, observe, rebuild have their own files."""

from __future__ import annotations

import dataclasses
import typing as t

from ._definition_units import UnitError, size
from ._ledger_observe import nics_by_guest, released
from ._ledger_outcome import Outcome, Refused, Stamp
from ._ledger_rows import BuildRow, Changes, GuestRow, HostBuildRow, HostRow, LedgerState, newest_builds
from ._model import Cluster


def host_row(cluster: Cluster, state: LedgerState, name: str) -> HostRow:
    """The host's row, or a new one. Raises Refused for a name that the cluster does not have."""
    row = state.hosts.get(name)
    if row is not None:
        return row
    if name not in cluster.hosts:
        raise Refused(
            [f"host {name}: not a HostOS of cluster {cluster.name}; see `partitions` in {cluster.definition}"]
        )
    return HostRow(name, cluster.hosts[name].hypervisor)


def guests_named(state: LedgerState, names: t.Iterable[str]) -> list[GuestRow]:
    """The rows of these guests. Raises Refused naming each that the ledger does not have."""
    rows = {row.name: row for row in state.guests.values() if row.state != "released"}
    wanted = list(dict.fromkeys(names))
    unknown = [f"guest {name}: not in the ledger of cluster {state.cluster}" for name in wanted if name not in rows]
    if unknown:
        raise Refused(unknown)
    return [rows[name] for name in wanted]


def record_hosts(cluster: Cluster, state: LedgerState, infos: t.Mapping[str, t.Any], stamp: Stamp) -> Outcome:
    """`infos`: {HOST: result of hostos_info}. A host that measures the same again is not written again.

    `cpu.baseline`, where the controller has added it, is what all HostOSes of the partition can: every row gets it.
    """
    measured: dict[str, HostRow] = {}
    errors: list[str] = []
    for name, info in infos.items():
        try:
            measured[name] = _measured(cluster, host_row(cluster, state, name), info, stamp)
        except Refused as error:
            errors += error.errors
    if errors:
        raise Refused(errors)
    rows = _same_baseline(cluster, {**state.hosts, **measured}, infos)
    hosts = [row for name, row in rows.items() if not _same(row, state.hosts.get(name))]
    history = tuple(stamp.history("record_host", row.name, _capacity_words(row)) for row in hosts)
    return Outcome(Changes(hosts=tuple(hosts), history=history), {"hosts": [row.name for row in hosts]})


def _same(row: HostRow, known: HostRow | None) -> bool:
    return known is not None and dataclasses.replace(row, seen=known.seen) == known


def _same_baseline(cluster: Cluster, rows: t.Mapping[str, HostRow], infos: t.Mapping[str, t.Any]) -> dict[str, HostRow]:
    """The rows, with a baseline that came with one HostOS on all of its partition."""
    found = dict(rows)
    for name, info in infos.items():
        cpu = info.get("hostos", info).get("cpu") or {}
        host = cluster.hosts.get(name)
        members = cluster.host_partitions[host.partition].members if host and "baseline" in cpu else ()
        for member in members:
            if member in found:
                known = found[member]
                found[member] = dataclasses.replace(known, cpu={**known.cpu, "baseline": cpu["baseline"]})
    return found


def _measured(cluster: Cluster, row: HostRow, info: t.Any, stamp: Stamp) -> HostRow:
    if isinstance(info, t.Mapping) and isinstance(info.get("hostos"), t.Mapping):
        info = info["hostos"]
    if not isinstance(info, t.Mapping) or not isinstance(info.get("hypervisor"), str):
        raise Refused([f"host {row.name}: expected the result of oscarv.virt.hostos_info with `hostos.hypervisor`"])
    defined = cluster.hosts.get(row.name)
    if defined and defined.hypervisor != info["hypervisor"]:
        where = f"partition {defined.partition} of the definition"
        raise Refused([f"host {row.name}: it runs {info['hypervisor']}, {where} says {defined.hypervisor}"])
    capacity, foreign = info.get("capacity") or {}, info.get("foreign") or {}

    def number(key: str, values: t.Mapping[str, t.Any]) -> int | None:
        return _number(row.name, key, values.get(key.partition(".")[2]))

    facts = ("versions", "acceleration", "acceleration_reason", "capabilities")
    return dataclasses.replace(
        row,
        hypervisor=str(info["hypervisor"]),
        vcpus=number("capacity.vcpus", capacity),
        memory=number("capacity.memory", capacity),
        disk=number("capacity.disk", capacity),
        foreign_vcpus=number("foreign.vcpus", foreign) or 0,
        foreign_memory=number("foreign.memory", foreign) or 0,
        foreign_disk=number("foreign.disk", foreign) or 0,
        cpu={**{key: row.cpu[key] for key in ("baseline",) if key in row.cpu}, **(info.get("cpu") or {})},
        facts={name: info[name] for name in facts if name in info},
        seen=stamp.now,
    )


def _number(host: str, key: str, value: t.Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and not key.endswith("vcpus"):  # a capacity that people wrote
        try:
            return size(value)
        except UnitError as error:
            raise Refused([f"host {host}: {key}: {error}"]) from error
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise Refused([f"host {host}: {key}: found {value!r}; allowed: a number, 0 or more (sizes in bytes)"])
    return int(value)


def _capacity_words(row: HostRow) -> str:
    return f"{row.hypervisor}: {row.vcpus} vCPUs, {row.memory} bytes of memory, {row.disk} bytes of disk"


def record_build(state: LedgerState, build: t.Mapping[str, t.Any], stamp: Stamp) -> Outcome:
    """`build`: the fields of BuildRow; `created` may be left out. What is recorded last is its image's current build:

    `created` of a known build stays, unless another build became current meanwhile (a recipe was taken back).
    """
    fields = {field.name: field for field in dataclasses.fields(BuildRow)}
    errors = [f"build: unknown key {key!r}; known keys: {', '.join(fields)}" for key in build if key not in fields]
    errors += [
        f"build: key {key!r} is missing"
        for key in ("build_id", "image", "recipe_id", "size", "virtual_size")
        if build.get(key) is None
    ]
    errors += [
        f"build: {key}: found {build[key]!r}; allowed: bytes as a number"
        for key in ("size", "virtual_size")
        if build.get(key) is not None and (isinstance(build[key], bool) or not isinstance(build[key], int))
    ]
    if errors:
        raise Refused(errors)
    known = state.builds.get(build["build_id"])
    if known is None:
        created = build.get("created") or stamp.now
    else:
        created = known.created if newest_builds(state)[known.image] == known else stamp.now
    row = BuildRow(**{"url": None, "manifest": {}, **build, "created": created})
    history = (
        () if known == row else (stamp.history("record_build", row.image, f"build {row.build_id}, {row.size} bytes"),)
    )
    return Outcome(Changes(builds=(row,), history=history), {"build_id": row.build_id})


def record_host_builds(
    cluster: Cluster, state: LedgerState, builds: t.Mapping[str, t.Sequence[str]], stamp: Stamp, *, exact: bool
) -> Outcome:
    """`builds`: {HOST: [build_id]} that lie verified there; with `exact` nothing else does."""
    added, removed, history = [], [], []
    for host, ids in builds.items():
        host_row(cluster, state, host)
        new = [build for build in dict.fromkeys(ids) if (host, build) not in state.host_builds]
        old = sorted(build for on, build in state.host_builds if on == host and build not in ids) if exact else []
        added += [HostBuildRow(host, build, stamp.now) for build in new]
        removed += [(host, build) for build in old]
        history += [stamp.history("record_host_build", host, f"build {build} lies there, verified") for build in new]
        history += [stamp.history("record_host_build", host, f"build {build} lies there no longer") for build in old]
    changes = Changes(host_builds=tuple(added), host_builds_removed=tuple(removed), history=tuple(history))
    return Outcome(changes, {"added": len(added), "removed": len(removed)})


def first_contact(state: LedgerState, names: t.Sequence[str], stamp: Stamp) -> Outcome:
    rows = [row for row in guests_named(state, names) if row.first_contact is None]
    return Outcome(
        Changes(
            guests=tuple(dataclasses.replace(row, first_contact=stamp.now) for row in rows),
            history=tuple(
                stamp.history("first_contact", row.name, "reached with its host key verified") for row in rows
            ),
        ),
        {"guests": [row.name for row in rows]},
    )


def fence(cluster: Cluster, state: LedgerState, name: str, stamp: Stamp) -> Outcome:
    """The operator's word that the host is off and stays off: its guests may come up elsewhere."""
    row = host_row(cluster, state, name)
    guests = sorted(guest.name for guest in state.guests.values() if guest.host == name and guest.state != "released")
    if row.fenced:
        return Outcome(result={"guests": guests})
    why = f"said to be off; {len(guests)} guests were there"
    changes = Changes(hosts=(dataclasses.replace(row, fenced=stamp.now),), history=(stamp.history("fence", name, why),))
    return Outcome(changes, {"guests": guests})


def unfence(cluster: Cluster, state: LedgerState, name: str, stamp: Stamp) -> Outcome:
    row = host_row(cluster, state, name)
    if not row.fenced:
        return Outcome()
    history = stamp.history("unfence", name, f"back in service; was fenced at {row.fenced}")
    return Outcome(Changes(hosts=(dataclasses.replace(row, fenced=None),), history=(history,)))


def maintenance(cluster: Cluster, state: LedgerState, name: str, reason: str | None, stamp: Stamp) -> Outcome:
    """With a reason the host takes no new guest; without one it is open again."""
    row = host_row(cluster, state, name)
    if row.maintenance == (reason or None):
        return Outcome()
    history = stamp.history("maintenance", name, reason or f"over; was: {row.maintenance}")
    return Outcome(Changes(hosts=(dataclasses.replace(row, maintenance=reason or None),), history=(history,)))


def release(state: LedgerState, names: t.Sequence[str] | None, stamp: Stamp, quarantine: int) -> Outcome:
    """Release leaving guests without a HostOS's proof: those of fenced hosts, and those that never had one.

    `names` None: all of them. Raises Refused for a named guest that needs the proof of its HostOS.
    """
    leaving = [row for row in state.guests.values() if row.state == "leaving"]
    rows = leaving if names is None else guests_named(state, names)
    errors, chosen = [], []
    for row in rows:
        obstacle = _why_not_release(state, row)
        if not obstacle:
            chosen.append(row)
        elif names is not None:
            errors.append(f"guest {row.name}: {obstacle}")
    if errors:
        raise Refused(errors)
    nics_of = nics_by_guest(state)
    pairs = [released(row, nics_of.get(row.uuid, ()), stamp, quarantine) for row in chosen]
    changes = Changes(
        guests=tuple(guest for guest, _nics in pairs),
        nics=tuple(nic for _guest, nics in pairs for nic in nics),
        history=tuple(
            stamp.history(
                "release",
                row.name,
                f"left the definition; {row.host or 'no host'} is fenced"
                if row.host
                else "left the definition and never had a host",
            )
            for row in chosen
        ),
    )
    return Outcome(changes, {"released": sorted(row.name for row in chosen)})


def _why_not_release(state: LedgerState, row: GuestRow) -> str:
    if row.state != "leaving":
        return (
            f"it is {row.state}; only a guest that left the definition (leaving) is released: take it out and `assign`"
        )
    if row.uuid in state.moves:
        return f"move {state.moves[row.uuid].id} is in flight; run oscarv.virt.settle"
    host = state.hosts.get(row.host) if row.host else None
    if row.host and not (host and host.fenced):
        return f"{row.host} must prove that it is gone (oscarv.virt.deploy), or be fenced first (`operation: fence`)"
    return ""
