# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MACs and addresses: what is taken, and the next one that is free. Nothing here is random, so check mode is exact.

A MAC is 52 and five bytes of a hash of cluster, guest and network: locally administered, the same for every
hypervisor (a guest may move to another one), and with 40 bits of hash collisions are rare. Where one happens the next
hash is tried; so the result depends on what is taken, and is recorded.
"""

from __future__ import annotations

import hashlib
import ipaddress
import typing as t

from ._definition_networks import blocked_spans, bounds, subnet_of
from ._ledger_rows import LedgerState, NicRow
from ._model import Cluster, IPAddress, Network

MAC_PREFIX = "52"


def resting(nic: NicRow, now: str) -> bool:
    """Whether the quarantine of a released NIC is still going on. Times are UTC in one notation, so text compares."""
    return nic.free_after is not None and nic.free_after > now


def expired(nic: NicRow, now: str) -> bool:
    return nic.free_after is not None and nic.free_after <= now


class Addresses:
    """What is taken in the whole ledger, and what this decision takes."""

    def __init__(self, cluster: Cluster, state: LedgerState, now: str) -> None:
        self._cluster = cluster
        # Addresses are compared as Python's ipaddress writes them; the ledger has no other notation.
        self._holders: dict[tuple[str, str], NicRow | None] = {}  # realm, address -> who has it
        self._macs: set[str] = set(state.foreign_macs)
        self._expired: dict[tuple[str, str], str] = {}  # -> MAC of the row to be removed when it is given again
        self._expired_macs: set[str] = set()
        self._holders.update(dict.fromkeys(state.foreign_addresses))
        for nic in state.nics.values():
            self._read(nic, now)
        self._wished = {
            (cluster.networks[nic.network].realm, str(address)): guest.name
            for guest in cluster.guests.values()
            for nic in guest.networks
            for address in nic.ip
        }
        self._cursors: dict[tuple[str, int], t.Iterator[IPAddress]] = {}

    def _read(self, nic: NicRow, now: str) -> None:
        gone = expired(nic, now)
        if gone:
            self._expired_macs.add(nic.mac)
        else:
            self._macs.add(nic.mac)
        for text in nic.addresses:
            if gone:
                self._expired[nic.realm, text] = nic.mac
            else:
                self._holders[nic.realm, text] = nic

    # -- addresses ------------------------------------------------------------------------------------------------

    def free(self, realm: str, address: IPAddress, guest: str | None = None) -> bool:
        """Whether nobody has it; for a `guest` also whether the definition does not give it to another one."""
        key = (realm, str(address))
        return key not in self._holders and (guest is None or self._wished.get(key, guest) == guest)

    def holder(self, realm: str, address: IPAddress) -> NicRow | None:
        """Who has an address that is not free; None for another cluster of this ledger."""
        return self._holders[realm, str(address)]

    def take(self, nic: NicRow) -> None:
        """Note that a NIC has its MAC and addresses."""
        self._macs.add(nic.mac)
        for text in nic.addresses:
            self._holders[nic.realm, text] = nic

    def give_back(self, nic: NicRow) -> None:
        """A NIC that is about to be decided again may keep what it has."""
        self._macs.discard(nic.mac)
        for text in nic.addresses:
            self._holders.pop((nic.realm, text), None)

    def next(self, network: Network, version: int) -> IPAddress | None:
        """The lowest address of a family that is free, None where there is none left."""
        key = (network.name, version)
        if key not in self._cursors:
            self._cursors[key] = _walk(network, version)
        for address in self._cursors[key]:
            where = (network.realm, str(address))
            if where not in self._holders and where not in self._wished:
                return address
        return None

    def replaced(self, nics: t.Iterable[NicRow]) -> set[str]:
        """MACs of expired rows that stand in the way of these rows."""
        macs = set()
        for nic in nics:
            for text in nic.addresses:
                old = self._expired.get((nic.realm, text))
                if old and old != nic.mac:
                    macs.add(old)
        return macs

    # -- MACs -----------------------------------------------------------------------------------------------------

    def mac_taken(self, mac: str) -> bool:
        return mac in self._macs

    def new_mac(self, guest: str, network: Network, ordinal: int) -> str:
        """A free MAC. The ranges are hashed too: two clusters of one name on two sites do not share MACs."""
        ranges = ",".join(map(str, network.ranges))
        for attempt in range(1000):
            text = f"{self._cluster.name}/{guest}/{network.name}/{ranges}/{ordinal}/{attempt}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            mac = ":".join([MAC_PREFIX, *(digest[i : i + 2] for i in range(0, 10, 2))])
            if mac not in self._macs:
                return mac
        raise ValueError(f"guest {guest}: a thousand MACs in a row are taken")


def _walk(network: Network, version: int) -> t.Iterator[IPAddress]:
    """The addresses that may be given to machines, ascending, range by range; jumps over reserved spans."""
    blocked = blocked_spans(network, version)
    servers = {int(server) for server in network.nameservers if server.version == version}
    kind: t.Any = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    for subnet in network.ranges:
        if subnet.version != version:
            continue
        number, last = bounds(subnet)
        while number <= last:
            span = next((span for span in blocked if span[0] <= number <= span[1]), None)
            if span:
                number = span[1] + 1
                continue
            if number not in servers:
                yield kind(number)
            number += 1


def with_prefix(address: str, network: Network) -> str:
    """ADDRESS/PREFIX; an address from before the network's ranges changed stands for itself."""
    parsed = ipaddress.ip_address(address)
    subnet = subnet_of(parsed, network)
    return f"{address}/{subnet.prefixlen if subnet else parsed.max_prefixlen}"


def families(network: Network) -> list[int]:
    """The address families of a network, IPv4 first."""
    return sorted({subnet.version for subnet in network.ranges})
