# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest partitions and guests of the model, from checked sections."""

from __future__ import annotations

import dataclasses
import typing as t

from ._definition_hosts import RESERVED_NAMES
from ._definition_kinds import Record
from ._definition_nics import Wishes
from ._definition_ranges import RangeError, expand
from ._definition_sections import at, some
from ._definition_seed import check_cloud_init, read_keys
from ._definition_yaml import Context
from ._model import DiskDef, Guest, GuestPartition, Host, HostPartition, Pool, Spread, Tolerate, Where

#: Keys whose value a guest takes as it stands.
_SIMPLE = ("image", "on", "vcpus", "memory", "state", "cpu_model", "firmware", "xen_type", "autostart", "renamed_from")


@dataclasses.dataclass
class Surroundings:
    """What guests refer to, and what is collected while they are made."""

    pools: t.Mapping[str, Pool]
    host_partitions: t.Mapping[str, HostPartition]
    hosts: t.Mapping[str, Host]
    wishes: Wishes
    context: Context
    files: list[str]  #: key files are added


class View:
    """A guest's keys: those of its overrides before those of its partition."""

    def __init__(self, *records: Record) -> None:
        self.records = records

    def holder(self, key: str) -> Record:
        return next((record for record in self.records if key in record.lines), self.records[-1])

    def get(self, key: str, default: t.Any = None) -> t.Any:
        return self.holder(key).get(key, default)

    def has(self, key: str) -> bool:
        return key in self.holder(key).lines

    def where(self, key: str) -> Where:
        return self.holder(key).where(key)


def build_partitions(records: t.Mapping[str, Record], context: Context) -> dict[str, GuestPartition]:
    partitions = {}
    for name, record in records.items():
        if record.get("soft") and "spread" not in record.lines:
            context.error_at(record.where("soft"), None, "says how 'spread' is meant, and there is no 'spread'")
        spread = Spread(record["spread"], record.get("soft", False)) if "spread" in record else None
        partitions[name] = GuestPartition(
            name=name,
            image=record.get("image", ""),
            on=record.get("on", ()),
            members=record.get("members", ()),
            spread=spread,
            tolerate=tuple(
                Tolerate(item.get("lose", 1), item.get("of", "host")) for item in record.get("tolerate", ())
            ),
            roles=record.get("roles", ()),
            where=record.where(),
        )
    return partitions


def build_guests(records: t.Mapping[str, Record], around: Surroundings) -> dict[str, Guest]:
    """Every guest of every partition, in the order of the definition."""
    guests: dict[str, Guest] = {}
    for name, record in records.items():
        members = _new_names(name, record, records, guests, around)
        overrides = _overrides(record, around.context)
        model = _model(name, record, around)
        own_nics = {name for name, own in overrides.items() if any("networks" in each.lines for each in own)}
        common = [member for member in members if member not in own_nics]
        nics = around.wishes.take(common, record.get("networks", ()), record.where("networks"))
        model = dataclasses.replace(model, networks=nics)
        for member in members:
            own = overrides.get(member)
            guest = _named(model, member)
            guests[member] = _overridden(guest, View(*own, record), around) if own else guest
    _check_renames(guests, around)
    return guests


def _new_names(
    name: str,
    record: Record,
    records: t.Mapping[str, Record],
    guests: t.Mapping[str, Guest],
    around: Surroundings,
) -> list[str]:
    """The members that nothing else is called; an error for the others."""
    where = record.where("members")
    members: list[str] = []
    doubled: dict[str, list[str]] = {}
    for member in record.get("members", ()):
        if member in guests:
            doubled.setdefault(guests[member].partition, []).append(member)
        elif member in around.hosts:
            around.context.error_at(where, member, "is the name of a HostOS; hosts and guests share one name space")
        elif member in RESERVED_NAMES or member == "localhost":
            around.context.error_at(where, member, "means something else to Ansible; take another name")
        else:
            members.append(member)
    for other, names in doubled.items():
        first = at(records[other].where("members"))
        message = f"already in guest partition {other!r} ({first}); a guest is in one partition"
        around.context.error_at(where, some(names), message)
    return members


def _overrides(record: Record, context: Context) -> dict[str, list[Record]]:
    """Guest -> its overrides. A range may stand for several guests; two entries must not give the same key."""
    members = set(record.get("members", ()))
    found: dict[str, list[Record]] = {}
    for text, own in record.get("override", {}).items():
        try:
            names = expand(text)
        except RangeError as error:
            context.error_at(own.place, text, str(error))
            continue
        strangers = [name for name in names if name not in members]
        if strangers and "members" in record:
            context.error_at(own.place, some(strangers), "not among the members of this partition")
        if "renamed_from" in own and len(names) > 1:
            message = "one name cannot become several guests"
            context.error_at(own.where("renamed_from"), own.pop("renamed_from"), message)
        for name in names:
            for other in found.setdefault(name, []):
                both = sorted(set(own.lines) & set(other.lines))
                if both:
                    message = f"{both[0]!r} of guest {name} is overridden twice, first in {at(other.place)}"
                    context.error_at(own.where(both[0]), None, message)
            found[name].append(own)
    return found


