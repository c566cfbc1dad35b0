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


def ensure_bridge(bridge: str, subnet: ipaddress.IPv4Network, report: Report) -> None:
    """The bridge with its address, up. No forward delay, no snooping: a frame sent at once arrives."""
    link = _link(bridge)
    if link is None:
        if not report.will(f"make bridge {bridge} with {machine_address(subnet)}"):
            return
        # A fixed MAC: otherwise the bridge takes the lowest of its ports, and it changes as HostOSes come and go.
        mac = "02:" + ":".join(hashlib.sha256(bridge.encode()).hexdigest()[i : i + 2] for i in range(0, 10, 2))
        run("ip", "link", "add", bridge, "address", mac, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        link = _link(bridge)
    if link is None or link.get("linkinfo", {}).get("info_kind") != "bridge":
        raise LabError(f"lab_name: the link {bridge} is not a bridge: choose another lab_name")
    addresses = [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", []) if a["family"] == "inet"]
    if machine_address(subnet) not in addresses and report.will(f"give {bridge} the address {machine_address(subnet)}"):
        run("ip", "address", "add", machine_address(subnet), "dev", bridge)
    if "UP" not in link["flags"] and report.will(f"take {bridge} up"):
        run("ip", "link", "set", bridge, "up")


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
                    ip saddr {subnet} oifname != "{bridge}" masquerade comment "{wish}"
                }}
            }}
        """,
    )


def remove_nat(lab: str, report: Report) -> None:
    if _table(lab) is not None and report.will(f"remove nftables table ip {table_name(lab)}"):
        run("nft", "delete", "table", "ip", table_name(lab))


def forward_drop() -> t.Optional[str]:
    """The name of a foreign chain that drops what is forwarded (Docker's, a firewall's), which would cut the lab off."""
    for item in json.loads(run("nft", "--json", "list", "chains"))["nftables"]:
        chain = item.get("chain", {})
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain.get("family") in ("ip", "inet"):
            return f"{chain['family']} {chain['table']} {chain['name']}"
    return None
