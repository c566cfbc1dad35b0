# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a definition: `load(path)` gives the Cluster, or raises DefinitionErrors with everything that is wrong.

Reading is in two steps: each file key by key against the table (`_definition_table`), then all of it against
each other. Both collect errors and go on, so that one run shows every error.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import typing as t

from . import _definition_hosts as host_part
from ._definition_errors import DefinitionError, DefinitionErrors, meant
from ._definition_guests import Surroundings, build_guests, build_partitions
from ._definition_networks import build_networks, check_room
from ._definition_nics import Wishes
from ._definition_rules import build_images, build_rules, check_partitions
from ._definition_sections import ROOT_SUFFIX, Sections, at, read
from ._definition_table import CONSTRUCTED, DEFAULT_LEDGER
from ._definition_uses import Foreign, check_networks, read_uses
from ._definition_values import group_name
from ._definition_yaml import Context
from ._model import Cluster, Enclosure, Host, HostPartition, Pool, Where

__all__ = ["DefinitionError", "DefinitionErrors", "load"]


def load(path: str) -> Cluster:
    """The expanded, checked definition of a root file. Raises DefinitionErrors and nothing else."""
    context = Context()
    sections = None
    if path.endswith(ROOT_SUFFIX):
        sections = read(path, context)
    else:
        context.error_at(Where(path, 1, "(file)"), None, f"a definition is named *{ROOT_SUFFIX}")
    cluster = None if sections is None else _build(sections, context)
    if context.errors or cluster is None:
        raise DefinitionErrors(context.errors)
    return cluster


def absolute(path: str) -> str:
    return os.path.normpath(pathlib.Path(path).absolute())


def _build(sections: Sections, context: Context) -> Cluster:
    foreign = read_uses(sections, context)
    pools, partitions, hosts, enclosures = _host_parts(sections, foreign, context)
    networks = build_networks(sections.networks, context)
    check_networks(networks, foreign, context)
    guest_partitions = build_partitions(sections.guest_partitions, context)
    wishes = Wishes(networks, context)
    files = [*sections.files, *foreign.files]
    guests = build_guests(sections.guest_partitions, Surroundings(pools, partitions, hosts, wishes, context, files))
    check_room(networks, wishes.wanted, context)
    check_partitions(guest_partitions, sections.guest_partitions, partitions, hosts, context)
    complete = sections.complete(context)
    rules = build_rules(sections.rules, guests, hosts, partitions, context, complete=complete)
    images = build_images(sections.images, context)
    _check_references(sections, networks, pools, partitions, enclosures, context)
    _check_group_names(sections, hosts, partitions, enclosures, context)
    root = sections.root
    return Cluster(
        name=root.get("cluster", "?"),
        definition=absolute(sections.files[0]),
        ledger=root.get("ledger", DEFAULT_LEDGER),
        networks=networks,
        pools=pools,
        enclosures=enclosures,
        host_partitions=partitions,
        guest_partitions=guest_partitions,
        hosts=hosts,
        guests=guests,
        rules=rules,
        images=images,
        max_release=root.get("max_release", 0.1),
        quarantine=root.get("quarantine", 3600),
        files=tuple(map(absolute, files)),
        constructed=any(key in root.lines for key in CONSTRUCTED),
    )


def _host_parts(
    sections: Sections, foreign: Foreign, context: Context
) -> tuple[dict[str, Pool], dict[str, HostPartition], dict[str, Host], dict[str, Enclosure]]:
    """Pools, host partitions, hosts and enclosures: this cluster's own and those that it uses."""
    own = host_part.build_pools(sections.pools, context)
    for name in own.keys() & foreign.pools.keys():
        if dataclasses.replace(own[name], where=None) != dataclasses.replace(foreign.pools[name], where=None):
            context.error_at(sections.pools[name].place, name, "is another pool in a cluster that this one uses")
    pools = {**foreign.pools, **own} or {"local": host_part.default_pool()}
    mine = host_part.build_host_partitions(sections.host_partitions, pools, context)
    hosts = host_part.build_hosts(mine, sections.host_partitions, context)
    for name in hosts.keys() & foreign.hosts.keys():
        where = sections.host_partitions[hosts[name].partition].where("members")
        context.error_at(where, name, "is a HostOS of a cluster that this one uses")
    enclosures = host_part.build_enclosures(sections.enclosures)
    for section, names, others in (
        (sections.host_partitions | sections.guest_partitions, "partition", foreign.partitions),
        (sections.enclosures, "enclosure", foreign.enclosures),
    ):
        for name in section.keys() & others.keys():
            context.error_at(section[name].place, name, f"is a {names} of a cluster that this one uses")
    enclosures = {**foreign.enclosures, **enclosures}
    hosts = {**foreign.hosts, **hosts}
    chains = host_part.check_enclosures(enclosures, sections.enclosures, context)
    known = sections.complete(context)
    hosts = host_part.place_hosts(hosts, enclosures, chains, sections.enclosures, context, complete=known)
    return pools, {**foreign.partitions, **mine}, hosts, enclosures


def _check_references(
    sections: Sections,
    networks: t.Mapping[str, t.Any],
    pools: t.Mapping[str, Pool],
    partitions: t.Mapping[str, HostPartition],
    enclosures: t.Mapping[str, Enclosure],
    context: Context,
) -> None:
    """Every name that is used must be the name of something."""
    known: dict[str, t.Collection[str]] = {
        "network": networks,
        "pool": pools,
        "image": sections.images,
        "enclosure": enclosures,
        "level": host_part.levels_of(enclosures),
        "host partition": partitions,
    }
    section_of = {"network": "networks", "pool": "pools", "image": "images", "enclosure": "enclosures"}
    for kind, name, where in context.references:
        if name in known[kind] or name in context.dropped.get(section_of.get(kind, "partitions"), ()):
            continue
        if kind == "level" and context.dropped.get("enclosures"):
            continue  # it may be the level of an enclosure that could not be read
        if kind == "host partition" and name in sections.guest_partitions:
            context.error_at(where, name, "is a partition of guests; guests run on host partitions")
        else:
            context.error_at(where, name, f"no {kind} of this name; {meant(name, known[kind])}")


def _check_group_names(
    sections: Sections,
    hosts: t.Mapping[str, Host],
    partitions: t.Mapping[str, HostPartition],
    enclosures: t.Mapping[str, Enclosure],
    context: Context,
) -> None:
    """Names that differ only in '-', '.' and '_' would be one group of the inventory."""
    sources: list[tuple[str, str, Where | None]] = []
    sources += [("partition", name, part.where) for name, part in partitions.items()]
    sources += [("partition", name, record.place) for name, record in sections.guest_partitions.items()]
    sources += [("enclosure", name, enclosure.where) for name, enclosure in enclosures.items()]
    sources += [("on", name, partitions[host.partition].where) for name, host in hosts.items()]
    seen: dict[str, tuple[str, Where | None]] = {}
    for kind, name, where in sources:
        group = group_name(kind, name)
        other, place = seen.setdefault(group, (name, where))
        if other != name and where is not None and place is not None:
            message = f"and {other!r} ({at(place)}) would be the same inventory group {group}; rename one"
            context.error_at(where, name, message)
