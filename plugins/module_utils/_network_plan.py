# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be written so that this machine has the bridges its guests attach to. Changes nothing.

A bridge that is there and was not built by this collection is used as it is. What a plan needs is done by
`_network_switch`, in one step and with a way back.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import typing as t

NETWORK_DIR = pathlib.Path("/etc/systemd/network")
#: Low enough to come before a distribution's, netplan's and an administrator's own files for the same link.
PREFIX = "05-oscarv-"
LEASES = pathlib.Path("/run/systemd/netif/leases")
VLAN_DROP_IN = "oscarv-vlans.conf"
HEADER = (
    "# Written by oscarv.virt for the bridges of guests; changed with `hostos`, taken back with its state absent.\n"
)
NAME_MAX = 15  # characters of a network device's name in Linux
#: Sections of a link's file that describe the link itself; the others describe what it carries: the bridge gets that.
LINK_SECTIONS = ("Match", "Link")
NOTHING_CARRIED = ("Network", ["LinkLocalAddressing=no", "IPv6AcceptRA=no", "ConfigureWithoutCarrier=yes"])
ETHERNET_MTU = 1500


class Refused(Exception):
    """A bridge that cannot be built; the message says why and what to do."""


def plan_present(
    bridges: t.Sequence[dict[str, t.Any]], networks: t.Sequence[dict[str, t.Any]], uplink: str | None
) -> dict[str, t.Any]:
    """What is missing for these networks.

    `bridges`: [{name, uplink, mtu}] that may be built; `networks`: [{name, device, bridge, vlan, mtu}], whose `device`
    must be there in the end; over `uplink` a bridge may be built that `bridges` does not name. Answers errors [text],
    files {path: text, None to remove it} (those that differ), expect {device: {port, addressed}}, removed [device].
    """
    return Planner(bridges, networks, uplink, kernel_links()).plan()


def kernel_links() -> dict[str, dict[str, t.Any]]:
    shown = subprocess.run(["ip", "-j", "-d", "addr", "show"], check=True, capture_output=True, text=True).stdout
    return {link["ifname"]: link for link in json.loads(shown)}


