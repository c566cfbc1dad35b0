# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster and its ledger as hosts, groups and variables: plain data, no Ansible.

What all members of a group share is a variable of the group, so that it costs nothing per host. Absent guests are not
shown. Nothing here was told by a guest; what a HostOS told (a host key) is used only if it is what it should be.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._definition_values import group_name
from ._ledger_rows import LedgerState
from ._model import Cluster, Guest, GuestPartition, Host, Network, Pool

_KEY = re.compile(r"^ssh-ed25519 [A-Za-z0-9+/]{20,200}={0,2}$")
_ADDRESS = re.compile(r"^[0-9a-fA-F:.]{2,45}$")
#: No file is needed to know the key, so that it works under AWX, where a job sees no folder but its own.
_SSH = (
    '-o HostKeyAlias={name} -o KnownHostsCommand="/bin/echo {name} {key}" -o UserKnownHostsFile=/dev/null'
    " -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
)

Vars = dict[str, t.Any]


@dataclasses.dataclass
class ViewGroup:
    vars: Vars = dataclasses.field(default_factory=dict)
    children: list[str] = dataclasses.field(default_factory=list)
    hosts: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class View:
    groups: dict[str, ViewGroup]  #: `all` holds only variables
    hosts: dict[str, Vars]  #: HostOSes first, then guests


def view(cluster: Cluster, state: LedgerState) -> View:
    """Everything that the inventory shows."""
    groups = {"all": ViewGroup({"oscarv_definition": cluster.definition, "oscarv_cluster": cluster.name})}
    hosts: dict[str, Vars] = {}
    _add_hosts(cluster, groups, hosts)
    _add_enclosures(cluster, groups)
    _add_guests(cluster, state, groups, hosts)
    return View(groups, hosts)


def _add_hosts(cluster: Cluster, groups: dict[str, ViewGroup], hosts: dict[str, Vars]) -> None:
    top = groups["oscarv_hostos"] = ViewGroup(
        {
            "oscarv_pools": [_pool(pool) for pool in cluster.pools.values()],
            "oscarv_networks": [_network(network) for network in cluster.networks.values()],
        }
    )
    external = [host.name for host in cluster.hosts.values() if host.external]
    if external:
        groups["oscarv_external"] = ViewGroup({"oscarv_external": True}, hosts=external)
    for partition in cluster.host_partitions.values():
        name = group_name("partition", partition.name)
        variables = {"oscarv_partition": partition.name, "oscarv_hypervisor": partition.hypervisor}
        groups[name] = ViewGroup(variables, hosts=list(partition.members))
        top.children.append(name)
        groups.setdefault(group_name("hypervisor", partition.hypervisor), ViewGroup()).children.append(name)
    for host in cluster.hosts.values():
        hosts[host.name] = _host(host)


def _host(host: Host) -> Vars:
    return {"oscarv_enclosures": dict(host.enclosures)} if host.enclosures else {}


def _pool(pool: Pool) -> Vars:
    return {"name": pool.name, "type": pool.type, "path": pool.path, "source": pool.source, "shared": pool.shared}


def _network(network: Network) -> Vars:
    return {
        "name": network.name,
        "bridge": network.bridge,
        "vlan": network.vlan,
        "mtu": network.mtu,
        "device": network.device,
    }


def _add_enclosures(cluster: Cluster, groups: dict[str, ViewGroup]) -> None:
    for enclosure in cluster.enclosures.values():
        groups[group_name("enclosure", enclosure.name)] = ViewGroup(
            hosts=[name for name in enclosure.members if name in cluster.hosts]
        )
    for enclosure in cluster.enclosures.values():
        if enclosure.parent is not None:
            parent = groups[group_name("enclosure", enclosure.parent)]
            parent.children.append(group_name("enclosure", enclosure.name))


def _add_guests(cluster: Cluster, state: LedgerState, groups: dict[str, ViewGroup], hosts: dict[str, Vars]) -> None:
    top = groups["oscarv_guest"] = ViewGroup()
    unplaced = groups["oscarv_unplaced"] = ViewGroup()
    on = {name: groups.setdefault(group_name("on", name), ViewGroup()).hosts for name in cluster.hosts}
    rows = {row.name: row for row in state.guests.values() if row.state != "released"}
    addresses = _first_addresses(state)
    for partition in cluster.guest_partitions.values():
        shown = [cluster.guests[name] for name in partition.members if cluster.guests[name].state != "absent"]
        name = group_name("partition", partition.name)
        common = _partition(partition, shown)
        groups[name] = ViewGroup(common, hosts=[guest.name for guest in shown])
        top.children.append(name)
        for guest in shown:
            variables = hosts[guest.name] = _own(guest, common)
            row = rows.get(guest.name) or rows.get(guest.renamed_from or "")
            if row is None or row.host is None:
                unplaced.hosts.append(guest.name)
            else:
                variables["oscarv_host"] = row.host
                if row.host not in on:  # a HostOS that left the definition while guests are on it
                    on[row.host] = groups.setdefault(group_name("on", row.host), ViewGroup()).hosts
                on[row.host].append(guest.name)
            if row is not None:
                variables["oscarv_uuid"] = row.uuid
                if row.uuid in addresses:
                    variables["ansible_host"] = addresses[row.uuid]
                key = state.host_keys.get(row.uuid)
                if key is not None and _KEY.fullmatch(key.key):
                    variables["oscarv_host_key"] = key.key
                    variables["ansible_ssh_common_args"] = _SSH.format(name=guest.name, key=key.key)


def _partition(partition: GuestPartition, shown: t.Sequence[Guest]) -> Vars:
    """Variables of a guest partition's group. State and image are those of most of its guests."""
    states = [guest.state for guest in shown]
    return {
        "oscarv_partition": partition.name,
        "oscarv_image": partition.image,
        "oscarv_roles": list(partition.roles),
        "oscarv_state": max(dict.fromkeys(states), key=states.count) if states else "running",
        "ansible_user": "root",
    }


def _own(guest: Guest, common: t.Mapping[str, t.Any]) -> Vars:
    """What a guest has otherwise than its partition."""
    own = {"oscarv_state": guest.state, "oscarv_image": guest.image}
    return {key: value for key, value in own.items() if common[key] != value}


def _first_addresses(state: LedgerState) -> dict[str, str]:
    """Guest uuid -> the first address of its first NIC that has one."""
    first: dict[str, tuple[int, str]] = {}
    for nic in state.nics.values():
        if nic.position >= 0 and nic.addresses and nic.free_after is None and _ADDRESS.fullmatch(nic.addresses[0]):
            known = first.get(nic.guest)
            if known is None or nic.position < known[0]:
                first[nic.guest] = (nic.position, nic.addresses[0])
    return {uuid: address for uuid, (_position, address) in first.items()}
