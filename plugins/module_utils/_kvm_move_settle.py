# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a HostOS has to do after the ledger decided what became of a move. Each action looks before it acts.

Every action can be taken again: what is done already changes nothing.
"""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from ._dialect import KVM, dialect_of
from ._driver import DriverError, Seen
from ._kvm_connection import require_libvirt, told, unless
from ._kvm_move import Scene
from ._kvm_move_files import Departure, Receipt, find_receipts, make_durable, removable, remove_files
from ._kvm_move_proof import epochs
from ._kvm_move_target import Target
from ._kvm_observe import Native
from ._tombstone import MOVED, MOVING, Tombstone

#: Name -> what it does, in the order in which they are taken on one HostOS.
ACTIONS = {
    "accept": "the guest has arrived here: make the copied files durable and forget that they were on their way",
    "write_tombstone": "the copy of this epoch has left: tombstone `moved`",
    "undefine": "remove the copy of this epoch, which does not run; its files stay for `remove_leftovers`",
    "remove_leftovers": "remove the guest's files that a move made or left behind here; only while no copy is defined",
    "drop_tombstone": "the copy of this epoch has not left: remove its tombstone",
    "forget": "the guest was given up everywhere: remove what guards it here",
}


@dataclasses.dataclass(frozen=True)
class Action:
    """One thing to do on this HostOS; as the ledger's `settle` and `guest_migrate` itself give it."""

    action: str
    uuid: str
    guest: str
    epoch: int
    cluster: str
    move: str | None = None  #: its id in the ledger

    def error(self, text: str) -> DriverError:
        return DriverError(f"guest {self.guest}: {self.action}: {text}; nothing was done. Run oscarv.virt.status")


