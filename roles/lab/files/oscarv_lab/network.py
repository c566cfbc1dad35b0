# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own switch on this machine: a bridge, its address, and masquerading towards the outer network."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import typing as t

from .base import LabError, Report, run


def machine_address(subnet: ipaddress.IPv4Network) -> str:
    """This machine's address on the lab's network, with the prefix length."""
    return f"{subnet[1]}/{subnet.prefixlen}"


def _link(name: str) -> t.Optional[dict[str, t.Any]]:
    for link in json.loads(run("ip", "-json", "-details", "address", "show")):
        if link.get("ifname") == name:
            return t.cast("dict[str, t.Any]", link)
    return None


def refuse_strangers(bridge: str, subnet: ipaddress.IPv4Network) -> None:
    """Before a new lab: its bridge and its addresses must not be in use on this machine."""
    if _link(bridge):
        raise LabError(
            f"lab_name: the link {bridge} is already there and no lab under lab_dir made it: "
            "choose another lab_name, or remove the link if it is left over"
        )
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
        destination = route.get("dst", "default")
        if destination == "default" or route.get("type") in ("broadcast", "multicast"):
            continue
        if ipaddress.ip_network(destination, strict=False).overlaps(subnet):
            raise LabError(
                f"lab_subnet: {subnet} overlaps {destination}, which this machine reaches through "
                f"{route.get('dev', '?')}: choose another lab_subnet"
            )


def ensure_bridge(bridge: str, subnet: ipaddress.IPv4Network, report: Report) -> bool:
    """The bridge with its address, up. True if it had to be made: what was plugged in before is not any more.

    No forward delay and no snooping: a frame that is sent at once arrives.
    """
    link, address = _link(bridge), machine_address(subnet)
    made = link is None
    if link is None:
        if not report.will(f"make bridge {bridge} with {address}"):
            return made
        # A fixed MAC: otherwise the bridge takes the lowest of its ports, and it changes as HostOSes come and go.
        mac = "02:" + ":".join(hashlib.sha256(bridge.encode()).hexdigest()[i : i + 2] for i in range(0, 10, 2))
        run("ip", "link", "add", bridge, "address", mac, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        link = _link(bridge)
    if link is None or link.get("linkinfo", {}).get("info_kind") != "bridge":
        raise LabError(f"lab_name: the link {bridge} is not a bridge: choose another lab_name")
    addresses = [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", []) if a["family"] == "inet"]
    if address not in addresses and (made or report.will(f"give {bridge} the address {address}")):
        run("ip", "address", "add", address, "dev", bridge)
    if "UP" not in link["flags"] and (made or report.will(f"take {bridge} up")):
        run("ip", "link", "set", bridge, "up")
    return made


def remove_bridge(bridge: str, report: Report) -> None:
    if _link(bridge) and report.will(f"remove bridge {bridge}"):
        run("ip", "link", "delete", bridge)


def table_name(lab: str) -> str:
    return f"oscarv-lab-{lab}"


def _table(lab: str) -> t.Optional[str]:
    tables = json.loads(run("nft", "--json", "list", "tables"))["nftables"]
    if not any(x.get("table", {}).get("name") == table_name(lab) for x in tables):
        return None
    return run("nft", "list", "table", "ip", table_name(lab))


def ensure_nat(lab: str, bridge: str, subnet: ipaddress.IPv4Network, report: Report) -> None:
    """Masquerade what leaves the lab, in a table of the lab's own, made in one transaction."""
    wish = f"for {bridge} and {subnet}"
    if wish in (_table(lab) or "") or not report.will(f"make nftables table ip {table_name(lab)}"):
        return
    name = table_name(lab)
    run(
        "nft",
        "-f",
        "-",
        stdin=f"""
            table ip {name}
            delete table ip {name}
            table ip {name} {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    ip saddr {subnet} ip daddr != {subnet} oifname != "{bridge}" masquerade comment "{wish}"
                }}
            }}
        """,
    )


def remove_nat(lab: str, report: Report) -> None:
    if _table(lab) is not None and report.will(f"remove nftables table ip {table_name(lab)}"):
        run("nft", "delete", "table", "ip", table_name(lab))


def forward_drop() -> t.Optional[str]:
    """The name of a chain (Docker's, a firewall's) that drops what is forwarded, which would cut the lab off."""
    for item in json.loads(run("nft", "--json", "list", "chains"))["nftables"]:
        chain = item.get("chain", {})
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain.get("family") in ("ip", "inet"):
            return f"{chain['family']} {chain['table']} {chain['name']}"
    return None
