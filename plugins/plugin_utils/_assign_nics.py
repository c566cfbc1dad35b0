# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NICs of one guest: rows that the ledger has are kept, new ones get a MAC and addresses.

A guest is told its addresses at its first boot and never again. So they are decided while it is only planned (or is
being rebuilt) and then stay, whatever happens to the network's ranges; a definition that wants another one is refused.
A NIC that left the definition is detached: it keeps its addresses (position below zero) until its HostOS shows the
guest without it, and then they rest like those of a released guest.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ._addresses import Addresses, expired, families, resting
from ._definition_networks import is_blocked, is_usable, subnet_of
from ._ledger_observe import later
from ._ledger_rows import LedgerState, NicRow
from ._model import Cluster, Guest, IPAddress, Network, NicDef


@dataclasses.dataclass
class Wish:
    """One guest as `assign` is deciding it."""

    guest: Guest
    uuid: str
    open: bool  #: its addresses may still be decided: it never booted, or is being rebuilt
    rows: list[NicRow]  #: the ledger's for it that do not rest; of a new guest those of a released one of its name


class NicDecider:
    """Decides the NICs of all guests, one after the other in sorted order."""

    def __init__(self, cluster: Cluster, state: LedgerState, now: str, names: t.Mapping[str, str]) -> None:
        self._cluster = cluster
        self._now = now
        self._names = names  # uuid -> guest name, for messages
        self.addresses = Addresses(cluster, state, now)
        self.rows: list[NicRow] = []
        self.removed: set[str] = set()
        self.errors: list[str] = []

    def decide(self, wish: Wish) -> None:
        pairs, left = self._match(wish)
        gone = [row for row in left if row.guest == wish.uuid and row.position >= 0]
        self.rows += [dataclasses.replace(row, position=-1 - row.position) for row in gone]
        ordinals: dict[str, int] = {}
        for position, (nic, row) in enumerate(pairs):
            ordinal = ordinals[nic.network] = ordinals.get(nic.network, -1) + 1
            self._one(wish, position, ordinal, nic, row)

    def _match(self, wish: Wish) -> tuple[list[tuple[NicDef, NicRow | None]], list[NicRow]]:
        """Pair wished NICs with rows: same network, best the same MAC or address, then the same position."""
        left = sorted(wish.rows, key=lambda row: (row.position < 0, row.position))
        answer: dict[int, NicRow | None] = {}
        for fixed in (True, False):
            for position, nic in enumerate(wish.guest.networks):
                if position in answer or (fixed and not (nic.mac or nic.ip)):
                    continue
                fitting = [row for row in left if row.network == nic.network and self._usable(wish, row)]
                if fixed:
                    fitting = [row for row in fitting if row.mac == nic.mac or _has(row, nic.ip)]
                best = min(fitting, key=lambda row: (row.position < 0, abs(row.position - position)), default=None)
                if best is not None:
                    left.remove(best)
                if best is not None or not fixed:
                    answer[position] = best
        return [(nic, answer[position]) for position, nic in enumerate(wish.guest.networks)], left

    def _usable(self, wish: Wish, row: NicRow) -> bool:
        """A row of a released guest of the same name may be taken over, if the network still has it."""
        if row.guest == wish.uuid:
            return True
        network = self._cluster.networks[row.network]
        return row.realm == network.realm and all(_fits(ipaddress.ip_address(a), network) for a in row.addresses)

    def _one(self, wish: Wish, position: int, ordinal: int, nic: NicDef, row: NicRow | None) -> None:
        network = self._cluster.networks[nic.network]
        if row is not None:
            self.addresses.give_back(row)
        addresses = self._decide_addresses(wish, nic, row, network)
        mac = self._decide_mac(wish, ordinal, nic, row, network)
        if addresses is None or mac is None:
            if row is not None:
                self.addresses.take(row)
            return
        if row is not None and row.mac != mac:
            self.removed.add(row.mac)
        realm = network.realm if row is None or wish.open else row.realm
        new = NicRow(mac, wish.uuid, position, network.name, realm, addresses)
        self.addresses.take(new)
        self.removed |= self.addresses.replaced([new])
        self.removed.discard(mac)
        if new != row:
            self.rows.append(new)
            gone = tuple(address for address in row.addresses if address not in addresses) if row else ()
            if row is not None and gone and not expired(row, self._now):
                self._rest(wish, row, network, gone)

    def _rest(self, wish: Wish, row: NicRow, network: Network, gone: tuple[str, ...]) -> None:
        """Somebody may still use addresses that a rebuilt guest gives up: they rest, behind a MAC of no NIC."""
        mac = self.addresses.new_mac(wish.guest.name + " (rests)", network, row.position)
        free_after = row.free_after or later(self._now, self._cluster.quarantine)
        resting_row = dataclasses.replace(row, mac=mac, position=-1000, addresses=gone, free_after=free_after)
        self.addresses.take(resting_row)
        self.rows.append(resting_row)

    def _decide_addresses(
        self, wish: Wish, nic: NicDef, row: NicRow | None, network: Network
    ) -> tuple[str, ...] | None:
        who = _who(wish.guest)
        if row is not None and row.guest == wish.uuid and not wish.open:
            wrong = [address for address in nic.ip if str(address) not in row.addresses]
            if wrong:
                self.errors.append(
                    f"{who}: ip {wrong[0]} of network {network.name}: it has {', '.join(row.addresses) or 'no address'}"
                    " since its first boot: give that one, or rebuild the guest (oscarv.virt.rebuild)"
                )
                return None
            return row.addresses
        chosen: list[str] = []
        for version in families(network):
            address = next((a for a in nic.ip if a.version == version), None)
            if address is not None:
                problem = self._conflict(wish, network, address)
                if problem:
                    self.errors.append(f"{who}: ip {address} of network {network.name}: {problem}")
                    return None
            else:
                address = self._former(wish.guest.name, row, network, version) or self.addresses.next(network, version)
            if address is None:
                ranges = ", ".join(str(one) for one in network.ranges if one.version == version)
                self.errors.append(
                    f"{who}: network {network.name} has no free IPv{version} address left ({ranges}): give it another"
                    " range, or wait until released addresses have rested"
                )
                return None
            chosen.append(str(address))
        return tuple(chosen)

    def _former(self, guest: str, row: NicRow | None, network: Network, version: int) -> IPAddress | None:
        """The address that the row has already, if it is still one that may be given to this guest."""
        for text in row.addresses if row else ():
            address = ipaddress.ip_address(text)
            if address.version == version and _fits(address, network):
                if self.addresses.free(network.realm, address, guest):
                    return address
        return None

    def _conflict(self, wish: Wish, network: Network, address: IPAddress) -> str:
        if self.addresses.free(network.realm, address):
            return ""
        holder = self.addresses.holder(network.realm, address)
        if holder is None:
            return "it belongs to another cluster in this ledger"
        name = self._names.get(holder.guest, holder.guest)
        if resting(holder, self._now):
            return f"it was guest {name}'s and rests until {holder.free_after}"
        return f"it is guest {name}'s"

    def _decide_mac(self, wish: Wish, ordinal: int, nic: NicDef, row: NicRow | None, network: Network) -> str | None:
        if nic.mac is None:
            if row is not None and not self.addresses.mac_taken(row.mac):
                return row.mac
            return self.addresses.new_mac(wish.guest.name, network, ordinal)
        if self.addresses.mac_taken(nic.mac):
            self.errors.append(f"{_who(wish.guest)}: mac {nic.mac}: another NIC has it in the ledger")
            return None
        return nic.mac


def _fits(address: IPAddress, network: Network) -> bool:
    subnet = subnet_of(address, network)
    return subnet is not None and is_usable(address, subnet) and not is_blocked(address, network)


def _has(row: NicRow, wished: tuple[IPAddress, ...]) -> bool:
    return bool(wished) and all(str(address) in row.addresses for address in wished)


def _who(guest: Guest) -> str:
    place = f" ({guest.where.file}:{guest.where.line})" if guest.where else ""
    return f"guest {guest.name}{place}"
