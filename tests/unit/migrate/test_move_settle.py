# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clean-up actions: each in check mode, for real, and again; and each where it must refuse."""

from __future__ import annotations

import os
import pathlib
import typing as t

import libvirt
import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_settle as settle
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move import Scene
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_files import Departure, Receipt
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, MOVING, Tombstone
from stage import UUID, Domain, Stage


def scene(play: Stage) -> Scene:
    return Scene(t.cast(t.Any, play.driver), "node01")


def take(play: Stage, action: str, epoch: int, *, check: bool = False, move: str | None = "move-1") -> list[str]:
    wish = settle.Action(action, UUID, "wn1", epoch, "demo", move)
    return settle.Settler(scene(play), check).take(wish)


def three_times(play: Stage, action: str, epoch: int, look: t.Callable[[], t.Any]) -> list[str]:
    """In check mode nothing changes and the same is said; the second time there is nothing to do."""
    before = look()
    predicted = take(play, action, epoch, check=True)
    assert look() == before, "check mode"
    done = take(play, action, epoch)
    assert done == predicted != []
    after = look()
    assert after != before
    assert take(play, action, epoch) == [] and look() == after
    return done


def files(play: Stage) -> list[str]:
    return sorted(os.listdir(play.driver.pool / "demo"))


def notes(play: Stage) -> t.Any:
    mine = scene(play)
    return files(play), mine.stones.get(UUID), mine.departures.get(UUID), mine.departures.aborted(UUID)


def receipt(play: Stage, epoch: int = 2) -> pathlib.Path:
    paths = tuple(play.driver.path(name) for name in ("wn1-root.qcow2", "wn1-data.qcow2", "wn1-seed.iso"))
    path = play.driver.pool / "demo" / "wn1.incoming.json"
    path.write_bytes(Receipt(UUID, "wn1", "move-1", epoch, "node02", paths).to_bytes())
    return path


def departure(play: Stage, *, cold: bool = False) -> None:
    paths = tuple(play.driver.path(name) for name in ("wn1-root.qcow2", "wn1-data.qcow2", "wn1-seed.iso"))
    note = play.driver.path("wn1.incoming.json") if cold else None
    scene(play).departures.write(Departure(UUID, "wn1", "move-1", 1, 2, "node02", "10.0.0.2", False, paths, note))


@pytest.fixture(autouse=True)
def other_side(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "Target", lambda *_arguments, **_options: play.target)


def stone(play: Stage, state: str = MOVING, epoch: int = 1) -> None:
    play.driver.tombstones.write(Tombstone(UUID, epoch, state, "wn1", "node02", "move-1"))


# -- accept ------------------------------------------------------------------------------------------------------------


