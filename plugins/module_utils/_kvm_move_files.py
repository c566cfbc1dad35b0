# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a move left behind, known also to whoever cleans up after a crash.

Both sides get a list before a move makes or leaves anything:

- on the source `<state_dir>/departures/<uuid>.json`: the files that are removed once the guest is proved to be away;
- on the target `<pool>/<cluster>/<guest>.incoming.json`, beside the files themselves: what this move makes there.

Only files on such a list are ever removed, so a disk that an older guest of this name left there is safe.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing as t

from ._driver import DriverError
from ._files import remove, sync_directory, write_json
from ._paths import cluster_dir

RECEIPT = ".incoming.json"


@dataclasses.dataclass(frozen=True)
class Departure:
    """What the source remembers of a move that it began. `files` are removed after the proof."""

    uuid: str
    guest: str
    move: str
    epoch_from: int
    epoch_to: int
    target: str
    address: str  #: of the target
    plaintext: bool
    files: tuple[str, ...]
    receipt: str | None  #: path on the target that must be gone before anything is removed here; None: no need to wait
    hypervisor: str = "kvm"  #: of the target


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What the target has got from a move that may not be finished."""

    uuid: str
    guest: str
    move: str
    epoch: int  #: the move's new one
    source: str
    files: tuple[str, ...]

    def to_bytes(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True).encode() + b"\n"


class Departures:
    """The departures of this HostOS."""

    def __init__(self, state_dir: str) -> None:
        self._directory = pathlib.Path(state_dir) / "departures"

    def write(self, departure: Departure) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self._path(departure.uuid), dataclasses.asdict(departure))

    def get(self, uuid: str) -> Departure | None:
        return _read(Departure, self._path(uuid))

    def remove(self, uuid: str) -> bool:
        return remove(self._path(uuid)) if self._directory.is_dir() else False

    def abort(self, uuid: str, move: str) -> None:
        """Whoever still wants to make this move, late, is refused: its intent is gone from the ledger."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self._aborted(uuid), {"move": move})

    def aborted(self, uuid: str) -> str | None:
        """The id of the guest's move that was aborted here last."""
        try:
            return str(json.loads(self._aborted(uuid).read_text(encoding="utf-8"))["move"])
        except FileNotFoundError:
            return None

    def forget(self, uuid: str) -> None:
        """No move of this guest is of interest any more."""
        self.remove(uuid)
        self._aborted(uuid).unlink(missing_ok=True)

    def _path(self, uuid: str) -> pathlib.Path:
        return self._directory / f"{uuid}.json"

    def _aborted(self, uuid: str) -> pathlib.Path:
        return self._directory / f"{uuid}.aborted"


def receipt_name(guest: str) -> str:
    return f"{guest}{RECEIPT}"


def find_receipts(
    pools: t.Iterable[str], cluster: str, guest: str, uuid: str
) -> list[tuple[pathlib.Path, Receipt | None]]:
    """The receipts for one guest in the folders of these pools (directories).

    None for one that was cut off while it was written: it comes before everything else, so nothing else was made.
    """
    found: list[tuple[pathlib.Path, Receipt | None]] = []
    for path in (cluster_dir(pool, cluster) / receipt_name(guest) for pool in sorted(set(pools))):
        try:
            receipt = _read(Receipt, path)
        except DriverError:
            found.append((path, None))
            continue
        if receipt is not None and receipt.uuid == uuid:
            found.append((path, receipt))
    return found


def make_durable(paths: t.Iterable[str]) -> None:
    """What these files hold survives a power failure when this returns; a missing one is a DriverError."""
    folders = set()
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DriverError(f"{path} came with a move and cannot be opened: {error}") from error
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        folders.add(pathlib.Path(path).parent)
    for folder in folders:
        sync_directory(folder)


def remove_files(paths: t.Iterable[str], used: t.Container[str]) -> list[str]:
    """Remove what is there of `paths`; return what was. DriverError, before anything is removed, if one is in use."""
    there = removable(paths, used)
    for path in there:
        remove(pathlib.Path(path))
    return there


def removable(paths: t.Iterable[str], used: t.Container[str]) -> list[str]:
    """What is there of `paths`. DriverError if one is in use."""
    there = [path for path in paths if os.path.lexists(path)]
    for path in there:
        if path in used:
            raise DriverError(f"{path} is used by a guest of this HostOS and is not removed; run oscarv.virt.status")
    return there


Kind = t.TypeVar("Kind", Departure, Receipt)


def _read(kind: type[Kind], path: pathlib.Path) -> Kind | None:
    """None where there is no file. DriverError for one that cannot be understood: it says what may be removed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        data: dict[str, t.Any] = json.loads(text)
        return kind(**{**data, "files": tuple(str(name) for name in data["files"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DriverError(
            f"{path} cannot be understood ({error}); see which of the guest's files are in use, remove the others"
            " and it"
        ) from error
