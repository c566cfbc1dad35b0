# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules and images of the model, and whether what is said over a level of enclosures can mean anything."""

from __future__ import annotations

import typing as t

from ._definition_kinds import Record
from ._definition_sections import some
from ._definition_yaml import Context, holds_vaulted
from ._model import Guest, GuestPartition, Host, HostPartition, Image, Rule, Where


def build_rules(
    records: t.Sequence[Record],
    guests: t.Mapping[str, Guest],
    hosts: t.Mapping[str, Host],
    partitions: t.Mapping[str, HostPartition],
    context: Context,
    *,
    complete: bool,
) -> tuple[Rule, ...]:
    """`complete`: all guests and HostOSes are known; where not, an unknown name says nothing."""
    rules = []
    for record in records:
        kind = record["kind"]
        names = record.get(kind, ())
        unknown = [name for name in names if name not in guests]
        if unknown and complete:
            context.error_at(record.where(kind), some(unknown), "no guest of this cluster")
        if kind == "pin":
            _check_pin(record, [guests[name] for name in names if name in guests], hosts, context, complete)
        elif len(names) == 1:
            context.error_at(record.where(kind), names[0], "a rule between guests needs two of them")
        over = record.get("over", "host")
        rules.append(Rule(kind, names, over, record.get("to", ()), record.get("soft", False), record.where(kind)))
        known = [guests[name] for name in names if name in guests]
        on = dict.fromkeys(name for guest in known for name in guest.on)
        check_level(over, on, partitions, hosts, record.where("over"), context)
    return tuple(rules)


def _check_pin(
    record: Record, guests: t.Sequence[Guest], hosts: t.Mapping[str, Host], context: Context, complete: bool
) -> None:
    targets = record.get("to", ())
    unknown = [name for name in targets if name not in hosts]
    if unknown and complete:
        context.error_at(record.where("to"), some(unknown), "no HostOS of this cluster")
    for guest in guests:
        outside = [name for name in targets if name in hosts and hosts[name].partition not in guest.on]
        if outside:
            message = f"guest {guest.name} may run on {', '.join(guest.on)} only"
            context.error_at(record.where("to"), some(outside), message)
            return


def check_level(
    level: str,
    on: t.Iterable[str],
    partitions: t.Mapping[str, HostPartition],
    hosts: t.Mapping[str, Host],
    where: Where,
    context: Context,
) -> None:
    """Refuse a level that some of the HostOSes do not stand in: nobody could say what holds for guests there."""
    if not any(level == step for host in hosts.values() for step, _name in host.enclosures):
        return  # `host`, or a level that does not exist, which is an error of its own
    for name in on:
        members = partitions[name].members if name in partitions else ()
        outside = [host for host in members if host in hosts and level not in dict(hosts[host].enclosures)]
        if outside:
            context.error_at(where, level, f"no {level} holds {some(outside)} of host partition {name!r}")


def check_partitions(
    partitions: t.Mapping[str, GuestPartition],
    records: t.Mapping[str, Record],
    host_partitions: t.Mapping[str, HostPartition],
    hosts: t.Mapping[str, Host],
    context: Context,
) -> None:
    """`spread` and `tolerate` of guest partitions over levels that all their HostOSes have."""
    for name, partition in partitions.items():
        if partition.spread is not None:
            where = records[name].where("spread")
            check_level(partition.spread.level, partition.on, host_partitions, hosts, where, context)
        for item in records[name].get("tolerate", ()):
            check_level(item.get("of", "host"), partition.on, host_partitions, hosts, item.where("of"), context)


def build_images(records: t.Mapping[str, Record], context: Context) -> dict[str, Image]:
    for record in records.values():
        if "vars" in record and holds_vaulted(record["vars"]):
            message = "holds a !vault value; what a role writes into an image is there for everybody who has the image"
            context.error_at(record.where("vars"), None, message)
    return {
        name: Image(
            name,
            record.get("builder", "?"),
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in record.items()
                if key != "builder"
            },
            record.where(),
        )
        for name, record in records.items()
    }