@dataclasses.dataclass
class Settler:
    """Takes actions; with `check` it only says whether it would change anything."""

    scene: Scene
    check: bool

    def take(self, action: Action) -> list[str]:
        """What was (in check mode: would be) changed, in words; nothing if it is so already. DriverError if refused."""
        handler: t.Callable[[Action], list[str]] = getattr(self, f"_{action.action}")
        with told(action.guest, action.action.replace("_", " ")):
            return handler(action)

    def _seen(self, action: Action) -> Seen | None:
        return self.scene.driver.observe_one(action.uuid)

    def _receipts(self, action: Action) -> list[tuple[pathlib.Path, Receipt | None]]:
        pools = self.scene.driver.pools.values()
        found = find_receipts(pools, action.cluster, action.guest, action.uuid)
        return [(path, receipt) for path, receipt in found if receipt is None or receipt.epoch == action.epoch]

    def _accept(self, action: Action) -> list[str]:
        seen = self._seen(action)
        if seen is None or epochs(t.cast(Native, seen.native).domain) != {action.epoch}:
            raise action.error(f"it is not here with epoch {action.epoch}")
        done = []
        for path, receipt in self._receipts(action):
            if not self.check:
                make_durable(receipt.files if receipt else ())
                path.unlink()
            done.append(f"accept {path}")
        return done

    def _write_tombstone(self, action: Action) -> list[str]:
        seen = self._seen(action)
        if (seen and t.cast(Native, seen.native).active) or self.scene.driver.strays(action.uuid):
            raise action.error("it runs here")
        stone = self.scene.stones.get(action.uuid)
        if stone is not None and stone.state == MOVED and stone.epoch >= action.epoch:
            return []
        if not self.check:
            target, move = (stone.target, stone.move) if stone else ("", "")
            self.scene.stones.write(Tombstone(action.uuid, action.epoch, MOVED, action.guest, target, move))
        return [f"tombstone moved, epoch {action.epoch}"]

    def _undefine(self, action: Action) -> list[str]:
        seen = self._seen(action)
        if seen is None:
            return []
        if seen.mark is None or seen.mark.epoch != action.epoch:
            found = seen.mark.epoch if seen.mark else "none of our marks"
            raise action.error(f"the copy here has epoch {found}, not {action.epoch}")
        if t.cast(Native, seen.native).active or self.scene.driver.strays(action.uuid):
            raise action.error("it runs here")
        if not self.check:
            lib = require_libvirt()
            dialect = dialect_of(t.cast(Native, seen.native).config.domain_type)
            if dialect is not KVM:
                flags = dialect.undefine_flags(lib)
            else:
                flags = lib.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | lib.VIR_DOMAIN_UNDEFINE_NVRAM
            with unless("VIR_ERR_NO_DOMAIN"):
                t.cast(Native, seen.native).domain.undefineFlags(flags)
        return ["undefine"]

    def _remove_leftovers(self, action: Action) -> list[str]:
        departure = self.scene.departures.get(action.uuid)
        if departure is not None and departure.epoch_from != action.epoch:
            departure = None
        receipts = self._receipts(action)
        if departure is None and not receipts:
            return []
        if self._seen(action) is not None or self.scene.driver.strays(action.uuid):
            raise action.error("a copy of it is here")
        if departure is not None:
            _prove_arrival(action, departure)
        lists = [*(receipt.files for _path, receipt in receipts if receipt), departure.files if departure else ()]
        files = [path for paths in lists for path in paths]
        used = self.scene.used_files(action.uuid)
        if self.check:
            return [f"remove {path}" for path in removable(files, used)] or ["forget the move"]
        removed = remove_files(files, used)
        for path, _receipt in receipts:
            path.unlink()
        if departure is not None:
            self.scene.departures.remove(action.uuid)
        return [f"remove {path}" for path in removed] or ["forget the move"]

    def _drop_tombstone(self, action: Action) -> list[str]:
        """Also keeps a late `guest_migrate` from making the move after all."""
        departures = self.scene.departures
        stone, departure = self.scene.stones.get(action.uuid), departures.get(action.uuid)
        known = action.move in (None, departures.aborted(action.uuid))
        if stone is None and departure is None and known:
            return []
        seen = self._seen(action)
        if seen is None and (stone is None or stone.state == MOVING):
            return self._end(action, keep_stone=True)  # lost on both sides: only a newer epoch comes up here
        if seen is None or seen.mark is None or (stone is not None and stone.epoch > seen.mark.epoch):
            raise action.error(f"no copy of epoch {action.epoch} is here; somebody has moved it meanwhile")
        if t.cast(Native, seen.native).job:
            raise action.error(f"a job is active on it ({t.cast(Native, seen.native).job})")
        return self._end(action, keep_stone=False)

    def _forget(self, action: Action) -> list[str]:
        stone, departures = self.scene.stones.get(action.uuid), self.scene.departures
        if stone is None and departures.aborted(action.uuid) is None:
            return []
        if self._seen(action) is not None or self.scene.driver.strays(action.uuid):
            raise action.error("a copy of it is here")
        if departures.get(action.uuid) is not None:
            raise action.error("files of an unfinished move are here")
        if stone is not None and stone.epoch > action.epoch:
            raise action.error(f"its tombstone has epoch {stone.epoch}, newer than {action.epoch}")
        if not self.check:
            departures.forget(action.uuid)
            self.scene.stones.remove(action.uuid)
        return [f"forget the guest, epoch {action.epoch}"]

    def _end(self, action: Action, *, keep_stone: bool) -> list[str]:
        departures = self.scene.departures
        if not self.check:
            if action.move is not None:
                departures.abort(action.uuid, action.move)
            departures.remove(action.uuid)
            if not keep_stone:
                self.scene.stones.remove(action.uuid)
        return [f"forget the move, epoch {action.epoch}"]


def _prove_arrival(action: Action, departure: Departure) -> None:
    """Files here are the last copy until the target says that it has the guest, and its files durably."""
    target = Target(departure.target, departure.address, plaintext=departure.plaintext, hypervisor=departure.hypervisor)
    try:
        domain = target.domain(action.uuid)
        if domain is None or epochs(domain) != {departure.epoch_to}:
            raise action.error(f"{departure.target} does not have it with epoch {departure.epoch_to}")
        if departure.receipt is not None:
            _prove_copies(action, departure, departure.receipt, target)
    finally:
        target.close()


def _prove_copies(action: Action, departure: Departure, receipt: str, target: Target) -> None:
    there: dict[str, int] = {}
    for folder in {str(pathlib.PurePosixPath(path).parent) for path in (*departure.files, receipt)}:
        sizes = target.folder(folder).sizes()
        there.update({str(pathlib.PurePosixPath(folder) / name): size for name, (size, _disk) in sizes.items()})
    if receipt in there:
        raise action.error(f"{departure.target} has not accepted its files yet ({receipt})")
    for path in departure.files:
        here = pathlib.Path(path)
        if here.exists() and there.get(path, -1) < here.stat().st_size:
            raise action.error(f"{departure.target} does not have all of {path}")
