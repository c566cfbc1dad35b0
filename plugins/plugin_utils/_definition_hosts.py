# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host partitions, HostOSes, enclosures and pools of the model, from checked sections."""

from __future__ import annotations

import dataclasses
import typing as t

from ._definition_kinds import Record
from ._definition_sections import Sections, at, some
from ._definition_table import DEFAULT_POOL_PATH, resources
from ._definition_yaml import Context
from ._model import Enclosure, Host, HostPartition, Pool, Where

#: Names that mean something else to Ansible. A machine that is host and controller may be called localhost.
RESERVED_NAMES = frozenset(("all", "ungrouped"))


def build_pools(records: t.Mapping[str, Record], context: Context) -> dict[str, Pool]:
    pools: dict[str, Pool] = {}
    paths: dict[str, str] = {}
    for name, record in records.items():
        kind = record.get("type", "dir")
        if kind == "nfs" and "source" not in record.lines:
            context.error_at(record.where(), None, "a pool of type nfs needs 'source', such as nas:/export/oscarv")
        if kind == "dir" and "source" in record.lines:
            context.error_at(record.where("source"), record.get("source"), "only a pool of type nfs has a source")
        shared = record.get("shared", kind == "nfs")
        if kind == "nfs" and not shared:
            context.error_at(record.where("shared"), False, "a pool of type nfs is shared by all HostOSes")
        path = record.get("path", DEFAULT_POOL_PATH if name == "local" else f"{DEFAULT_POOL_PATH}-{name}")
        path = path.rstrip("/")
        if not path or ".." in path.split("/"):
            context.error_at(record.where("path"), record.get("path"), "expected the path of a folder, without '..'")
        if path in paths:
            context.error_at(record.where("path"), path, f"is the path of pool {paths[path]!r} already")
        paths.setdefault(path, name)
        pools[name] = Pool(name, kind, path, record.get("source"), shared, record.where())
    return pools


def default_pool() -> Pool:
    """The pool of a definition without `pools:`."""
    return Pool("local", "dir", DEFAULT_POOL_PATH)


def build_host_partitions(
    records: t.Mapping[str, Record], pools: t.Mapping[str, Pool], context: Context
) -> dict[str, HostPartition]:
    partitions = {}
    for name, record in records.items():
        pool = record.get("pool")
        if pool is None and "pool" not in record.lines:
            pool = "local" if "local" in pools else next(iter(pools)) if len(pools) == 1 else None
            if pool is None:
                context.error_at(
                    record.where(), None, f"key 'pool' is missing: there is no pool 'local'; one of {', '.join(pools)}"
                )
        partitions[name] = HostPartition(
            name=name,
            hypervisor=record.get("hypervisor", "kvm"),
            members=record.get("members", ()),
            overcommit_vcpus=record.get("overcommit", {}).get("vcpus", 1.0),
            reserve=resources(record.get("reserve")),
            capacity=resources(record["capacity"]) if "capacity" in record else None,
            pool=pool or "local",
            where=record.where(),
        )
        _check_reserve(record, partitions[name], context)
    return partitions


def _check_reserve(record: Record, partition: HostPartition, context: Context) -> None:
    if partition.capacity is None or "reserve" not in record:
        return
    for what in ("vcpus", "memory", "disk"):
        if getattr(partition.reserve, what) > getattr(partition.capacity, what):
            context.error_at(record.where("reserve"), None, f"reserves more {what} than the capacity has")


def build_hosts(
    partitions: t.Mapping[str, HostPartition], records: t.Mapping[str, Record], context: Context
) -> dict[str, Host]:
    """Every HostOS once, without its enclosures."""
    hosts: dict[str, Host] = {}
    for name, partition in partitions.items():
        where = records[name].where("members")
        doubled: dict[str, list[str]] = {}
        for member in partition.members:
            if member in RESERVED_NAMES or member.startswith("oscarv_"):
                context.error_at(where, member, "means something else to Ansible; take another name")
            if member in hosts:
                doubled.setdefault(hosts[member].partition, []).append(member)
            else:
                hosts[member] = Host(member, name, partition.hypervisor)
        for other, members in doubled.items():
            first = at(records[other].where("members"))
            message = f"already in host partition {other!r} ({first}); a HostOS is in one host partition"
            context.error_at(where, some(members), message)
    return hosts


def build_enclosures(records: t.Mapping[str, Record]) -> dict[str, Enclosure]:
    return {
        name: Enclosure(name, record.get("level", name), record.get("in"), record.get("members", ()), record.where())
        for name, record in records.items()
    }


