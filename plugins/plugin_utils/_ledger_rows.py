# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the ledger as plain values, and a set of changes to them.

`assign` and the planner work on `LedgerState` and answer with `Changes`; `_ledger` alone knows the database. Times
are UTC ISO 8601 strings ("2026-11-20T23:42:29+00:00"), made by the caller so that decisions stay pure.
"""

from __future__ import annotations

import dataclasses
import typing as t

#: planned: decided, not seen yet. leaving: left the definition, absence not proved. released: gone, addresses rest.
GUEST_STATES = ("planned", "running", "paused", "stopped", "saved", "absent", "leaving", "released")
MOVE_STATES = ("in_flight", "committed", "aborted")


@dataclasses.dataclass(frozen=True)
class GuestRow:
    uuid: str
    name: str
    partition: str
    host: str | None
    epoch: int
    state: str
    image: str | None = None
    build_id: str | None = None  #: of the root disk that exists or will be made
    hypervisor: str | None = None
    first_contact: str | None = None  #: when the controller first reached it with its host key verified
    released: str | None = None  #: when its absence was proved
    spec_hash: str | None = None  #: redacted hash of the last spec that was given out
    vcpus: int | None = None  #: of that spec, as the next two: what a guest that left the definition still holds
    memory: int | None = None  #: bytes
    disk: int | None = None  #: bytes on local pools


@dataclasses.dataclass(frozen=True)
class NicRow:
    mac: str  #: primary key: unique in the ledger
    guest: str  #: uuid
    position: int
    network: str
    realm: str
    addresses: tuple[str, ...]  #: without prefix; each unique in its realm
    free_after: str | None = None  #: set on release: end of quarantine


@dataclasses.dataclass(frozen=True)
class HostRow:
    name: str
    hypervisor: str
    vcpus: int | None = None
    memory: int | None = None
    disk: int | None = None
    foreign_vcpus: int = 0
    foreign_memory: int = 0
    foreign_disk: int = 0
    cpu: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)  #: model, features, xml: for `baseline`
    facts: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)  #: versions, acceleration, capabilities
    maintenance: str | None = None  #: why; None: open
    fenced: str | None = None  #: when the operator said that it is off
    seen: str | None = None  #: when it was measured


@dataclasses.dataclass(frozen=True)
class BuildRow:
    build_id: str
    image: str
    recipe_id: str
    size: int  #: bytes of the file
    virtual_size: int
    url: str | None  #: where HostOSes fetch it
    created: str  #: or when it became its image's current build again
    manifest: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class HostBuildRow:
    """A build that lies verified on a HostOS."""

    host: str
    build_id: str
    verified: str


@dataclasses.dataclass(frozen=True)
class HostKeyRow:
    guest: str  #: uuid
    key: str  #: "ssh-ed25519 AAAA..."
    recorded: str


@dataclasses.dataclass(frozen=True)
class MoveRow:
    id: str  #: uuid4
    guest: str  #: uuid
    source: str
    target: str
    epoch_from: int
    epoch_to: int
    mode: str  #: live | cold
    state: str
    started: str
    ended: str | None = None
    message: str = ""


@dataclasses.dataclass(frozen=True)
class HistoryRow:
    at: str
    who: str
    job: str | None  #: AWX job id
    what: str  #: verb: assign, commit, release, ...
    subject: str  #: guest or host name
    why: str
    id: int | None = None  #: given by the ledger


@dataclasses.dataclass(frozen=True)
class LedgerState:
    """A consistent view of one cluster. `revision` grows by one with every transaction that changed something."""

    cluster: str
    revision: int
    guests: t.Mapping[str, GuestRow]  #: by uuid
    nics: t.Mapping[str, NicRow]  #: by mac
    hosts: t.Mapping[str, HostRow]  #: by name
    builds: t.Mapping[str, BuildRow]  #: by build_id
    host_builds: frozenset[tuple[str, str]] = frozenset()  #: (host, build_id)
    host_keys: t.Mapping[str, HostKeyRow] = dataclasses.field(default_factory=dict)  #: by guest uuid
    moves: t.Mapping[str, MoveRow] = dataclasses.field(default_factory=dict)  #: in flight only, by guest uuid
    epochs: t.Mapping[str, int] = dataclasses.field(default_factory=dict)  #: highest ever given to a move, by guest
    foreign_macs: frozenset[str] = frozenset()  #: held by other clusters in the same database: taken
    foreign_addresses: frozenset[tuple[str, str]] = frozenset()  #: (realm, address), likewise

    def next_epoch(self, uuid: str) -> int:
        """An epoch that no copy of this guest has ever had, not even one that an aborted move made."""
        row = self.guests.get(uuid)
        return max(row.epoch if row else 0, self.epochs.get(uuid, 0)) + 1

    def guest_named(self, name: str) -> GuestRow | None:
        """The guest with this name that is not released; names are unique among those."""
        for row in self.guests.values():
            if row.name == name and row.state != "released":
                return row
        return None


@dataclasses.dataclass(frozen=True)
class Changes:
    """Rows to write. A row replaces the one with the same primary key. Applied whole or not at all."""

    guests: tuple[GuestRow, ...] = ()
    nics: tuple[NicRow, ...] = ()
    nics_removed: tuple[str, ...] = ()  #: MACs whose quarantine is over or whose NIC is gone
    hosts: tuple[HostRow, ...] = ()
    builds: tuple[BuildRow, ...] = ()
    builds_removed: tuple[str, ...] = ()
    host_builds: tuple[HostBuildRow, ...] = ()
    host_builds_removed: tuple[tuple[str, str], ...] = ()
    host_keys: tuple[HostKeyRow, ...] = ()
    moves: tuple[MoveRow, ...] = ()
    history: tuple[HistoryRow, ...] = ()

    @property
    def empty(self) -> bool:
        return all(not getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "history")


def newest_builds(state: LedgerState) -> dict[str, BuildRow]:
    """Image -> its newest build, which is its current one."""
    ordered = sorted(state.builds.values(), key=lambda build: (build.created, build.build_id))
    return {build.image: build for build in ordered}
