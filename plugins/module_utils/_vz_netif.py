# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual NICs (veth) of a container: the value of NETIF, and what `--netif_add` is given.

`--netif_add` on a name that exists replaces the NIC, and makes up what it is not told: a fresh MAC, or a host MAC that
equals the guest's. So every field is always given, and nothing is done where NETIF says the same already.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._driver import DriverError

#: The kernel's longest name of a network device.
_LONGEST = 15


@dataclasses.dataclass(frozen=True)
class Veth:
    """One NIC. MACs in lower case; `bridge` is the network's name in the dialect `vz7`."""

    ifname: str
    mac: str
    host_ifname: str
    host_mac: str
    bridge: str = ""


def read_netif(text: str) -> tuple[Veth, ...]:
    """The value of NETIF. Its keys come in another order in every generation: read by key, never by position."""
    found = []
    for part in text.split(";"):
        fields = dict(pair.partition("=")[::2] for pair in part.split(",") if "=" in pair)
        if fields.get("ifname"):
            found.append(
                Veth(
                    ifname=fields["ifname"],
                    mac=mac_of(fields.get("mac", "")),
                    host_ifname=fields.get("host_ifname", ""),
                    host_mac=mac_of(fields.get("host_mac", "")),
                    bridge=fields.get("bridge") or fields.get("network", ""),
                )
            )
    return tuple(found)


def mac_of(text: str) -> str:
    """Lower case with colons, whatever the tool prints."""
    digits = text.replace(":", "").replace("-", "").lower()
    return ":".join(digits[index : index + 2] for index in range(0, 12, 2)) if len(digits) == 12 else text.lower()


def veth_of(guest: str, device: str, index: int, *, name: str, mac: str, bridge: str) -> Veth:
    """A NIC with every field decided. `device`: what stands for the container in the name of its peer."""
    host_ifname = f"veth{device}.{index}"
    if len(host_ifname) > _LONGEST:
        raise DriverError(
            f"guest {guest}: nics.{name}: its device on the HostOS would be called {host_ifname!r}, longer than the"
            f" {_LONGEST} characters that Linux allows; use fewer NICs"
        )
    return Veth(name, mac, host_ifname, host_mac_of(mac), bridge)


def host_mac_of(mac: str) -> str:
    """The other end needs a MAC of its own; a high one, so that the bridge does not take it for itself."""
    return ("fa" if mac.startswith("fe:") else "fe") + mac[2:]


def netif_add(nic: Veth, *, with_bridge: bool) -> str:
    """The argument of --netif_add."""
    fields = [nic.ifname, nic.mac, nic.host_ifname, nic.host_mac, *([nic.bridge] if with_bridge else [])]
    return ",".join(fields)


def changes(seen: t.Sequence[Veth], wanted: t.Sequence[Veth]) -> tuple[list[Veth], list[str]]:
    """NICs to add (or to replace) and names to delete."""
    have = {nic.ifname: nic for nic in seen}
    names = {nic.ifname for nic in wanted}
    add = [nic for nic in wanted if have.get(nic.ifname) != nic]
    return add, [nic.ifname for nic in seen if nic.ifname not in names]