def check_enclosures(
    enclosures: t.Mapping[str, Enclosure], records: t.Mapping[str, Record], context: Context
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Refuse loops and a level inside itself; return for each enclosure its chain (level, name), innermost first."""
    chains: dict[str, tuple[tuple[str, str], ...]] = {}
    looped: set[str] = set()
    inside: dict[str, dict[str, Where]] = {}  # level -> levels that it stands in
    for name, enclosure in enclosures.items():
        chain = [(enclosure.level, name)]
        parent = enclosure.parent
        while parent is not None and parent in enclosures:
            if parent in (step for _level, step in chain):
                path = [step for _level, step in chain]
                if parent == name and not looped & set(path):  # each loop once, and not from outside
                    context.error_at(
                        records[name].where("in"), enclosure.parent, f"is a loop: {' in '.join([*path, name])}"
                    )
                    looped.update(path)
                break
            chain.append((enclosures[parent].level, parent))
            parent = enclosures[parent].parent
        chains[name] = tuple(chain)
        if enclosure.level == "host":
            context.error_at(records[name].where("level"), "host", "'host' is the machine itself; take another word")
        if name in records and enclosure.parent is not None and enclosure.parent in enclosures:
            outer = enclosures[enclosure.parent].level
            inside.setdefault(enclosure.level, {}).setdefault(outer, records[name].where("in"))
    if not looped:
        _check_levels(inside, context)
    return chains


def _check_levels(inside: t.Mapping[str, t.Mapping[str, Where]], context: Context) -> None:
    """A level stands in others, never, by whatever way, in itself."""
    for level, outers in inside.items():
        for outer, where in outers.items():
            reached, todo = set(), [outer]
            while todo:
                step = todo.pop()
                if step not in reached:
                    reached.add(step)
                    todo.extend(inside.get(step, ()))
            if level in reached:
                message = f"level {level!r} would stand in level {level!r}; give one of the two another level"
                context.error_at(where, None, message)
                return  # the other levels of the same ring would only say it again


def place_hosts(
    hosts: t.Mapping[str, Host],
    enclosures: t.Mapping[str, Enclosure],
    chains: t.Mapping[str, tuple[tuple[str, str], ...]],
    records: t.Mapping[str, Record],
    context: Context,
    *,
    complete: bool,
) -> dict[str, Host]:
    """Hosts with their enclosures: a host may stand in several, one of each level.

    `complete`: the members of all partitions are known; where not, a host that is not found says nothing.
    """
    found: dict[str, dict[str, str]] = {name: dict(host.enclosures) for name, host in hosts.items()}
    for name, enclosure in enclosures.items():
        if name not in records:
            continue  # of another cluster; its hosts know it already
        where = records[name].where("members")
        unknown = [member for member in enclosure.members if member not in hosts]
        if unknown and complete:
            context.error_at(where, some(unknown), "in no host partition; an enclosure holds HostOSes")
        own = {step for _level, step in chains[name]}
        doubled: dict[tuple[str, str], list[str]] = {}
        for member in enclosure.members:
            if member in hosts:
                levels = found[member]
                for level, step in chains[name]:
                    other = levels.setdefault(level, step)
                    if other != step and other not in own:
                        doubled.setdefault((level, levels[level]), []).append(member)
        for (level, other), members in doubled.items():
            message = f"already in {other!r}, which is a {level} too; a host stands in one {level}"
            context.error_at(where, some(members), message)
    return {name: dataclasses.replace(host, enclosures=tuple(found[name].items())) for name, host in hosts.items()}


def levels_of(enclosures: t.Mapping[str, Enclosure]) -> list[str]:
    return ["host", *dict.fromkeys(enclosure.level for enclosure in enclosures.values())]


def host_sections(
    sections: Sections, context: Context
) -> tuple[dict[str, Pool], dict[str, HostPartition], dict[str, Host], dict[str, Enclosure]]:
    """Everything that another cluster may use: pools, host partitions, hosts in their enclosures, enclosures."""
    pools = build_pools(sections.pools, context) or {"local": default_pool()}
    partitions = build_host_partitions(sections.host_partitions, pools, context)
    hosts = build_hosts(partitions, sections.host_partitions, context)
    enclosures = build_enclosures(sections.enclosures)
    chains = check_enclosures(enclosures, sections.enclosures, context)
    known = sections.complete(context)
    hosts = place_hosts(hosts, enclosures, chains, sections.enclosures, context, complete=known)
    return pools, partitions, hosts, enclosures