def test_accept_makes_files_durable_and_forgets_the_receipt(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    durable: list[str] = []
    monkeypatch.setattr(settle, "make_durable", durable.extend)
    receipt(play)
    play.driver.domain = Domain(epoch=2)
    three_times(play, "accept", 2, lambda: files(play))
    assert [os.path.basename(path) for path in durable] == ["wn1-root.qcow2", "wn1-data.qcow2", "wn1-seed.iso"]
    assert files(play) == ["wn1-data.qcow2", "wn1-root.qcow2", "wn1-seed.iso"]


def test_accept_without_the_guest_or_without_its_files_is_refused(play: Stage) -> None:
    path = receipt(play)
    with pytest.raises(DriverError, match="accept: it is not here with epoch 2"):
        take(play, "accept", 2)
    play.driver.domain = Domain(epoch=2)
    (play.driver.pool / "demo" / "wn1-data.qcow2").unlink()
    with pytest.raises(DriverError, match="wn1-data.qcow2 came with a move and cannot be opened"):
        take(play, "accept", 2)
    assert path.exists(), "the source keeps its files as long as the receipt is here"


# -- write_tombstone, undefine -----------------------------------------------------------------------------------------


def test_write_tombstone(play: Stage) -> None:
    stone(play)
    play.driver.domain = None
    three_times(play, "write_tombstone", 1, lambda: notes(play))
    assert play.driver.tombstones.get(UUID) == Tombstone(UUID, 1, MOVED, "wn1", "node02", "move-1")


@pytest.mark.parametrize("action", ["write_tombstone", "undefine"])
def test_what_runs_is_never_undefined_or_called_gone(play: Stage, action: str) -> None:
    with pytest.raises(DriverError, match="it runs here; nothing was done"):
        take(play, action, 1)
    assert t.cast(Domain, play.driver.domain).calls == []


def test_undefine(play: Stage) -> None:
    play.driver.domain = stopped = Domain(libvirt.VIR_DOMAIN_SHUTOFF)
    assert take(play, "undefine", 1, check=True) == ["undefine"] and stopped.calls == []
    assert take(play, "undefine", 1) == ["undefine"] and stopped.calls == ["undefine"]
    with pytest.raises(DriverError, match="the copy here has epoch 1, not 2"):
        take(play, "undefine", 2)
    play.driver.domain = Domain(libvirt.VIR_DOMAIN_SHUTOFF, epoch=None)
    with pytest.raises(DriverError, match="none of our marks"):
        take(play, "undefine", 1)
    play.driver.domain = None
    assert take(play, "undefine", 1) == []


# -- remove_leftovers --------------------------------------------------------------------------------------------------


def test_on_the_target_of_an_aborted_move_only_what_it_made_is_removed(play: Stage) -> None:
    receipt(play)
    (play.driver.pool / "demo" / "wn1-old.qcow2").touch()
    play.driver.domain = None
    three_times(play, "remove_leftovers", 2, lambda: files(play))
    assert files(play) == ["wn1-old.qcow2"]


def test_a_receipt_that_was_cut_off_is_removed_alone(play: Stage) -> None:
    receipt(play).write_bytes(b"\0" * 10)
    play.driver.domain = None
    take(play, "remove_leftovers", 2)
    assert files(play) == ["wn1-data.qcow2", "wn1-root.qcow2", "wn1-seed.iso"]


def test_files_of_another_epoch_or_of_a_guest_that_is_here_stay(play: Stage) -> None:
    receipt(play, epoch=3)
    play.driver.domain = None
    assert take(play, "remove_leftovers", 2) == []
    play.driver.domain = Domain()
    with pytest.raises(DriverError, match="a copy of it is here"):
        take(play, "remove_leftovers", 3)
    assert len(files(play)) == 4


def test_on_the_source_the_target_is_asked_first(play: Stage) -> None:
    departure(play)
    play.driver.domain = None
    with pytest.raises(DriverError, match="node02 does not have it with epoch 2"):
        take(play, "remove_leftovers", 1)
    play.target.there = Domain(epoch=1)
    with pytest.raises(DriverError, match="node02 does not have it with epoch 2"):
        take(play, "remove_leftovers", 1)
    assert len(files(play)) == 3
    play.target.there = Domain(epoch=2)
    three_times(play, "remove_leftovers", 1, lambda: notes(play))
    assert files(play) == []


def test_originals_of_a_cold_move_stay_until_the_copies_are_accepted_and_whole(play: Stage) -> None:
    departure(play, cold=True)
    play.driver.domain, play.target.there = None, Domain(epoch=2)
    play.folder.update({"wn1-root.qcow2": (10, 1), "wn1-data.qcow2": (9, 1), "wn1-seed.iso": (10, 1)})
    play.folder["wn1.incoming.json"] = (1, 1)
    with pytest.raises(DriverError, match="node02 has not accepted its files yet"):
        take(play, "remove_leftovers", 1)
    del play.folder["wn1.incoming.json"]
    with pytest.raises(DriverError, match="node02 does not have all of .*wn1-data.qcow2"):
        take(play, "remove_leftovers", 1)
    assert len(files(play)) == 3
    play.folder["wn1-data.qcow2"] = (10, 1)
    three_times(play, "remove_leftovers", 1, lambda: files(play))


# -- forget ------------------------------------------------------------------------------------------------------------


def test_a_guest_that_was_given_up_is_forgotten(play: Stage) -> None:
    stone(play, MOVED)
    play.driver.domain = None
    three_times(play, "forget", 1, lambda: notes(play))
    assert notes(play)[1:] == (None, None, None)


def test_a_guest_that_is_here_is_not_forgotten(play: Stage) -> None:
    stone(play, MOVED)
    with pytest.raises(DriverError, match="a copy of it is here"):
        take(play, "forget", 1)
    assert play.driver.tombstones.get(UUID) is not None


def test_a_newer_tombstone_is_not_forgotten(play: Stage) -> None:
    stone(play, MOVED)
    play.driver.domain = None
    with pytest.raises(DriverError, match="newer than 0"):
        take(play, "forget", 0)
    assert play.driver.tombstones.get(UUID) is not None


# -- drop_tombstone ----------------------------------------------------------------------------------------------------


def test_drop_tombstone_forgets_the_move_and_keeps_a_late_one_away(play: Stage) -> None:
    stone(play)
    departure(play)
    three_times(play, "drop_tombstone", 1, lambda: notes(play))
    assert notes(play)[1:] == (None, None, "move-1")


def test_a_move_that_never_began_is_kept_away_as_well(play: Stage) -> None:
    three_times(play, "drop_tombstone", 1, lambda: notes(play))
    assert scene(play).departures.aborted(UUID) == "move-1"


def test_a_guest_that_has_left_keeps_its_tombstone(play: Stage) -> None:
    stone(play, MOVED)
    play.driver.domain = None
    with pytest.raises(DriverError, match="no copy of epoch 1 is here; somebody has moved it meanwhile"):
        take(play, "drop_tombstone", 1)
    assert play.driver.tombstones.get(UUID) is not None
    stone(play, MOVING)
    take(play, "drop_tombstone", 1)
    assert play.driver.tombstones.get(UUID) is not None, "lost on both sides: only a newer epoch may come up here"


def test_a_job_keeps_the_tombstone(play: Stage) -> None:
    stone(play)
    play.driver.native = {"job": "migration_out"}
    with pytest.raises(DriverError, match="a job is active on it"):
        take(play, "drop_tombstone", 1)
    assert play.driver.tombstones.get(UUID) is not None
