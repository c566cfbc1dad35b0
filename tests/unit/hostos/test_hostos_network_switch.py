# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back of a network change, killed at any step. That networkd and the timer do it is shown on real machines."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import types
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _network_switch


class Killed(BaseException):
    """As if by kill -9 or a power failure: nothing catches it."""


class Machine:
    def __init__(self, folder: pathlib.Path) -> None:
        # As it runs on a HostOS: a program of its own, not the module that the tests share.
        spec = importlib.util.spec_from_file_location("network_switch", _network_switch.__file__)
        assert spec is not None and spec.loader is not None
        self.switch: types.ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.switch)
        self.folder = folder
        for name, path in {"HOME": "home", "UNIT_DIR": "units"}.items():
            (folder / path).mkdir()
            setattr(self.switch, name, folder / path)
        self.switch.STATE, self.switch.WISH = folder / "home/state.json", folder / "home/wish.json"
        self.switch.AT_BOOT = folder / "units/wants/rollback.service"
        self.switch.SETTLE = self.switch.PAUSE = 0
        self.old = {"old.network": "old\n", "changed.network": "before\n"}
        for name, text in self.old.items():
            (folder / name).write_text(text)
        files = {"changed.network": "after\n", "new.network": "new\n", "old.network": None}
        expect = {"br0": {"port": "eno1", "addressed": True}}
        wish = {
            "files": {str(folder / name): text for name, text in files.items()},
            "expect": expect,
            "rollback_seconds": 9,
        }
        self.switch.WISH.write_text(json.dumps(wish))
        self.steps = -1  # how many are left before the machine is killed; -1: never
        self.commands: list[str] = []
        self.up = True
        self.switch.run = self.run
        self.switch.links = self.links
        self.switch.networkd = lambda _question: True
        write = self.switch.write
        self.switch.write = lambda *arguments: (self.step(), write(*arguments))

    def step(self) -> None:
        if self.steps == 0:
            raise Killed
        self.steps -= 1

    def run(self, *command: str, check: bool = True) -> str:
        self.step()
        self.commands.append(" ".join(command))
        if command[0] == "systemd-run" and command[-1] == "act":
            self.switch.act()
        return ""

    def links(self) -> dict[str, dict[str, t.Any]]:
        now: dict[str, dict[str, t.Any]] = {"eno1": {"flags": ["UP"], "addr_info": [], "master": "br0"}}
        if self.up and (self.folder / "new.network").exists():
            now["br0"] = {"flags": ["UP"], "addr_info": [{"scope": "global"}]}
        return now

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.glob("*.network")}

    def state(self) -> str:
        return str(self.switch.load_state()["state"])

    def armed_at_boot(self) -> bool:
        return bool(self.switch.AT_BOOT.is_symlink() and self.switch.AT_BOOT.exists())


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path)


NEW = {"changed.network": "after\n", "new.network": "new\n"}


def test_a_confirmed_change_stays_and_leaves_no_way_back(machine: Machine) -> None:
    machine.switch.apply()
    assert machine.armed_at_boot()
    machine.switch.confirm()
    assert machine.files() == NEW
    assert (machine.state(), machine.armed_at_boot()) == ("confirmed", False)
    machine.switch.rollback()
    assert machine.files() == NEW, "a timer that comes too late must do nothing"


def test_nobody_confirmed(machine: Machine) -> None:
    machine.switch.apply()
    machine.switch.rollback()
    assert machine.files() == machine.old
    assert (machine.state(), machine.armed_at_boot()) == ("rolled_back", False)
    with pytest.raises(SystemExit, match="could not be reached with its new network configuration"):
        machine.switch.confirm()


def test_a_bridge_that_does_not_come_up_is_taken_back_though_the_machine_can_be_reached(machine: Machine) -> None:
    machine.up = False
    machine.switch.apply()
    with pytest.raises(SystemExit, match="br0 is not up"):
        machine.switch.confirm()
    assert machine.files() == machine.old


def test_a_second_change_waits_for_the_first(machine: Machine) -> None:
    machine.switch.apply()
    with pytest.raises(SystemExit, match="waits for its confirmation"):
        machine.switch.apply()


def test_a_connection_from_before_the_change_is_no_proof(machine: Machine) -> None:
    machine.switch.act = lambda: None
    machine.switch.apply()
    with pytest.raises(SystemExit) as said:
        machine.switch.confirm()
    assert said.value.code == machine.switch.TOO_EARLY
    assert machine.armed_at_boot()


@pytest.mark.parametrize("steps", range(12))
def test_killed_at_any_step_the_machine_finds_its_way_back(machine: Machine, steps: int) -> None:
    machine.steps = steps
    try:
        machine.switch.apply()
        killed = False
    except Killed:
        killed = True
    machine.steps = -1
    if machine.files() != machine.old:
        assert machine.armed_at_boot(), "the network was changed before the way back was on disk"
    if machine.armed_at_boot():
        machine.switch.rollback()  # what the unit does at boot
    assert machine.files() == machine.old
    if not killed:
        assert machine.state() == "rolled_back"
    else:
        machine.switch.apply()
        machine.switch.confirm()
        assert machine.files() == NEW, "a later change must be possible"


@pytest.mark.parametrize("steps", range(8))
def test_a_way_back_that_is_killed_is_gone_again_at_boot(machine: Machine, steps: int) -> None:
    machine.switch.apply()
    machine.steps = steps
    try:
        machine.switch.rollback()
    except Killed:
        machine.steps = -1
        if machine.armed_at_boot():
            machine.switch.rollback()
    assert machine.files() == machine.old
    assert (machine.state(), machine.armed_at_boot()) == ("rolled_back", False)


@pytest.mark.parametrize("steps", range(3))
def test_a_confirmation_that_is_killed_counts_or_not_but_never_half(machine: Machine, steps: int) -> None:
    machine.switch.apply()
    machine.steps = steps
    with pytest.raises(Killed):
        machine.switch.confirm()
    machine.steps = -1
    machine.switch.rollback()
    assert machine.files() == (NEW if machine.state() == "confirmed" else machine.old)
    machine.switch.apply()
    assert machine.state() == "acted", "a later change must be possible"