def _model(name: str, record: Record, around: Surroundings) -> Guest:
    """A guest as the partition describes it, still without name and NICs."""
    view = View(record)
    return Guest(
        name="",
        partition=name,
        on=record.get("on", ()),
        image=record.get("image", ""),
        vcpus=record.get("vcpus", 1),
        memory=record.get("memory", 0),
        disks=_disks(view, around),
        networks=(),
        state=record.get("state", "running"),
        cpu_model=record.get("cpu_model", "default"),
        firmware=record.get("firmware", "bios"),
        xen_type=record.get("xen_type"),
        autostart=record.get("autostart", True),
        authorized_keys=_keys(view, around),
        cloud_init=_cloud_init(view, around),
        where=record.where("members"),
    )


def _named(model: Guest, name: str) -> Guest:
    """A copy under another name. Ten thousand calls of `dataclasses.replace` would be half of the loading time."""
    guest = object.__new__(Guest)
    guest.__dict__.update(model.__dict__, name=name)
    return guest


def _overridden(guest: Guest, view: View, around: Surroundings) -> Guest:
    """The guest with its own values; what no override touches is shared with the whole partition."""
    own = {key for record in view.records[:-1] for key in record.lines}
    changes: dict[str, t.Any] = {key: view.get(key) for key in _SIMPLE if key in own and view.get(key) is not None}
    if own & {"disk", "disks", "pool", "on"}:
        changes["disks"] = _disks(view, around)
    if "networks" in own:
        records = view.get("networks", ())
        changes["networks"] = around.wishes.take([guest.name], records, view.where("networks"))
    if "authorized_keys" in own:
        changes["authorized_keys"] = _keys(view, around)
    if "cloud_init" in own:
        changes["cloud_init"] = _cloud_init(view, around)
    return dataclasses.replace(guest, where=view.records[0].place, **changes)


def _disks(view: View, around: Surroundings) -> tuple[DiskDef, ...]:
    pool = view.get("pool") or _root_pool(view, around)
    disks = [_disk("root", view.get("disk", 0), pool, around)]
    for record in view.get("disks", ()):
        name = record.get("name", "?")
        if any(disk.name == name for disk in disks):
            message = "is the root disk; its size is 'disk'" if name == "root" else "is the name of another disk"
            around.context.error_at(record.where("name"), name, message)
        disks.append(
            _disk(name, record.get("size", 0), record.get("pool", pool), around, record.get("format", "qcow2"))
        )
    return tuple(disks)


def _disk(name: str, size: int, pool: str, around: Surroundings, format_: str = "qcow2") -> DiskDef:
    return DiskDef(name, size, pool, pool in around.pools and around.pools[pool].shared, format_)


def _root_pool(view: View, around: Surroundings) -> str:
    """The pool that all host partitions in `on` have for root disks."""
    if view.has("pool"):
        return "local"  # was bad, and is an error already
    partitions = [around.host_partitions[name] for name in view.get("on", ()) if name in around.host_partitions]
    pools = dict.fromkeys(partition.pool for partition in partitions)
    if len(pools) > 1:
        said = ", ".join(f"{partition.name} has {partition.pool!r}" for partition in partitions)
        around.context.error_at(view.where("on"), None, f"the pool for root disks differs ({said}); say 'pool' here")
    return next(iter(pools), "local")


def _keys(view: View, around: Surroundings) -> tuple[str, ...]:
    keys = view.get("authorized_keys", ())
    return read_keys(keys, view.where("authorized_keys"), around.files, around.context)


def _cloud_init(view: View, around: Surroundings) -> dict[str, t.Any]:
    data = view.get("cloud_init") or {}
    check_cloud_init(data, view.where("cloud_init"), around.context)
    return data


def _check_renames(guests: t.Mapping[str, Guest], around: Surroundings) -> None:
    former: dict[str, str] = {}
    for guest in guests.values():
        name = guest.renamed_from
        if name is None or guest.where is None:
            continue
        where = Where(guest.where.file, guest.where.line, f"{guest.where.path}.renamed_from")
        if name in guests or name in around.hosts:
            around.context.error_at(where, name, "still exists in the definition; a former name must be free")
        elif former.setdefault(name, guest.name) != guest.name:
            around.context.error_at(where, name, f"was renamed to guest {former[name]} already")
