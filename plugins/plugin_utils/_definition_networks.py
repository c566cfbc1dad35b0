# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of the model, and how many addresses they have for guests."""

from __future__ import annotations

import typing as t

from ._definition_errors import short
from ._definition_kinds import Record
from ._definition_sections import at
from ._definition_yaml import Context
from ._model import IPAddress, IPNetwork, Network


def build_networks(records: t.Mapping[str, Record], context: Context) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    for name, record in records.items():
        network = Network(
            name=name,
            bridge=record.get("bridge", "?"),
            ranges=record.get("ranges", ()),
            vlan=record.get("vlan"),
            mtu=record.get("mtu"),
            gateway=record.get("gateway", ()),
            reserved=record.get("reserved", ()),
            nameservers=record.get("nameservers", ()),
            realm=record.get("realm", "default"),
            where=record.where(),
        )
        if "ranges" in record:
            _check_addresses(network, record, context)
        if len(network.device) > 15:
            context.error_at(
                record.where("vlan"), network.device, "the bridge of the VLAN has more than 15 characters; rename it"
            )
        for other in networks.values():
            _check_pair(network, other, record, context)
        networks[name] = network
    return networks


def _check_addresses(network: Network, record: Record, context: Context) -> None:
    ranges = ", ".join(map(str, network.ranges))
    for index, one in enumerate(network.ranges):
        for other in network.ranges[:index]:
            if overlap(one, other):
                context.error_at(record.where("ranges"), str(one), f"overlaps {other}")
    for gateway in network.gateway:
        home = subnet_of(gateway, network)
        if home is None:
            context.error_at(record.where("gateway"), str(gateway), f"is outside the ranges {ranges}")
        elif not is_usable(gateway, home):
            context.error_at(record.where("gateway"), str(gateway), f"is no address for a machine in {home}")
    if len({gateway.version for gateway in network.gateway}) < len(network.gateway):
        context.error_at(record.where("gateway"), None, "more than one gateway of one address family")
    for first, last in network.reserved:
        home = subnet_of(first, network)
        if home is None or last not in home:
            context.error_at(record.where("reserved"), f"{first}-{last}", f"is outside the ranges {ranges}")


def _check_pair(network: Network, other: Network, record: Record, context: Context) -> None:
    """Two networks of one realm share no address; two that share a device agree about it."""
    if network.realm == other.realm:
        for one in network.ranges:
            for two in other.ranges:
                if overlap(one, two):
                    first = at(other.where) if other.where else "elsewhere"
                    message = (
                        f"overlaps {two} of network {other.name!r} ({first});"
                        " networks that do not see each other need a 'realm' of their own"
                    )
                    context.error_at(record.where("ranges"), str(one), message)
    if network.device == other.device and None not in (network.mtu, other.mtu) and network.mtu != other.mtu:
        message = f"network {other.name!r} is on the same device {network.device} with mtu {other.mtu}"
        context.error_at(record.where("mtu"), network.mtu, message)
    if network.device == other.device and network.vlan != other.vlan:
        message = f"{short(network.device)} is the device of network {other.name!r} already; rename a bridge"
        context.error_at(record.where("bridge"), network.bridge, message)


def overlap(one: IPNetwork, two: IPNetwork) -> bool:
    return one.version == two.version and one.overlaps(t.cast(t.Any, two))


def subnet_of(address: IPAddress, network: Network) -> IPNetwork | None:
    """The range of the network that holds the address."""
    return next((one for one in network.ranges if one.version == address.version and address in one), None)


def bounds(subnet: IPNetwork) -> tuple[int, int]:
    """First and last address for machines, as integers: not the network's own, and no IPv4 broadcast address."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return first, last  # point-to-point links and single addresses use them all
    return first + 1, last - (1 if subnet.version == 4 else 0)


def is_usable(address: IPAddress, subnet: IPNetwork) -> bool:
    first, last = bounds(subnet)
    return first <= int(address) <= last


def blocked_spans(network: Network, version: int) -> list[tuple[int, int]]:
    """Addresses of a family that are never given out by themselves, as merged spans of integers, in order.

    Reserved ones, gateways and name servers; both ends are included.
    """
    spans = [(int(first), int(last)) for first, last in network.reserved if first.version == version]
    machines = [*network.gateway, *network.nameservers]
    spans += [(int(address), int(address)) for address in machines if address.version == version]
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def free_count(network: Network, version: int) -> int | None:
    """How many addresses of a family `assign` may give out; None where the network has no range of the family."""
    subnets = [one for one in network.ranges if one.version == version]
    if not subnets:
        return None
    total = 0
    for subnet in subnets:
        low, high = bounds(subnet)
        total += high - low + 1
        for first, last in blocked_spans(network, version):
            total -= max(0, min(high, last) - max(low, first) + 1)
    return total


def is_blocked(address: IPAddress, network: Network) -> bool:
    """Whether `assign` would never give the address out by itself."""
    return any(first <= int(address) <= last for first, last in blocked_spans(network, address.version))


def check_room(networks: t.Mapping[str, Network], wanted: t.Mapping[tuple[str, int], int], context: Context) -> None:
    """Refuse a network that is too small. `wanted`: (network, family) -> addresses that `assign` has to find."""
    for (name, version), count in wanted.items():
        free = free_count(networks[name], version)
        if free is not None and count > free and networks[name].where is not None:
            ranges = ", ".join(str(one) for one in networks[name].ranges if one.version == version)
            context.error_at(
                t.cast(t.Any, networks[name].where),
                None,
                f"too small for its guests: they need {count} addresses of {ranges}, {free} are free for them",
            )
