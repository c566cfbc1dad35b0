# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host partitions of other clusters, which `uses:` lends to this one, read-only."""

from __future__ import annotations

import dataclasses
import os

from ._definition_hosts import host_sections
from ._definition_networks import build_networks, overlap
from ._definition_sections import ROOT_SUFFIX, Sections, at, beside, read
from ._definition_yaml import Context
from ._model import Enclosure, Host, HostPartition, Network, Pool


@dataclasses.dataclass
class Foreign:
    """What other clusters lend."""

    pools: dict[str, Pool] = dataclasses.field(default_factory=dict)
    partitions: dict[str, HostPartition] = dataclasses.field(default_factory=dict)
    hosts: dict[str, Host] = dataclasses.field(default_factory=dict)
    enclosures: dict[str, Enclosure] = dataclasses.field(default_factory=dict)
    networks: list[tuple[str, Network]] = dataclasses.field(default_factory=list)  #: (cluster, network)
    files: list[str] = dataclasses.field(default_factory=list)


def read_uses(sections: Sections, context: Context) -> Foreign:
    """Read the host sections of every used cluster; what those use themselves is not passed on."""
    foreign = Foreign()
    where = sections.root.where("uses")
    root = sections.files[0]
    for path in sections.root.get("uses", ()):
        name = beside(root, path)
        if not name.endswith(ROOT_SUFFIX):
            context.error_at(where, path, f"expected the root file of a cluster, *{ROOT_SUFFIX}")
        elif any(os.path.realpath(name) == os.path.realpath(file) for file in [root, *foreign.files]):
            context.error_at(where, path, "a cluster does not use itself, nor another one twice")
        else:
            _add(name, sections, foreign, context)
    return foreign


def _add(name: str, sections: Sections, foreign: Foreign, context: Context) -> None:
    inner = Context()
    other = read(name, inner)
    if other is not None:
        pools, partitions, hosts, enclosures = host_sections(other, inner)
        where = sections.root.where("uses")
        cluster = other.root.get("cluster", "?")
        if cluster == sections.root.get("cluster"):
            context.error_at(where, name, f"is called {cluster!r} too; clusters have different names")
        _check_references(pools, enclosures, inner)
        for mine, theirs, what in (
            (foreign.partitions, partitions, "host partition"),
            (foreign.hosts, hosts, "HostOS"),
            (foreign.enclosures, enclosures, "enclosure"),
        ):
            for twice in sorted(set(mine) & set(theirs)):
                context.error_at(where, twice, f"is a {what} of two of the clusters that are used")
        for pool in pools.values():
            _add_pool(pool, foreign.pools, name, sections, context)
        foreign.partitions.update(partitions)
        foreign.hosts.update({key: dataclasses.replace(host, external=True) for key, host in hosts.items()})
        foreign.enclosures.update(enclosures)
        foreign.networks.extend((cluster, network) for network in build_networks(other.networks, inner).values())
        foreign.files.extend(other.files)
    context.errors.extend(inner.errors)


def _check_references(pools: dict[str, Pool], enclosures: dict[str, Enclosure], inner: Context) -> None:
    """Only what is lent has to be right; the guests of the other cluster are its own affair."""
    for kind, name, where in inner.references:
        known: dict[str, dict[str, Pool] | dict[str, Enclosure]] = {"pool": pools, "enclosure": enclosures}
        if kind in known and name not in known[kind]:
            inner.error_at(where, name, f"no {kind} of this name")


def _add_pool(pool: Pool, pools: dict[str, Pool], file: str, sections: Sections, context: Context) -> None:
    """Pools of one name must be the same everywhere, since a guest's disks may be on either's HostOSes."""
    other = pools.get(pool.name)
    if other is not None and dataclasses.replace(other, where=None) != dataclasses.replace(pool, where=None):
        message = f"pool {pool.name!r} of {file} is another one than that of a cluster used before"
        context.error_at(sections.root.where("uses"), None, message)
    pools[pool.name] = pool


def check_networks(networks: dict[str, Network], foreign: Foreign, context: Context) -> None:
    """Two ledgers would give the same address twice, so clusters that share HostOSes do not share subnets."""
    for network in networks.values():
        for cluster, other in foreign.networks:
            clash = [one for one in network.ranges for two in other.ranges if overlap(one, two)]
            if clash and network.realm == other.realm and network.where and other.where:
                message = f"overlaps network {other.name!r} of cluster {cluster!r} ({at(other.where)})"
                context.error_at(network.where, str(clash[0]), f"{message}; each cluster needs subnets of its own")
