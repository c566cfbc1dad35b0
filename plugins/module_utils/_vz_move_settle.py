# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an OpenVZ HostOS has to do after the ledger decided what became of a move; see also `_kvm_move_settle`.

Every action looks before it acts, and can be taken again. vzmigrate leaves no files behind that we would know of.
"""

from __future__ import annotations

import typing as t

from ._driver import Seen
from ._kvm_move_files import Departures
from ._tombstone import MOVED, MOVING, Tombstone
from ._vz_ids import ctid_of

if t.TYPE_CHECKING:
    from ._kvm_move_settle import Action
    from ._openvz import OpenVzDriver


def settle(driver: OpenVzDriver, action: Action, check: bool) -> list[str]:
    """What was (in check mode: would be) done, in words. DriverError if it is refused."""
    handler = _HANDLERS.get(action.action)
    return handler(driver, action, check) if handler else []


def departures_of(driver: OpenVzDriver) -> Departures:
    """Which moves were aborted here; a container's move leaves no list of files."""
    return Departures(driver.options.state_dir)


def _write_tombstone(driver: OpenVzDriver, action: Action, check: bool) -> list[str]:
    """A copy that stays behind must not run, nor start with its HostOS."""
    stones, ctid, seen = driver.tombstones, _ctid(driver, action), driver.observe_one(action.uuid)
    _refuse_busy(driver, action, seen)
    steps: list[str] = []
    if seen is not None:
        _refuse_copy(action, ctid, seen)
        if seen.autostart:
            steps.append(f"container {ctid} does not start with its HostOS")
            if not check:
                driver.tools.run(["vzctl", "set", ctid, "--onboot", "no", "--save"], action.guest)
    stone = stones.get(action.uuid)
    if stone is None or stone.state != MOVED or stone.epoch < action.epoch:
        steps.append(f"tombstone moved, epoch {action.epoch}")
        if not check:
            target, move = (stone.target, stone.move) if stone else ("", action.move or "")
            stones.write(Tombstone(action.uuid, action.epoch, MOVED, action.guest, target, move))
    return steps


def _refuse_copy(action: Action, ctid: str, seen: Seen) -> None:
    """One that a move cannot have left behind."""
    if seen.native.active:
        raise action.error(
            f"container {ctid} runs here: find out which copy is right, and if it is not this one, `vzctl stop {ctid}`"
        )
    if seen.mark is None or seen.mark.uuid != action.uuid or seen.mark.epoch > action.epoch:
        found = f"epoch {seen.mark.epoch}" if seen.mark else "none of our marks"
        raise action.error(
            f"container {ctid} is here with {found}, and what left had epoch {action.epoch}: look at it, and if it is"
            f" not needed, `vzctl destroy {ctid}`"
        )


def _undefine(driver: OpenVzDriver, action: Action, check: bool) -> list[str]:
    if driver.observe_one(action.uuid) is None:
        return []
    ctid = _ctid(driver, action)
    raise action.error(
        f"container {ctid} is a copy of it, and no container is removed by itself: look at it, then `vzctl destroy"
        f" {ctid}` and run oscarv.virt.settle"
    )


def _drop_tombstone(driver: OpenVzDriver, action: Action, check: bool) -> list[str]:
    """Also keeps a late `guest_migrate` from making the move after all."""
    departures, stone = departures_of(driver), driver.tombstones.get(action.uuid)
    known = action.move in (None, departures.aborted(action.uuid))
    if stone is None and known:
        return []
    seen = driver.observe_one(action.uuid)
    _refuse_busy(driver, action, seen)
    lost = seen is None and (stone is None or stone.state == MOVING)  # on both sides: only a newer epoch comes up here
    if lost and known:
        return []
    mark = seen.mark if seen else None
    if not lost and (mark is None or (stone is not None and stone.epoch > mark.epoch)):
        found = f"has epoch {mark.epoch}" if mark else "is not here"
        raise action.error(f"container {_ctid(driver, action)} {found}; somebody has moved it meanwhile")
    if not check:
        if action.move is not None:
            departures.abort(action.uuid, action.move)
        if not lost:
            driver.tombstones.remove(action.uuid)
    return [f"forget the move, epoch {action.epoch}"]


def _forget(driver: OpenVzDriver, action: Action, check: bool) -> list[str]:
    departures, stone = departures_of(driver), driver.tombstones.get(action.uuid)
    if stone is None and departures.aborted(action.uuid) is None:
        return []
    if driver.observe_one(action.uuid) is not None:
        raise action.error(f"a copy of it is here, container {_ctid(driver, action)}: look at it, then destroy it")
    if stone is not None and stone.epoch > action.epoch:
        raise action.error(f"its tombstone has epoch {stone.epoch}, newer than {action.epoch}")
    if not check:
        departures.forget(action.uuid)
        driver.tombstones.remove(action.uuid)
    return [f"forget the guest, epoch {action.epoch}"]


def _refuse_busy(driver: OpenVzDriver, action: Action, seen: Seen | None) -> None:
    ctid = _ctid(driver, action)
    job = seen.native.job if seen else driver.job(ctid, action.uuid)
    if job:
        raise action.error(f"{job} still works on container {ctid}: wait for its end, then run oscarv.virt.settle")


def _ctid(driver: OpenVzDriver, action: Action) -> str:
    return ctid_of(action.uuid, driver.tools.dialect)


_HANDLERS: dict[str, t.Callable[[OpenVzDriver, Action, bool], list[str]]] = {
    "write_tombstone": _write_tombstone,
    "undefine": _undefine,
    "drop_tombstone": _drop_tombstone,
    "forget": _forget,
}
