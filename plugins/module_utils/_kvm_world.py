# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is made of: one HostOS as it was read, what the caller consents to, and the steps decided so far."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import typing as t
import xml.etree.ElementTree as ET

from ._claims import Claim
from ._driver import Change, DriverError, Mark, Observation, Seen
from ._kvm_connection import DEFAULT_URI
from ._kvm_observe import Native
from ._kvm_platform import Platform
from ._paths import STATE_DIR
from ._qcow2 import read_header
from ._spec import DiskSpec, GuestSpec
from ._tombstone import Tombstone

#: No chain of backing files is longer; a loop would be.
_LONGEST_CHAIN = 32


@dataclasses.dataclass(frozen=True)
class Options:
    """What the caller consents to and how long it waits."""

    uri: str = DEFAULT_URI
    state_dir: str = STATE_DIR
    emulation: str = "auto"  #: auto | refuse
    allow_restart: bool = False
    remove_disks: bool = False
    force_stop: bool = False
    shutdown_timeout: float = 120.0  #: seconds
    contacted: frozenset[str] = frozenset()  #: names of guests whose seed may be ejected
    builds_expected: frozenset[str] = frozenset()  #: in check mode: builds that a run would have fetched before
    host_keys_private: t.Mapping[str, str] = dataclasses.field(
        default_factory=dict, repr=False
    )  #: guest -> private key

    @property
    def seed_work(self) -> pathlib.Path:
        """Where seeds are put together: root only, emptied at once."""
        return pathlib.Path(self.state_dir) / "seeds"


@dataclasses.dataclass(frozen=True)
class World:
    """One HostOS, read once before anything is planned."""

    connection: t.Any
    platform: Platform
    options: Options
    pools: t.Mapping[str, str]  #: name -> directory
    observation: Observation
    tombstones: t.Mapping[str, Tombstone]  #: by uuid
    claims: t.Mapping[tuple[str, str], Claim]  #: by uuid and name
    leaving: frozenset[str] = frozenset()  #: uuids that this run removes before anything else

    @property
    def everybody(self) -> tuple[Seen, ...]:
        return (*self.observation.guests.values(), *self.observation.foreign)

    @property
    def has_files(self) -> bool:
        """libvirt's simulator has domains whose files are names only."""
        return not self.platform.simulator

    def pool_directory(self, spec: GuestSpec, disk: DiskSpec) -> str:
        """DriverError if the disk's pool is not there."""
        if disk.pool in self.pools:
            return self.pools[disk.pool]
        raise DriverError(
            f"guest {spec.name}: disks.{disk.name}.pool: found {disk.pool!r}; active pools of this HostOS:"
            f" {', '.join(sorted(self.pools)) or 'none'}. Define or start it: run oscarv.virt.hostos"
        )

    def claims_of(self, uuid: str) -> list[Claim]:
        """All claims of a guest, whatever it was called."""
        return [claim for (owner, _name), claim in self.claims.items() if owner == uuid]

    def others(self, uuid: str) -> t.Iterator[Seen]:
        """All domains but this one and those that this run removes first."""
        return (seen for seen in self.everybody if seen.uuid != uuid and seen.uuid not in self.leaving)

    def users(self, path: str, uuid: str, *, strict: bool = False) -> list[str]:
        """Names of other domains that need a file, as a disk or as something that a disk stands on.

        `strict`: as of `files_of`.
        """
        return [seen.name for seen in self.others(uuid) if path in files_of(seen, strict=strict)]


def files_of(seen: Seen, *, strict: bool = False) -> set[str]:
    """Every file that a domain needs: disks and CD-ROMs, all that these stand on, and UEFI variables.

    `strict`: DriverError where a disk cannot be read, for those who remove what nobody needs.
    """
    native = t.cast(Native, seen.native)
    found: set[str] = {native.config.variables} if native.config.variables else set()
    for disk in (*native.config.disks, *(native.live.disks if native.live else ())):
        try:
            found.update(chain(disk.path, strict=strict))
        except OSError as error:
            raise DriverError(
                f"domain {seen.name}: {error.filename} cannot be read ({error.strerror}), so nobody knows which files"
                " it stands on and none is removed: make it readable, or keep the disks of guests that leave"
            ) from error
    return found


def named_by(seen: Seen) -> set[str]:
    """The files that a domain's persistent configuration names."""
    return {disk.path for disk in t.cast(Native, seen.native).config.disks if disk.path}


def chain(path: str | None, *, strict: bool = False) -> list[str]:
    """A file and what it stands on, as far as headers tell. `strict`: OSError where one cannot be read."""
    found: list[str] = []
    while path is not None and path not in found and len(found) < _LONGEST_CHAIN:
        found.append(path)
        header = read_header(path, strict=strict)
        backing = header.backing if header else None
        path = str(pathlib.PurePosixPath(path).parent / backing) if backing else None
    return found


class Phase(enum.IntEnum):
    """The order in which the steps of one guest are taken, whatever the order in which they were decided."""

    STOP = 0
    PREPARE = 1  #: files that the definition will name
    LIVE = 2  #: the running guest first: if it refuses, nothing was written down
    DEFINE = 3
    SETTLE = 4  #: what follows from the definition: autostart, files that nobody names any more
    POWER = 5


@dataclasses.dataclass(frozen=True)
class Step:
    phase: Phase
    words: str  #: for people; empty for what is of no interest to them
    run: t.Callable[[], object]


Edit = t.Callable[[ET.Element], None]


def _needed(name: str) -> t.Any:
    """Stands in for a default where a dataclass's base leaves no other way (Python 3.9 has no kw_only)."""
    raise TypeError(f"Plan needs {name}")


@dataclasses.dataclass
class Plan(Change):
    """A Change whose steps can be taken. `apply` runs `todo`, nothing else."""

    world: World = dataclasses.field(default_factory=lambda: _needed("world"), repr=False)
    todo: list[Step] = dataclasses.field(default_factory=list, repr=False)
    edits: list[Edit] = dataclasses.field(default_factory=list, repr=False)  #: of the persistent configuration
    new_mark: Mark | None = None  #: written with the edits; None: the mark stays
    claim: Claim | None = None  #: what is written down of the guest's files, as far as steps were taken
    claims: bool = False  #: whether a claim is read or written at all
    written: set[pathlib.Path] = dataclasses.field(default_factory=set)  #: directories to sync before the definition
    restarts: bool = False  #: is stopped only to be started again
    offline: bool = False  #: plan as if the guest were stopped: it is, or it is stopped first

    def add(self, phase: Phase, words: str, run: t.Callable[[], object]) -> None:
        self.todo.append(Step(phase, words, run))
        self.todo.sort(key=lambda step: step.phase)  # stable: the order of decision within a phase
        self.steps = [step.words for step in self.todo if step.words]

    @property
    def native(self) -> Native:
        return t.cast(Native, t.cast(Seen, self.seen).native)

    @property
    def mark(self) -> Mark:
        """The mark of a guest that exists."""
        return t.cast(Mark, t.cast(Seen, self.seen).mark)

    @property
    def active(self) -> bool:
        """Whether there is a QEMU that steps must reach."""
        return self.seen is not None and self.native.active and not self.offline

    @property
    def root_pool(self) -> str:
        """The directory of the root disk's pool, where seed and claim lie too."""
        return self.world.pool_directory(self.spec, self.spec.root)

    def error(self, text: str) -> DriverError:
        return DriverError(f"guest {self.spec.name}: {text}")
