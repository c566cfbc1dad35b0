# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import time
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._lock import Locked, hold, lock_path
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import (
    MOVED,
    MOVING,
    UNREADABLE,
    Tombstone,
    Tombstones,
    refusal,
)
from kvm_plain import UUID


def _hold_for_ever(state_dir: str, ready: t.Any) -> None:
    with hold(state_dir, "guest_migrate wn001"):
        ready.set()
        time.sleep(600)


def test_one_at_a_time_and_the_holder_is_named(tmp_path: pathlib.Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold_for_ever, args=(str(tmp_path), ready))
    holder.start()
    try:
        assert ready.wait(10)
        with (
            pytest.raises(Locked, match=rf"guest_migrate wn001 \(process {holder.pid}, since .*lock_timeout"),
            hold(str(tmp_path), "guest", 0.3),
        ):
            pytest.fail("two hold the lock")
        os.kill(t.cast(int, holder.pid), signal.SIGKILL)
        holder.join()
        with hold(str(tmp_path), "guest", 5):
            assert '"purpose": "guest"' in lock_path(str(tmp_path)).read_text()
    finally:
        holder.kill()
        holder.join()


def test_tombstones_come_back_and_go(tmp_path: pathlib.Path) -> None:
    stones = Tombstones(str(tmp_path))
    assert stones.all() == {}
    assert stones.get(UUID) is None
    stone = Tombstone(UUID, 3, MOVING, "wn001", "node02", "move-1")
    stones.write(stone)
    assert stones.all() == {UUID: stone}
    assert stones.get(UUID) == stone
    assert stones.remove(UUID) is True
    assert stones.remove(UUID) is False
    assert Tombstones(str(tmp_path / "nowhere")).remove(UUID) is False


@pytest.mark.parametrize("text", ["", "{", "[]", '{"uuid": "x", "epoch": 1, "state": "moved"}', '{"epoch": 1}'])
def test_a_tombstone_that_cannot_be_read_blocks_its_guest(tmp_path: pathlib.Path, text: str) -> None:
    stones = Tombstones(str(tmp_path))
    stones.write(Tombstone(UUID, 3, MOVED))
    stones.path(UUID).write_text(text)
    assert stones.all()[UUID].state == UNREADABLE
    assert f"{UUID}.json cannot be read" in str(refusal(10**9, stones.get(UUID)))


def test_a_newer_tool_may_write_more(tmp_path: pathlib.Path) -> None:
    stones = Tombstones(str(tmp_path))
    stones.write(Tombstone(UUID, 3, MOVED))
    stones.path(UUID).write_text(stones.path(UUID).read_text().replace("{", '{"later": 1,', 1))
    assert stones.get(UUID) == Tombstone(UUID, 3, MOVED)


@pytest.mark.parametrize(
    ("epoch", "state", "words"),
    [
        (3, MOVING, ["in flight", "node02", "oscarv.virt.settle"]),
        (2, MOVED, ["moved away to node02", "stale"]),
        (3, MOVED, ["epoch 3"]),
        (4, MOVED, None),
        (4, MOVING, None),
    ],
)
def test_only_a_newer_spec_is_acted_upon(epoch: int, state: str, words: list[str] | None) -> None:
    why = refusal(epoch, Tombstone(UUID, 3, state, "wn001", "node02"))
    if words is None:
        assert why is None
    else:
        assert all(word in str(why) for word in words)
    assert refusal(1, None) is None
