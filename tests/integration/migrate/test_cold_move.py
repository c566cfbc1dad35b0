# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stopped guest moves with its disks, holes and all; the originals go only when the copies are durable."""

from __future__ import annotations

import typing as t

import pytest
from rack import MIB, Beacons, Rack

NUMBER = 32
DATA = "/var/lib/oscarv/tmod/cold-data.qcow2"


@pytest.fixture(scope="module")
def guest(rack: Rack) -> dict[str, t.Any]:
    """A stopped guest on node01, epoch 1, whose data disk has holes and patterns."""
    spec = rack.spec("cold", NUMBER, state="stopped")
    made = rack.make("node01", spec)
    assert not made.get("failed"), made
    rack.ssh("node01", f"qemu-io -c 'write -P 0x5c 700M 40M' -c 'discard 710M 20M' {DATA}")
    assert rack.ssh("node01", "virsh -q list --all --autostart --name") == ""
    return spec


def digest(rack: Rack, host: str, path: str) -> tuple[str, int]:
    """sha256 of a file, and the bytes that it takes on the disk."""
    words = rack.ssh(host, f"sha256sum {path}; stat -c %b {path}").split()
    return words[0], int(words[2]) * 512


@pytest.fixture(scope="module")
def moved(rack: Rack, guest: dict[str, t.Any]) -> dict[str, t.Any]:
    """The first move: what it said, and what the disk was before."""
    before = digest(rack, "node01", DATA)
    predicted = rack.move(guest, "node01", "node02", 2, "--check", mode="live")
    result = rack.move(guest, "node01", "node02", 2, mode="live")
    return {"before": before, "predicted": predicted, "result": result, "move": result["moves"][0]}


def test_it_arrives_as_it_was(rack: Rack, moved: dict[str, t.Any]) -> None:
    assert moved["predicted"]["changed"] and moved["predicted"]["moves"][0]["mode"] == "cold"
    move = moved["move"]
    assert (move["mode"], move["moved"], move["state"], move["outcome"]) == ("cold", True, "stopped", "committed")
    assert any("live was asked for, but it is stopped" in text for text in move["warnings"])
    assert rack.where("cold") == {"node02": ("shut off", 2)}
    content, blocks = digest(rack, "node02", DATA)
    assert content == moved["before"][0]
    assert blocks <= moved["before"][1] + MIB, "holes stay holes"
    assert rack.ssh("node02", "virsh -q list --all --autostart --name") == ""


def test_the_originals_stay_until_the_copies_are_accepted(rack: Rack, moved: dict[str, t.Any]) -> None:
    names = {"cold-root.qcow2", "cold-data.qcow2", "cold-seed.iso"}
    assert set(rack.files("node01", of="cold")) == names
    assert set(rack.files("node02", of="cold")) == names | {"cold.incoming.json"}
    accept, remove = moved["move"]["pending"]
    assert (accept["host"], accept["action"]) == ("node02", "accept")
    assert (remove["host"], remove["action"]) == ("node01", "remove_leftovers")
    refused = rack.settle("node01", remove)
    assert refused["failed"] and "has not accepted its files yet" in refused["msg"]
    assert set(rack.files("node01", of="cold")) == names


@pytest.mark.parametrize("number", [0, 1])
def test_what_must_follow(rack: Rack, moved: dict[str, t.Any], number: int) -> None:
    """In check mode nothing is done and the same is said; the second time there is nothing to do."""
    todo = moved["move"]["pending"][number]
    before = rack.picture()
    predicted = rack.settle(todo["host"], todo, flags="--check --diff")
    assert predicted["changed"] and rack.picture() == before
    done = rack.settle(todo["host"], todo)
    assert done["changed"] and done["settled"] == predicted["settled"]
    assert rack.settle(todo["host"], todo)["changed"] is False


def test_then_nothing_is_left_on_the_source(rack: Rack, moved: dict[str, t.Any]) -> None:
    assert rack.files("node01", of="cold") == {}
    assert "cold.incoming.json" not in rack.files("node02", of="cold")
    assert '"state": "moved"' in rack.stones("node01") and "receipt" not in rack.stones("node01")


def test_it_boots_there(rack: Rack, guest: dict[str, t.Any], moved: dict[str, t.Any], beacons: Beacons) -> None:
    made = rack.make("node02", {**guest, "epoch": 2, "state": "running"})
    assert set(made["guests"]["cold"]["steps"]) == {"switch autostart on", "start"}, made
    assert beacons.wait(rack.mac(NUMBER))[-1].bad == 0


def test_a_running_guest_moved_cold_is_shut_down_and_started_again(
    rack: Rack, guest: dict[str, t.Any], moved: dict[str, t.Any], beacons: Beacons
) -> None:
    boot = beacons.wait(rack.mac(NUMBER))[-1].boot
    result = rack.move(guest, "node02", "node01", 3, mode="cold")
    (move,) = result["moves"]
    assert (move["moved"], move["mode"], move["state"]) == (True, "cold", "running"), result
    assert rack.where("cold") == {"node01": ("running", 3)} and rack.copies("cold") == ["node01"]
    for todo in move["pending"]:
        assert rack.settle(todo["host"], todo)["changed"]
    assert beacons.wait(rack.mac(NUMBER), seconds=180)[-1].boot != boot
    assert rack.files("node02", of="cold") == {}


def test_a_copy_that_takes_too_long_is_given_up(rack: Rack, guest: dict[str, t.Any], moved: dict[str, t.Any]) -> None:
    rack.ssh("node01", "virsh destroy cold")
    before = rack.picture()
    result = rack.move(guest, "node01", "node02", 4, bandwidth=2**18, timeout=3)
    assert result["failed"] and "given up after 3 s" in result["msg"], result
    assert result["moves"][0]["outcome"] == "aborted"
    assert rack.picture() == before, "autostart included"


def test_a_guest_with_uefi_takes_its_variables_along(rack: Rack, guest: dict[str, t.Any]) -> None:
    """They lie where libvirt keeps them, outside every pool. Only defined: nothing here boots with UEFI."""
    spec = rack.spec("efi", NUMBER + 1, state="stopped", disks=guest["disks"][:1])
    assert not rack.make("node01", spec).get("failed")
    folder = "/var/lib/libvirt/qemu/nvram"
    variables = f"{folder}/efi_VARS.fd"
    rack.ssh("node01", f"mkdir -p {folder} && head -c 131072 /dev/urandom > {variables}")
    loader = '<loader readonly="yes" type="pflash">/usr/share/OVMF/OVMF_CODE_4M.fd</loader>'
    edit = f"s|</os>|{loader}<nvram>{variables}</nvram></os>|"
    rack.ssh("node01", f"virsh dumpxml --inactive efi | sed '{edit}' > /root/efi.xml && virsh define /root/efi.xml")
    before = digest(rack, "node01", variables)[0]
    (move,) = rack.move(spec, "node01", "node02", 2)["moves"]
    assert move["moved"], move
    assert digest(rack, "node02", variables)[0] == before
    for todo in move["pending"]:
        assert rack.settle(todo["host"], todo)["changed"]
    assert rack.ssh("node01", f"ls {folder}") == ""
