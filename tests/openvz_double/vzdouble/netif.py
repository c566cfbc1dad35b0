# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NETIF, and the traps of --netif_add: a known name is replaced, and what is left out is made up."""

from __future__ import annotations

import re
import secrets

KEYS = ("ifname", "bridge", "mac", "host_ifname", "host_mac", "mac_filter")

_MAC = re.compile(r"^(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$")
_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,15}$")


def read(value: str) -> list[dict[str, str]]:
    found = []
    for part in value.split(";"):
        fields = dict(pair.partition("=")[::2] for pair in part.split(",") if "=" in pair)
        if fields.get("ifname"):
            found.append(fields)
    return found


def write(nics: list[dict[str, str]]) -> str:
    return ";".join(",".join(f"{key}={nic[key]}" for key in KEYS if nic.get(key)) for nic in nics)


def parse_add(text: str, ctid: int) -> dict[str, str] | None:
    """The NIC of `IF[,MAC[,HOST_IF[,HOST_MAC[,BRIDGE]]]]`; None: not valid."""
    fields = text.split(",")
    if len(fields) > 5:
        return None
    ifname, mac, host_ifname, host_mac, bridge = [*fields, "", "", "", ""][:5]
    if not _NAME.match(ifname) or any(name and not _NAME.match(name) for name in (host_ifname, bridge)):
        return None
    if any(address and not _MAC.match(address) for address in (mac, host_mac)):
        return None
    host_mac = host_mac or mac or _made_up()
    number = re.sub(r"\D", "", ifname) or "0"
    return {
        "ifname": ifname,
        "mac": (mac or _made_up()).upper(),
        "host_ifname": host_ifname or f"veth{ctid}.{number}"[:15],
        "host_mac": host_mac.upper(),
        "bridge": bridge,
    }


def valid(key: str, value: str) -> bool:
    if key in ("mac", "host_mac"):
        return bool(_MAC.match(value))
    if key == "mac_filter":
        return value in ("on", "off")
    return bool(_NAME.match(value))


def _made_up() -> str:
    return "00:18:51:" + ":".join(f"{byte:02X}" for byte in secrets.token_bytes(3))
