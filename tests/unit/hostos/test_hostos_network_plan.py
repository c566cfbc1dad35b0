# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bridges' plan writes and refuses; that it works is shown by tests/integration/hostos on real machines."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _network_plan

Links = dict[str, dict[str, t.Any]]


def link(name: str, **more: t.Any) -> dict[str, t.Any]:
    return {"ifname": name, "ifindex": 2, "mtu": 1500, "address": "52:54:00:00:00:01", "addr_info": [], **more}


def bridge(name: str, **more: t.Any) -> dict[str, t.Any]:
    return link(name, linkinfo={"info_kind": "bridge"}, **more)


def network(
    name: str = "compute", bridge: str = "br0", vlan: int | None = None, mtu: int | None = None
) -> dict[str, t.Any]:
    device = bridge if vlan is None else f"{bridge}v{vlan}"
    return {"name": name, "bridge": bridge, "device": device, "vlan": vlan, "mtu": mtu}


ADDRESS = [{"scope": "global", "local": "10.0.0.5", "prefixlen": 24}]
STATIC = """[Match]
Name=eno1
[Link]
WakeOnLan=magic
[Network]
Address=10.0.0.5/24
Gateway=10.0.0.1
# mine
VLAN=eno1.7
"""


class Machine:
    """A machine whose eno1 is managed by networkd with the file `text`."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str | None = STATIC) -> None:
        self.links: Links = {"lo": link("lo"), "eno1": link("eno1", addr_info=ADDRESS)}
        self.folder = folder
        self.uplink_file = folder / "50-eno1.network"
        if text is not None:
            self.uplink_file.write_text(text)
        managed = None if text is None else self.uplink_file
        monkeypatch.setattr(_network_plan.Planner, "managed_file", lambda _self, _uplink: managed)
        monkeypatch.setattr(_network_plan, "NETWORK_DIR", folder)
        monkeypatch.setattr(_network_plan, "LEASES", folder / "leases")
        monkeypatch.setattr(_network_plan, "drop_ins", lambda name: sorted((folder / f"{name}.d").glob("*.conf")))
        monkeypatch.setattr(_network_plan, "kernel_links", lambda: self.links)

    def look(
        self, bridges: list[dict[str, t.Any]], networks: list[dict[str, t.Any]], uplink: str = ""
    ) -> dict[str, t.Any]:
        answer = _network_plan.plan_present(bridges, networks, uplink)
        answer["files"] = {
            pathlib.Path(path).relative_to(self.folder).as_posix(): v for path, v in answer["files"].items()
        }
        return answer

    def build(self, answer: dict[str, t.Any]) -> None:
        """As networkd would."""
        for path, text in answer["files"].items():
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_text(text)
        for name, wanted in answer["expect"].items():
            self.links.setdefault(name, bridge(name))
            if wanted["port"]:
                self.links.setdefault(wanted["port"], link(wanted["port"]))["master"] = name
                self.links[name]["addr_info"], self.links[wanted["port"]]["addr_info"] = (
                    self.links[name]["addr_info"] or self.links[wanted["port"]]["addr_info"],
                    [],
                )


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


BR0 = [{"name": "br0", "uplink": "eno1"}]


def test_the_bridge_takes_over_what_the_uplink_carried_and_its_mac_address(machine: Machine) -> None:
    (machine.folder / "50-eno1.network.d").mkdir()
    (machine.folder / "50-eno1.network.d/dns.conf").write_text("[Network]\nDNS=10.0.0.2\n")
    answer = machine.look(BR0, [network()])
    assert answer["errors"] == []
    assert answer["expect"] == {"br0": {"port": "eno1", "addressed": True}}
    body = answer["files"]["05-oscarv-br0.network"].split("\n\n", 1)[1]
    assert body == "[Match]\nName=br0\n\n[Network]\nAddress=10.0.0.5/24\nGateway=10.0.0.1\n\n[Network]\nDNS=10.0.0.2\n"
    assert "MACAddress=52:54:00:00:00:01\n" in answer["files"]["05-oscarv-br0.netdev"]
    port = answer["files"]["05-oscarv-br0-port.network"]
    assert "[Link]\nWakeOnLan=magic\n" in port
    assert "Bridge=br0\n" in port
    assert "VLAN=eno1.7\n" in port
    assert "Address=" not in port


def test_a_second_look_finds_nothing_to_do(machine: Machine) -> None:
    networks = [network(), network("storage", vlan=12, mtu=9000)]
    machine.build(machine.look(BR0, networks))
    again = machine.look(BR0, networks)
    assert again["files"] == {}
    assert again["errors"] == []


def test_a_device_that_was_deleted_comes_back(machine: Machine) -> None:
    first = machine.look(BR0, [network()])
    machine.build(first)
    del machine.links["br0"]
    del machine.links["eno1"]["master"]
    assert machine.look(BR0, [network()])["files"].keys() == first["files"].keys()


def test_a_vlan_gets_a_bridge_of_its_own_over_the_uplink(machine: Machine) -> None:
    answer = machine.look(BR0, [network("storage", vlan=12, mtu=9000)])
    assert answer["expect"]["br0v12"] == {"port": "eno1.12", "addressed": False}
    assert "Id=12\n" in answer["files"]["05-oscarv-eno1.12.netdev"]
    assert "Bridge=br0v12\n" in answer["files"]["05-oscarv-eno1.12.network"]
    assert "VLAN=eno1.12\nVLAN=eno1.7\n" in answer["files"]["05-oscarv-br0-port.network"]
    assert "MTUBytes=9000\n" in answer["files"]["05-oscarv-br0-port.network"], "the uplink must carry the VLAN's frames"
    assert "MTUBytes" not in answer["files"]["05-oscarv-br0.network"], "the untagged network did not ask for it"
    assert "RequiredForOnline=no\n" in answer["files"]["05-oscarv-br0v12.network"], "boot would wait for it"


def test_an_uplink_with_a_long_name_gets_a_vlan_device_with_a_short_one() -> None:
    assert _network_plan.vlan_name("br0", "enp129s0f1np1", 1234) == "br0v1234p"
    assert _network_plan.vlan_name("br0", "eno1", 1234) == "eno1.1234"


def test_dhcp_keeps_its_identity(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, "[Match]\nName=eno1\n[Network]\nDHCP=yes\n")
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases/2").write_text("ADDRESS=10.0.0.5\nCLIENTID=ff5d4a3b2c0002000070656e6d61\n")
    assert f"[DHCPv4]\nIAID={0x5D4A3B2C}\n" in machine.look(BR0, [network()])["files"]["05-oscarv-br0.network"]


def test_a_bridge_that_exists_is_used_as_it_is(machine: Machine) -> None:
    machine.links["br0"] = bridge("br0")
    assert machine.look([], [network()]) == {"errors": [], "files": {}, "expect": {}, "removed": []}


def test_vlans_under_somebody_elses_bridge_are_a_drop_in_of_the_uplinks_file(machine: Machine) -> None:
    machine.links["br0"] = bridge("br0")
    machine.links["eno1"]["master"] = "br0"
    answer = machine.look(BR0, [network(), network("storage", vlan=12)])
    assert answer["errors"] == []
    assert "VLAN=eno1.12\n" in answer["files"]["50-eno1.network.d/oscarv-vlans.conf"]
    assert "05-oscarv-br0.netdev" not in answer["files"]


def test_a_vlan_that_left_the_definition_keeps_its_line_for_guests_that_are_still_on_it(machine: Machine) -> None:
    machine.links["eno1"]["master"] = "br0"
    machine.links["br0"] = bridge("br0")
    machine.build(machine.look(BR0, [network(), network("storage", vlan=12)]))
    answer = machine.look(BR0, [network(), network("backup", vlan=13)])
    assert "VLAN=eno1.13\nVLAN=eno1.12\n" in answer["files"]["50-eno1.network.d/oscarv-vlans.conf"]
    machine.build(answer)
    assert machine.look(BR0, [network(), network("backup", vlan=13)])["files"] == {}


def test_another_uplink_is_refused_but_not_another_name_for_the_same(machine: Machine) -> None:
    machine.build(machine.look(BR0, [network()]))
    machine.links["eno2"] = link("eno2")
    other = [{"name": "br0", "uplink": "eno2"}]
    (said,) = machine.look(other, [network()])["errors"]
    assert "bridge br0: it was built over eno1, and its uplink is to be eno2 now. Take it back," in said
    del machine.links["eno1"]
    renamed = machine.look(other, [network()])
    assert renamed["errors"] == [] and "Name=eno2\n" in renamed["files"]["05-oscarv-br0-port.network"]
    machine.links["eno2"]["addr_info"] = ADDRESS
    assert "it was built over eno1" in machine.look(other, [network()])["errors"][0]


def test_the_default_uplink_serves_the_bridge_that_nobody_named(machine: Machine) -> None:
    assert "05-oscarv-br0.netdev" in machine.look([], [network()], uplink="eno1")["files"]


REFUSALS: list[tuple[str, t.Callable[[Machine], dict[str, t.Any]], str]] = [
    ("nothing may be built", lambda m: m.look([], [network()]), "the bridge br0 does not exist on this machine.*eno1"),
    ("no such uplink", lambda m: m.look([{"name": "br0", "uplink": "eno9"}], [network()]), "there is no device eno9"),
    ("VLAN without an uplink", lambda m: m.look([{"name": "br0"}], [network(vlan=12)]), "need an uplink"),
    (
        "two bridges, one uplink",
        lambda m: m.look([*BR0, {"name": "br1", "uplink": "eno1"}], [network()]),
        "its uplink eno1 is wanted by",
    ),
    (
        "name too long",
        lambda m: m.look([{"name": "bridge-storage", "uplink": "eno1"}], [network(bridge="bridge-storage", vlan=12)]),
        "longer than 15 characters",
    ),
]


@pytest.mark.parametrize(("ask", "said"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refused(machine: Machine, ask: t.Callable[[Machine], dict[str, t.Any]], said: str) -> None:
    errors = ask(machine)["errors"]
    assert len([error for error in errors if re.search(said, error)]) >= 1, errors


def test_refuses_an_uplink_whose_addresses_somebody_else_manages(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = Machine(tmp_path, monkeypatch, None).look(BR0, [network()])["errors"]
    assert len(errors) == 1
    assert "eno1 has addresses that systemd-networkd does not manage" in errors[0]


def test_refuses_an_uplink_that_is_somebody_elses_port(machine: Machine) -> None:
    machine.links["eno1"]["master"] = "bond0"
    assert "is already a port of bond0" in machine.look(BR0, [network()])["errors"][0]


def test_refuses_a_bridge_with_a_smaller_mtu(machine: Machine) -> None:
    machine.links["br0"] = bridge("br0")
    assert "wants an MTU of 9000, but br0 has 1500" in machine.look([], [network(mtu=9000)])["errors"][0]


def test_absent_takes_back_every_file_and_device(machine: Machine) -> None:
    machine.build(machine.look(BR0, [network(), network("storage", vlan=12)]))
    answer = _network_plan.plan_absent()
    assert answer["errors"] == []
    assert {pathlib.Path(path) for path in answer["files"]} == set(machine.folder.glob("05-oscarv-*"))
    assert set(answer["files"].values()) == {None}
    assert sorted(answer["removed"]) == ["br0", "br0v12", "eno1.12"]
    assert answer["expect"] == {"eno1": {"port": None, "addressed": True}}, "the uplink must have its address back"


def test_absent_is_refused_while_a_guest_is_attached(machine: Machine) -> None:
    machine.build(machine.look(BR0, [network()]))
    machine.links["vnet0"] = link("vnet0", master="br0")
    assert "vnet0 is still attached" in _network_plan.plan_absent()["errors"][0]
