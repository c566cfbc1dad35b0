# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver in the dialect vz7, as the reference reads its sources. UNTESTED on any vzctl 7 to 9: nobody has seen one.

The tools are played: what is looked at is which commands the driver gives, and what it makes of answers.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move
from ansible_collections.oscarv.virt.plugins.module_utils._driver import MoveRequest
from ansible_collections.oscarv.virt.plugins.module_utils._openvz import OpenVzDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Outcome, Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._vz_list import VZ7_FIELDS
from ansible_collections.oscarv.virt.plugins.module_utils._vz_mark import describe
from ansible_collections.oscarv.virt.plugins.module_utils._vz_new import mark_of
from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output
from ansible_collections.oscarv.virt.plugins.module_utils._vz_settings import wanted
from vz_plain import MIB, UUID, plain

#: stderr that vz7 prints on every action and that is no failure.
NOISE = "WARNING: You are using a deprecated CLI component that will be dropped in the next major release.\n"


class Vz7:
    """One container of ours, whose configuration says what the spec says."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.status = "running"
        self.commands: list[list[str]] = []
        self.codes: dict[str, int] = {}
        spec = GuestSpec.from_plain(plain())
        self.description = describe(mark_of(spec, build_id=None, host_key="ssh-ed25519 AAAA"), UUID)
        shape = wanted(spec)
        nic = shape.nics[0]
        lines = {
            "PHYSPAGES": f"{512 * MIB // 4096}:{512 * MIB // 4096}",
            "SWAPPAGES": "0:0",
            "CPUS": "2",
            "DISKSPACE": f"{3072 * 1024}:{3072 * 1024}",
            # the order of the keys is another one than legacy's
            "NETIF": f"ifname=eth0,mac={nic.mac.upper()},host_mac={nic.host_mac.upper()},host_ifname={nic.host_ifname},"
            "network=br0,configure=none",
            "HOSTNAME": shape.hostname,
            "NAMESERVER": "10.0.4.2",
            "NAME": "wn001",
            "ONBOOT": "yes",
            "DESCRIPTION": self.description,
        }
        self.conf = folder / f"etc/vz/conf/{UUID}.conf"
        self.conf.parent.mkdir(parents=True)
        self.conf.write_text("".join(f'{key}="{value}"\n' for key, value in lines.items()))

    @property
    def acts(self) -> list[list[str]]:
        """Without what is set: whether it starts with its HostOS follows from its state."""
        return [words for words in self.commands if words[1] != "set"]

    def row(self) -> dict[str, t.Any]:
        row: dict[str, t.Any] = dict.fromkeys(VZ7_FIELDS.split(","))
        pages = {"held": 1, "maxheld": 1, "barrier": 131072, "limit": 131072, "failcnt": 0}
        row.update(uuid=UUID, ctid=UUID, private=f"/vz/private/{UUID}", name="wn001", hostname="wn001")
        row.update(description=self.description, ip=["-"], status=self.status, physpages=pages, cpus=2, onboot=True)
        return row

    def execute(self, argv: t.Sequence[str], timeout: float) -> Output:
        words = list(argv)
        if words == ["vzctl", "--version"]:
            return Output(0, "vzctl version 7.0.258\n", "")
        if words[0] == "vzlist":
            assert words[:5] == ["vzlist", "-a", "-j", "-o", VZ7_FIELDS], "without -o vz7 leaves fields out"
            return Output(0, json.dumps([self.row()]), NOISE)
        if words[1] == "status":
            power = "down" if self.status == "stopped" else self.status
            mounted = "unmounted" if power == "down" else "mounted"
            return Output(0, f"VEID {UUID} exist {mounted} {power}\n", "")
        self.commands.append(words)
        code = self.codes.get(words[1], 0)
        if code == 0:
            after = {"pause": "paused", "chkpnt": "running", "start": "running", "stop": "stopped"}
            self.status = after.get(words[1], self.status)
            if "--onboot" in words:
                with self.conf.open("a") as file:
                    file.write(f'ONBOOT="{words[words.index("--onboot") + 1]}"\n')
        return Output(code, "", NOISE)

    def driver(self, **consents: t.Any) -> OpenVzDriver:
        options = Options(state_dir=str(self.folder / "state"), root=str(self.folder), **consents)
        return OpenVzDriver(options, "demo", self.execute)

    def guest(self, **changes: t.Any) -> Outcome:
        consents = {"remove_disks": changes.pop("remove_disks", False)}
        (outcome,) = reconcile(self.driver(**consents), Wish("demo", [plain(**changes)]), check=False).outcomes
        return outcome


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Vz7:
    return Vz7(tmp_path)


def test_what_is_as_wished_is_left_alone(node: Vz7) -> None:
    outcome = node.guest()
    assert (outcome.error, outcome.changed, node.commands) == (None, False, [])
    seen = node.driver().observe_all().guests[UUID]
    assert (seen.name, seen.state, seen.vcpus, seen.memory, seen.memory_live) == (
        *("wn001", "running", 2),
        *(512 * MIB, 512 * MIB),
    )


def test_pausing_has_a_verb_and_a_state_of_its_own(node: Vz7) -> None:
    assert node.guest(state="paused").error is None
    assert node.acts == [["vzctl", "pause", UUID]]
    assert node.driver().observe_all().guests[UUID].state == "paused"
    assert not (node.folder / "state/openvz-paused").exists(), "no note is needed where the tools tell"
    assert not node.guest(state="paused").changed
    assert node.guest().error is None
    assert node.acts[1:] == [["vzctl", "chkpnt", UUID, "--resume"]]


def test_a_nic_is_put_onto_its_network_in_a_second_step(node: Vz7) -> None:
    nic = {**plain()["nics"][0], "bridge": "br7"}
    assert node.guest(nics=[nic], vcpus=3).error is None
    first, second = node.commands
    assert first[:5] == ["vzctl", "set", UUID, "--cpus", "3"] and first[-1] == "--save"
    assert first[first.index("--netif_add") + 1].startswith("eth0,52:54:00:00:00:01,veth")
    assert second == ["vzctl", "set", UUID, "--ifname", "eth0", "--network", "br7", "--save"]


def test_stop_and_start(node: Vz7) -> None:
    assert node.guest(state="stopped").error is None
    assert node.guest().error is None
    assert node.acts == [["vzctl", "stop", UUID], ["vzctl", "start", UUID]]


def test_its_own_codes_are_told_in_words(node: Vz7) -> None:
    node.codes["set"] = 137
    assert "code 137: the name is taken or not valid" in str(node.guest(vcpus=4).error)
    node.codes["set"] = 226
    assert "vcmmd" in str(node.guest(vcpus=4).error)


def test_what_was_never_seen_is_refused_before_anything_changes(node: Vz7) -> None:
    other = UUID[:-1] + "2"
    (outcome,) = reconcile(node.driver(), Wish("demo", [plain(uuid=other, name="wn002")]), check=False).outcomes
    assert "makes containers of EZ templates" in str(outcome.error)
    assert "remove_disks: true" in str(node.guest(state="absent").error)
    found = node.driver().capabilities()
    lacking = {name for name in ("define", "cold_move", "live_move", "save") if not found[name].supported}
    assert lacking == {"define", "cold_move", "live_move", "save"} and "untested" in found["define"].reason
    request = MoveRequest(GuestSpec.from_plain(plain(epoch=2)), "node02", "10.0.0.2", "cold", move="m1")
    for hypervisor in ("", "lxc"):
        wish = dataclasses.replace(request, hypervisor=hypervisor)
        with pytest.raises(_vz_move.Refused, match="cold_move is missing"):
            _vz_move.move(node.driver(), wish, _vz_move.Far("node02", "10.0.0.2"))
    assert node.commands == []


def test_with_consent_it_is_destroyed(node: Vz7) -> None:
    assert node.guest(state="absent", remove_disks=True).error is None
    assert node.commands == [["vzctl", "stop", UUID], ["vzctl", "destroy", UUID]]