def kind(link: dict[str, t.Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def global_addresses(link: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    return [address for address in link.get("addr_info", []) if address.get("scope") == "global"]


def sections(text: str) -> list[tuple[str, list[str]]]:
    """The sections of a unit-style file in order: [("Network", ["Address=...", ...]), ...]; comments are dropped."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            found.append((line[1:-1], []))
        elif line and line[0] not in "#;" and found:
            found[-1][1].append(line)
    return found


def rendered(parts: t.Iterable[tuple[str, t.Iterable[str]]]) -> str:
    blocks = []
    for name, lines in parts:
        body = "".join(f"{line}\n" for line in lines)
        if body:
            blocks.append(f"[{name}]\n{body}")
    return HEADER + "\n" + "\n".join(blocks)


def vlan_lines(interfaces: dict[int, str], was: list[tuple[str, list[str]]]) -> list[str]:
    """VLAN= for these interfaces and for those that were: guests may still be on one that the definition left out."""
    found = [f"VLAN={interface}" for interface in interfaces.values()]
    before = [line for part, lines in was if part == "Network" for line in lines if line.startswith("VLAN=")]
    return list(dict.fromkeys([*found, *before]))


def drop_ins(name: str) -> list[pathlib.Path]:
    """The drop-ins of a .network file in the order in which networkd reads them; /etc hides /run hides /usr/lib."""
    seen: dict[str, pathlib.Path] = {}
    for base in ("/usr/lib/systemd/network", "/run/systemd/network", str(NETWORK_DIR)):
        for path in pathlib.Path(base, f"{name}.d").glob("*.conf"):
            seen[path.name] = path
    return [seen[name] for name in sorted(seen)]


class Planner:
    """Collects files and errors for one wish."""

    def __init__(
        self,
        bridges: t.Sequence[dict[str, t.Any]],
        networks: t.Sequence[dict[str, t.Any]],
        uplink: str | None,
        links: dict[str, dict[str, t.Any]],
    ) -> None:
        self.links = links
        self.networks = networks
        self.bridges = {bridge["name"]: bridge for bridge in bridges}
        for name in {network["bridge"] for network in networks} - self.bridges.keys():
            if uplink and not (self.foreign(name) and links.get(uplink, {}).get("master") != name):
                self.bridges[name] = {"name": name, "uplink": uplink}
        self.files: dict[str, str] = {}
        self.expect: dict[str, dict[str, t.Any]] = {}
        self.errors: list[str] = []

    def plan(self) -> dict[str, t.Any]:
        for bridge in self.bridges.values():
            self.attempt(self.check_alone, bridge)
            self.attempt(self.plan_bridge, bridge)
        for network in self.networks:
            self.attempt(self.check_network, network)
        missing = [name for name in self.expect if name not in self.links]
        # A file that is written again is read again: so a device that somebody deleted comes back.
        differing = {path: text for path, text in self.files.items() if missing or read(path) != text}
        return {"errors": self.errors, "files": differing, "expect": self.expect, "removed": []}

    def attempt(self, step: t.Callable[[dict[str, t.Any]], None], item: dict[str, t.Any]) -> None:
        try:
            step(item)
        except Refused as refused:
            self.errors.append(str(refused))

    def check_alone(self, bridge: dict[str, t.Any]) -> None:
        others = [
            b["name"] for b in self.bridges.values() if b is not bridge and b.get("uplink") == bridge.get("uplink")
        ]
        if bridge.get("uplink") and others:
            raise Refused(f"bridge {bridge['name']}: its uplink {bridge['uplink']} is wanted by {others[0]} too")

    def foreign(self, name: str) -> bool:
        """A device that is there and not ours."""
        return name in self.links and not (NETWORK_DIR / f"{PREFIX}{name}.netdev").exists()

    def put(self, name: str, *parts: tuple[str, t.Iterable[str]]) -> None:
        self.files[str(NETWORK_DIR / f"{PREFIX}{name}")] = rendered(parts)

    def mtu_of(self, device: str) -> int | None:
        """The largest MTU that a network on this device asks for, in bytes; a bridge may have one of its own."""
        wanted = [network.get("mtu") for network in self.networks if network["device"] == device]
        wanted.append(self.bridges.get(device, {}).get("mtu"))
        return max((int(mtu) for mtu in wanted if mtu), default=None)

    def check_network(self, network: dict[str, t.Any]) -> None:
        device, bridge = network["device"], network["bridge"]
        link = self.links.get(device)
        if link is None:
            if device not in self.expect and bridge not in self.bridges:  # else it was refused with its bridge
                raise Refused(
                    f"network {network['name']}: the bridge {device} does not exist on this machine. Make it, or let it"
                    f" be built: hostos_kvm_uplink, or hostos_kvm_bridges: [{{name: {bridge}, uplink: DEVICE}}];"
                    f" devices here: {self.candidates()}"
                )
        elif kind(link) != "bridge":
            raise Refused(f"network {network['name']}: {device} exists on this machine but is not a bridge")
        elif self.foreign(device) and network.get("mtu") and link["mtu"] < int(network["mtu"]):
            raise Refused(
                f"network {network['name']}: wants an MTU of {network['mtu']}, but {device} has {link['mtu']}."
                " Raise it (and its port's) in the machine's network configuration, or lower the network's mtu"
            )

    def candidates(self) -> str:
        usable = [
            name for name, link in self.links.items() if name != "lo" and not link.get("master") and kind(link) != "tun"
        ]
        return ", ".join(sorted(usable)) or "none"

    def plan_bridge(self, bridge: dict[str, t.Any]) -> None:
        name, uplink = bridge["name"], bridge.get("uplink")
        vlans = {n["device"]: int(n["vlan"]) for n in self.networks if n["bridge"] == name and n.get("vlan")}
        vlans = {device: vlan for device, vlan in vlans.items() if not self.foreign(device)}
        if uplink:
            self.check_uplink(name, uplink)
        elif vlans:
            raise Refused(
                f"bridge {name}: its VLAN bridges ({', '.join(vlans)}) need an uplink:"
                f" hostos_kvm_bridges: [{{name: {name}, uplink: DEVICE}}];"
                f" devices here: {self.candidates()}"
            )
        interfaces = {vlan: vlan_name(name, uplink, vlan) for vlan in vlans.values()}
        if self.foreign(name):
            self.use_as_is(name, uplink, interfaces)
        else:
            self.build(name, uplink, interfaces)
        for device, vlan in vlans.items():
            self.build_vlan(device, interfaces[vlan], vlan)

    def check_uplink(self, bridge: str, uplink: str) -> None:
        link = self.links.get(uplink)
        if link is None:
            raise Refused(
                f"bridge {bridge}: there is no device {uplink} on this machine; devices here: {self.candidates()}"
            )
        if kind(link) == "bridge":
            raise Refused(
                f"bridge {bridge}: its uplink {uplink} is a bridge itself. Use {uplink} as the network's bridge"
            )
        if link.get("master", bridge) != bridge:
            raise Refused(f"bridge {bridge}: its uplink {uplink} is already a port of {link['master']}")

    def refuse_another_uplink(self, bridge: str, uplink: str) -> None:
        """What the earlier uplink carried is in the bridge's own file, and what the new one carries is not."""
        port = sections(read(NETWORK_DIR / f"{PREFIX}{bridge}-port.network") or "")
        named = [line.partition("=")[2] for part, lines in port if part == "Match" for line in lines]
        before = named[0] if named else uplink
        if before != uplink and (before in self.links or global_addresses(self.links[uplink])):
            raise Refused(
                f"bridge {bridge}: it was built over {before}, and its uplink is to be {uplink} now. Take it back,"
                f" so that {before} has its addresses again: hostos_kvm_state: absent with"
                " hostos_kvm_remove_bridges: true"
            )

    def use_as_is(self, name: str, uplink: str | None, vlan_interfaces: dict[int, str]) -> None:
        if kind(self.links[name]) != "bridge":
            raise Refused(f"bridge {name}: a device of this name exists on this machine and is not a bridge")
        if uplink and self.links[uplink].get("master") != name:
            raise Refused(
                f"bridge {name} exists on this machine and {uplink} is not one of its ports. It is used as it is:"
                " make the uplink its port, or leave `uplink` out of hostos_kvm_bridges"
            )
        if uplink and vlan_interfaces:
            path = self.managed_file(uplink)
            if path is None:
                raise Refused(
                    f"bridge {name}: systemd-networkd does not manage its uplink {uplink}, so it gets no VLAN bridges."
                    " Make them with the tool that manages this machine's network"
                )
            # Only the VLANs are ours; the uplink's own configuration stays its owner's.
            drop_in = NETWORK_DIR / f"{path.name}.d" / VLAN_DROP_IN
            lines = vlan_lines(vlan_interfaces, sections(read(drop_in) or ""))
            self.files[str(drop_in)] = rendered([("Network", lines)])

    def build(self, name: str, uplink: str | None, vlan_interfaces: dict[int, str]) -> None:
        netdev = [f"Name={name}", "Kind=bridge"]
        link = self.links.get(name, {})
        own = sections(read(NETWORK_DIR / f"{PREFIX}{name}.network") or "")
        carried = [part for part in own if part[0] not in LINK_SECTIONS]
        if uplink:
            self.refuse_another_uplink(name, uplink)
            # The MAC address stays: the switch, the neighbours and the DHCP server see the machine they know.
            netdev.append(f"MACAddress={self.links[uplink]['address']}")
            self.plan_port(name, uplink, vlan_interfaces)
            carried = carried or self.carried_by(name, uplink)
            addressed = bool(global_addresses(self.links[uplink]) or global_addresses(link))
        else:
            carried = carried or [NOTHING_CARRIED]
            addressed = False
        # Without STP there are no loops to wait for: the port forwards at once.
        self.put(f"{name}.netdev", ("NetDev", netdev), ("Bridge", ["STP=no", "ForwardDelaySec=0"]))
        self.put(
            f"{name}.network", ("Match", [f"Name={name}"]), ("Link", self.link_lines(name, waits=addressed)), *carried
        )
        self.expect[name] = {"port": uplink, "addressed": addressed}

    def plan_port(self, bridge: str, uplink: str, vlan_interfaces: dict[int, str]) -> None:
        """The uplink's own file: what described the link stays (MTU), what it carried goes to the bridge."""
        was = sections(read(NETWORK_DIR / f"{PREFIX}{bridge}-port.network") or "") or self.uplink_sections(uplink)
        link = [line for part, lines in was if part == "Link" for line in lines]
        declared = [int(line.partition("=")[2]) for line in link if re.fullmatch(r"MTUBytes=\d+", line)]
        wanted = [mtu for n in self.networks if n["bridge"] == bridge and (mtu := self.mtu_of(n["device"]))]
        if max(wanted, default=0) > max(declared, default=ETHERNET_MTU):
            link = [line for line in link if not line.startswith("MTUBytes=")] + [f"MTUBytes={max(wanted)}"]
        network = [f"Bridge={bridge}", "LinkLocalAddressing=no", "IPv6AcceptRA=no", *vlan_lines(vlan_interfaces, was)]
        self.put(f"{bridge}-port.network", ("Match", [f"Name={uplink}"]), ("Link", link), ("Network", network))

    def link_lines(self, device: str, *, waits: bool) -> list[str]:
        """`waits`: whether the machine's boot waits for this device to be online; one without addresses never is."""
        mtu = self.mtu_of(device)
        return ([f"MTUBytes={mtu}"] if mtu else []) + ([] if waits else ["RequiredForOnline=no"])

    def build_vlan(self, device: str, interface: str, vlan: int) -> None:
        if len(device) > NAME_MAX:
            raise Refused(
                f"VLAN bridge {device}: its name is longer than {NAME_MAX} characters; give the bridge a shorter one"
            )
        if self.foreign(interface):
            raise Refused(
                f"VLAN bridge {device}: the device {interface} exists here already; make {device} yourself over it"
            )
        link = self.link_lines(device, waits=False)
        port = ("Network", [f"Bridge={device}", "LinkLocalAddressing=no", "IPv6AcceptRA=no"])
        self.put(f"{interface}.netdev", ("NetDev", [f"Name={interface}", "Kind=vlan"]), ("VLAN", [f"Id={vlan}"]))
        self.put(f"{interface}.network", ("Match", [f"Name={interface}"]), ("Link", link), port)
        self.put(
            f"{device}.netdev",
            ("NetDev", [f"Name={device}", "Kind=bridge"]),
            ("Bridge", ["STP=no", "ForwardDelaySec=0"]),
        )
        self.put(f"{device}.network", ("Match", [f"Name={device}"]), ("Link", link), NOTHING_CARRIED)
        self.expect[device] = {"port": interface, "addressed": False}

    def managed_file(self, uplink: str) -> pathlib.Path | None:
        """The .network file with which networkd manages a link; None if it does not."""
        status = subprocess.run(
            ["networkctl", "--json=short", "status", uplink], capture_output=True, text=True, check=False
        )
        if status.returncode != 0:  # networkd does not run
            return None
        data = json.loads(status.stdout)
        path = data.get("NetworkFile")
        return pathlib.Path(path) if path and data.get("AdministrativeState") != "unmanaged" else None

    def uplink_sections(self, uplink: str) -> list[tuple[str, list[str]]]:
        path = self.managed_file(uplink)
        if path is None or path.name.startswith(PREFIX):
            return []
        return [part for file in (path, *drop_ins(path.name)) for part in sections(file.read_text())]

    def carried_by(self, name: str, uplink: str) -> list[tuple[str, list[str]]]:
        """What the uplink carries now and the bridge takes over: addresses, routes, DHCP, name servers."""
        parts = self.uplink_sections(uplink)
        if not parts:
            if global_addresses(self.links[uplink]):
                raise Refused(
                    f"bridge {name}: its uplink {uplink} has addresses that systemd-networkd does not manage, so they"
                    f" cannot be moved to a bridge safely. Hand {uplink} to systemd-networkd first, or make {name}"
                    " yourself with the tool that manages it; an existing bridge is used as it is"
                )
            return [NOTHING_CARRIED]
        bound = [
            line
            for part, lines in parts
            if part == "Network"
            for line in lines
            if re.match(r"(Bridge|Bond|VRF)=.", line)
        ]
        if bound:
            raise Refused(
                f"bridge {name}: the configuration of its uplink {uplink} says {bound[0]}; name one that stands alone"
            )
        carried = [
            (part, [line for line in lines if not line.startswith("VLAN=")])
            for part, lines in parts
            if part not in LINK_SECTIONS
        ]
        return carried + self.same_dhcp_identity(uplink, carried)

    def same_dhcp_identity(self, uplink: str, carried: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
        """The IAID of the uplink's lease: without it a DHCP server takes the bridge for another machine."""
        lease = LEASES / str(self.links[uplink]["ifindex"])
        chosen = [line for _part, lines in carried for line in lines if re.match(r"(ClientIdentifier|IAID)=", line)]
        if chosen or not lease.exists():
            return []
        client = re.search(r"^CLIENTID=ff([0-9a-f]{8})", lease.read_text(), re.MULTILINE)
        return [("DHCPv4", [f"IAID={int(client.group(1), 16)}"])] if client else []


def plan_absent() -> dict[str, t.Any]:
    """Take back every file of ours and every device they made; refused while a guest is attached to one."""
    links = kernel_links()
    paths = [*NETWORK_DIR.glob(f"{PREFIX}*"), *NETWORK_DIR.glob(f"*.d/{VLAN_DROP_IN}")]
    made = [path.name[len(PREFIX) : -len(".netdev")] for path in paths if path.suffix == ".netdev"]
    uplinks, errors = {}, []
    for path in NETWORK_DIR.glob(f"{PREFIX}*-port.network"):
        bridge = path.name[len(PREFIX) : -len("-port.network")]
        match = dict(
            line.split("=", 1) for part, lines in sections(path.read_text()) if part == "Match" for line in lines
        )
        uplinks[match["Name"]] = {"port": None, "addressed": bool(global_addresses(links.get(bridge, {})))}
    for name, link in links.items():
        if link.get("master") in made and name not in made and name not in uplinks:
            errors.append(
                f"bridge {link['master']}: {name} is still attached to it. Stop the guest, or keep the bridge"
            )
    return {
        "errors": errors,
        "files": {str(path): None for path in sorted(paths)},
        "expect": uplinks,
        "removed": sorted(name for name in made if name in links),
    }


def vlan_name(bridge: str, uplink: str | None, vlan: int) -> str:
    """eno1.12 where that fits into a device name, else br0v12p."""
    name = f"{uplink}.{vlan}"
    return name if len(name) <= NAME_MAX else f"{bridge}v{vlan}p"


def read(path: str | pathlib.Path) -> str | None:
    try:
        return pathlib.Path(path).read_text()
    except FileNotFoundError:
        return None
