# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs of guests: what their definition asks for, and that no address or MAC is asked for twice."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ._definition_kinds import Record
from ._definition_networks import is_blocked, is_usable, subnet_of
from ._definition_sections import at
from ._definition_yaml import Context
from ._model import IPAddress, Network, NicDef, Where


@dataclasses.dataclass
class Wishes:
    """All fixed addresses and MACs of a cluster so far, and how many addresses `assign` has to find."""

    networks: t.Mapping[str, Network]
    context: Context
    addresses: dict[tuple[str, IPAddress], tuple[str, Where]] = dataclasses.field(default_factory=dict)
    macs: dict[str, tuple[str, Where]] = dataclasses.field(default_factory=dict)
    wanted: collections.Counter[tuple[str, int]] = dataclasses.field(default_factory=collections.Counter)

    def take(self, guests: t.Sequence[str], records: t.Sequence[Record], where: Where) -> tuple[NicDef, ...]:
        """The NICs of some guests with the same `networks`, each counted and held against all others."""
        nics = tuple(self._nic(record) for record in records)
        fixed = [record for record in records if "ip" in record or "mac" in record]
        if fixed and len(guests) > 1:
            message = f"would be the same for {len(guests)} guests; give it in 'override', guest by guest"
            self.context.error_at(fixed[0].where("ip" if "ip" in fixed[0] else "mac"), None, message)
            return nics
        for nic, record in zip(nics, records, strict=True):
            self._count(nic, len(guests))
            if guests and (nic.ip or nic.mac):
                self._claim(guests[0], nic, record)
        return nics

    def _nic(self, record: Record) -> NicDef:
        name, addresses = record.get("name", "?"), record.get("ip", ())
        network = self.networks.get(name)
        if len({address.version for address in addresses}) < len(addresses):
            self.context.error_at(record.where("ip"), None, "more than one address of one family for one NIC")
        if network is not None and network.ranges:
            for address in addresses:
                self._check(address, network, record)
        return NicDef(name, addresses, record.get("mac"))

    def _check(self, address: IPAddress, network: Network, record: Record) -> None:
        where = record.where("ip")
        subnet = subnet_of(address, network)
        if subnet is None:
            ranges = ", ".join(map(str, network.ranges))
            self.context.error_at(where, str(address), f"is outside network {network.name!r} ({ranges})")
        elif not is_usable(address, subnet):
            self.context.error_at(where, str(address), f"is no address for a machine in {subnet}")
        elif address in network.gateway:
            self.context.error_at(where, str(address), f"is the gateway of network {network.name!r}")

    def _count(self, nic: NicDef, guests: int) -> None:
        network = self.networks.get(nic.network)
        for version in (4, 6):
            outside = network is not None and any(
                address.version == version and is_blocked(address, network) for address in nic.ip
            )
            if network is not None and not outside:
                self.wanted[nic.network, version] += guests

    def _claim(self, guest: str, nic: NicDef, record: Record) -> None:
        network = self.networks.get(nic.network)
        for address in nic.ip if network else ():
            self._once(self.addresses, (network.realm if network else "", address), guest, record.where("ip"), address)
        if nic.mac:
            self._once(self.macs, nic.mac, guest, record.where("mac"), nic.mac)

    def _once(self, taken: dict[t.Any, tuple[str, Where]], key: t.Any, guest: str, where: Where, shown: t.Any) -> None:
        other, place = taken.setdefault(key, (guest, where))
        if (other, place) != (guest, where):
            self.context.error_at(where, str(shown), f"is given twice, first to guest {other} ({at(place)})")
