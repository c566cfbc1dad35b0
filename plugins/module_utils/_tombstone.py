# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest that left this HostOS leaves behind, so that a stale job never starts a second copy of it.

`guest_migrate` writes a tombstone before a move acts (`moving`), turns it to `moved` after the proof and removes it
when the move is aborted. `guest` refuses to create, start or remove a guest whose spec is not newer than its tombstone.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

from ._files import remove, write_json

MOVING = "moving"
MOVED = "moved"
#: The file is there but says nothing sensible: as strict as it gets, for that one guest.
UNREADABLE = "unreadable"


@dataclasses.dataclass(frozen=True)
class Tombstone:
    """`epoch` is that of the copy that leaves; a spec must be newer to be acted upon here."""

    uuid: str
    epoch: int
    state: str  #: moving | moved
    guest: str = ""
    target: str = ""  #: inventory name of the HostOS that it left for
    move: str = ""  #: id of the move in the ledger


class Tombstones:
    """The tombstones of this HostOS: `<state_dir>/tombstones/<uuid>.json`."""

    def __init__(self, state_dir: str) -> None:
        self._directory = pathlib.Path(state_dir) / "tombstones"

    def path(self, uuid: str) -> pathlib.Path:
        return self._directory / f"{uuid}.json"

    def all(self) -> dict[str, Tombstone]:
        """By uuid. A file that cannot be read blocks its guest (`UNREADABLE`), and only that."""
        if not self._directory.is_dir():
            return {}
        stones = (self._read(path) for path in sorted(self._directory.glob("[0-9a-f]*.json")))
        return {stone.uuid: stone for stone in stones}

    def get(self, uuid: str) -> Tombstone | None:
        path = self.path(uuid)
        return self._read(path) if path.exists() else None

    def write(self, stone: Tombstone) -> None:
        """Durable when this returns."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self.path(stone.uuid), dataclasses.asdict(stone))

    def remove(self, uuid: str) -> bool:
        """False if there was none."""
        return remove(self.path(uuid)) if self._directory.is_dir() else False

    @staticmethod
    def _read(path: pathlib.Path) -> Tombstone:
        try:
            data: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
            known = {field.name for field in dataclasses.fields(Tombstone)}
            stone = Tombstone(**{key: value for key, value in data.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return Tombstone(path.stem, 0, UNREADABLE)
        if stone.state not in (MOVING, MOVED) or not isinstance(stone.epoch, int) or stone.uuid != path.stem:
            return Tombstone(path.stem, 0, UNREADABLE)
        return stone


def refusal(epoch: int, stone: Tombstone | None) -> str | None:
    """Why a spec of this epoch must not be acted upon, or None."""
    if stone is None:
        return None
    if stone.state == UNREADABLE:
        return (
            f"its tombstone {stone.uuid}.json cannot be read, so it is not known where the guest runs; find out with"
            " oscarv.virt.status and remove the file when it is certain that the guest never left this HostOS"
        )
    if epoch > stone.epoch:
        return None
    where = f" to {stone.target}" if stone.target else ""
    if stone.state == MOVING:
        return (
            f"a move{where} is in flight or was interrupted (epoch {stone.epoch}, this spec has epoch {epoch});"
            " run oscarv.virt.settle"
        )
    return (
        f"it moved away{where} with epoch {stone.epoch} and this spec has epoch {epoch}: the spec is stale;"
        " plan again (oscarv.virt.plan) and run oscarv.virt.deploy"
    )
