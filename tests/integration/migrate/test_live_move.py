# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running guest moves while it runs, encrypted, and exactly one copy of it is left."""

from __future__ import annotations

import time
import typing as t

import pytest
from rack import MARK, Beacons, Rack
from wire import Wire

NUMBER = 31


@pytest.fixture(scope="module")
def guest(rack: Rack, beacons: Beacons) -> dict[str, t.Any]:
    """A running guest on node01, epoch 1, with a pattern on its data disk."""
    spec = rack.spec("live", NUMBER)
    made = rack.make("node01", {**spec, "state": "stopped"})
    assert not made.get("failed"), made
    rack.ssh("node01", "qemu-io -c 'write -P 0x5c 700M 1M' /var/lib/oscarv/tmod/live-data.qcow2")
    assert rack.make("node01", spec)["guests"]["live"]["state"] == "running"
    beacons.wait(rack.mac(NUMBER))
    return spec


def test_check_mode_says_what_the_move_does_and_changes_nothing(rack: Rack, guest: dict[str, t.Any]) -> None:
    before = rack.picture()
    result = rack.move(guest, "node01", "node02", 2, "--check", "--diff")
    assert result["changed"] is True
    (move,) = result["moves"]
    assert (move["mode"], move["moved"], move["outcome"]) == ("live", False, "planned")
    for line in ('-  "epoch": 1', '-  "host": "node01"', '+  "epoch": 2', '+  "host": "node02"'):
        assert line in result["text"], "what --diff shows"
    assert rack.picture() == before


def test_it_runs_on_while_it_moves(rack: Rack, guest: dict[str, t.Any], beacons: Beacons) -> None:
    begin = time.monotonic()
    with Wire(f"lab-{rack.name}") as wire:
        result = rack.move(guest, "node01", "node02", 2)
    assert result["changed"] is True, result
    (move,) = result["moves"]
    assert (move["mode"], move["moved"], move["outcome"], move["state"]) == ("live", True, "committed", "running")
    assert {disk["name"]: disk["copied"] for disk in move["disks"]} == {"root": True, "data": True}
    silence = beacons.uninterrupted(rack.mac(NUMBER), begin)
    assert silence * 1000 >= move["downtime_ms"] * 0.5, (
        "the silence that was heard contains the downtime that QEMU tells"
    )
    assert wire.bytes > 40_000_000 and wire.handshakes >= 4, "memory and two disks, both directions"
    assert wire.readable == set()


def test_exactly_one_copy_is_left_and_the_source_keeps_a_tombstone_only(rack: Rack, guest: dict[str, t.Any]) -> None:
    assert rack.where("live") == {"node02": ("running", 2)}
    assert rack.copies("live") == ["node02"]
    assert rack.files("node01", of="live") == {}
    assert rack.files("node02", of="live") == {
        "live-root.qcow2": "600",
        "live-data.qcow2": "600",
        "live-seed.iso": "600",
    }
    assert '"state": "moved"' in rack.stones("node01") and '"epoch": 1' in rack.stones("node01")
    running = rack.ssh("node02", "virsh dumpxml live")
    assert "epoch='2'" in running.replace('"', "'"), "the running configuration has the new mark, too"
    assert rack.ssh("node02", "virsh -q list --all --autostart --name") == "live"
    assert "oscarv-move" not in rack.ssh("node02", "virsh pool-list --all --name")
    shown = rack.ssh("node02", "qemu-io -U -r -c 'read -P 0x5c 700M 1M' /var/lib/oscarv/tmod/live-data.qcow2")
    assert "Pattern verification failed" not in shown


def test_the_second_time_it_is_there_already(rack: Rack, guest: dict[str, t.Any]) -> None:
    before = rack.picture()
    result = rack.move(guest, "node01", "node02", 2)
    assert result["changed"] is False
    (move,) = result["moves"]
    assert (move["moved"], move["outcome"], move["pending"]) == (True, "committed", [])
    assert "already" in move["msg"]
    assert rack.picture() == before


def test_a_stale_deploy_starts_no_second_copy(rack: Rack, guest: dict[str, t.Any]) -> None:
    result = rack.make("node01", guest)
    assert result["failed"] and "stale" in result["msg"], result
    assert rack.where("live") == {"node02": ("running", 2)}


def test_a_stale_move_is_refused(rack: Rack, guest: dict[str, t.Any]) -> None:
    result = rack.move(guest, "node02", "node01", 2)
    assert result["failed"] and "epoch 2 is not newer than 2" in result["msg"], result
    assert rack.where("live") == {"node02": ("running", 2)}


def test_it_comes_back(rack: Rack, guest: dict[str, t.Any], beacons: Beacons) -> None:
    begin = time.monotonic()
    result = rack.move(guest, "node02", "node01", 3, bandwidth=200 * 2**20, timeout=300)
    assert result["moves"][0]["moved"], result
    beacons.uninterrupted(rack.mac(NUMBER), begin)
    assert rack.where("live") == {"node01": ("running", 3)}
    assert rack.files("node02", of="live") == {}
    mark = t.cast(t.Any, rack.domain("node01", "live")).find(MARK)
    assert mark.get("host_key"), "the mark travels whole"
    settled = rack.make("node01", {**guest, "epoch": 3})
    assert settled["changed"] is False, "after a move there is nothing to reconcile"


def test_what_takes_too_long_is_given_up_and_the_guest_goes_on(
    rack: Rack, guest: dict[str, t.Any], beacons: Beacons
) -> None:
    before, begin = rack.picture(), time.monotonic()
    result = rack.move(guest, "node01", "node02", 4, bandwidth=2**20, timeout=8)
    assert result["failed"] and result["changed"] is False
    (move,) = result["moves"]
    assert (move["outcome"], move["moved"]) == ("aborted", False)
    assert "given up after 8 s" in move["msg"]
    beacons.uninterrupted(rack.mac(NUMBER), begin)
    after = rack.picture()
    assert after["node02"] == before["node02"], "the target is as it was"
    assert after["node01"] == before["node01"]


def test_a_paused_guest_moves_and_stays_paused(rack: Rack, guest: dict[str, t.Any], beacons: Beacons) -> None:
    rack.ssh("node01", "virsh suspend live")
    result = rack.move(guest, "node01", "node02", 5)
    assert result["moves"][0]["state"] == "paused", result
    assert rack.where("live") == {"node02": ("paused", 5)}
    rack.ssh("node02", "virsh resume live")
    beacons.wait(rack.mac(NUMBER))
