# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a guest is: new, renamed, come back, leaving, on a HostOS that is lost, or to be made again."""

from __future__ import annotations

import collections
import dataclasses
import random as random_module
import typing as t
import uuid

from ._assign_problem import lacks
from ._ledger_rows import GuestRow, HostRow, LedgerState
from ._model import Cluster, Guest
from ._plan import Stays
from ._words import counted, listing, natural, percent


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What was asked beside the definition."""

    now: str
    confirm: str | None = None
    fenced: tuple[str, ...] = ()
    recreate: frozenset[str] | None = frozenset()  #: guests that may be made again, empty; None: any
    rebuild: frozenset[str] = frozenset()
    teardown: bool = False


class Register:
    """The guests' rows while they are being decided. Everything is done in sorted order: the result is one."""

    def __init__(self, cluster: Cluster, state: LedgerState, wishes: Wishes, random: random_module.Random) -> None:
        self.cluster = cluster
        self.state = state
        self.wishes = wishes
        self._random = random
        self.rows: dict[str, GuestRow] = {row.name: row for row in state.guests.values() if row.state != "released"}
        self.hosts: dict[str, HostRow] = {}
        self.errors: list[str] = []
        self.why: dict[str, list[str]] = collections.defaultdict(list)  # guest -> words for the history
        self.recreate: set[str] = set()
        self.stays: dict[str, Stays] = {}
        self.lost: dict[str, GuestRow] = {}  # guests of fenced hosts that are to be placed again, as they were

    def run(self) -> None:
        self._fence()
        if self.wishes.teardown:
            self._confirm_teardown()
            self._leave(list(self.rows.values()), "teardown")
            return
        self._identify()
        gone = [row for row in self.rows.values() if row.name not in self.cluster.guests and row.state != "leaving"]
        self._confirm_leaving(gone)
        self._leave(gone, "left the definition")
        for guest in self._guests():
            self._find_lost(guest)
        self._rebuild()

    def _guests(self) -> list[Guest]:
        return sorted(self.cluster.guests.values(), key=lambda guest: natural(guest.name))

    # -- names ------------------------------------------------------------------------------------------------------

    def _identify(self) -> None:
        for guest in self._guests():
            former = guest.renamed_from
            if former and former in self.rows and former not in self.cluster.guests:
                self._rename(guest, former)
            row = self.rows.get(guest.name)
            if row is None:
                self.rows[guest.name] = self._new(guest)
            elif row.state == "leaving":
                self.rows[guest.name] = dataclasses.replace(row, state="planned", partition=guest.partition)
                self.why[guest.name].append("is in the definition again")
            elif row.partition != guest.partition:
                self.rows[guest.name] = dataclasses.replace(row, partition=guest.partition)
                self.why[guest.name].append(f"partition {guest.partition}, was {row.partition}")

    def _rename(self, guest: Guest, former: str) -> None:
        if guest.name in self.rows:
            self.errors.append(
                f"guest {guest.name}: renamed_from {former}: the ledger has both names; take renamed_from out, then"
                f" {former} leaves"
            )
            return
        row = self.rows.pop(former)
        self.rows[guest.name] = dataclasses.replace(row, name=guest.name)
        self.why[guest.name].append(f"renamed from {former}")

    def _new(self, guest: Guest) -> GuestRow:
        self.why[guest.name].append("new")
        new = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        return GuestRow(new, guest.name, guest.partition, None, 1, "planned")

    # -- leaving ----------------------------------------------------------------------------------------------------

    def _leave(self, rows: t.Iterable[GuestRow], why: str) -> None:
        for row in rows:
            if row.state != "leaving":
                self.rows[row.name] = dataclasses.replace(row, state="leaving")
                self.why[row.name].append(why)

    def _confirm_leaving(self, gone: list[GuestRow]) -> None:
        """Those that are leaving already count too: ten times a tenth is everything."""
        known = {row.uuid for row in self.state.guests.values() if row.state != "released"}
        leaving = [row.name for row in self.rows.values() if row.state == "leaving"] + [row.name for row in gone]
        if not gone or len(leaving) <= self.cluster.max_release * len(known):
            return
        self._want_confirm(
            f"{len(leaving)} of {counted(len(known), 'guest')} would leave, which is more than"
            f" {percent(self.cluster.max_release, 1)} (max_release): {listing(sorted(leaving, key=natural))}. Put them"
            " back into the definition"
        )

    def _confirm_teardown(self) -> None:
        self._want_confirm(
            f"teardown removes {counted(len(self.rows), 'guest')} of cluster {self.cluster.name} with their disks:"
            f" {listing(sorted(self.rows, key=natural)) or 'none'}. If you mean it"
        )

    def _want_confirm(self, text: str) -> None:
        name, given = self.cluster.name, self.wishes.confirm
        if given == name:
            return
        found = f" (found oscarv_confirm={given})" if given else ""
        joint = ", say" if text.endswith("If you mean it") else ", or say"
        self.errors.append(f"{text}{joint} -e oscarv_confirm={name}{found}")

    # -- lost hosts -------------------------------------------------------------------------------------------------

    def _fence(self) -> None:
        for name in self.wishes.fenced:
            row = self.state.hosts.get(name)
            if row is None and name in self.cluster.hosts:
                row = HostRow(name, self.cluster.hosts[name].hypervisor)
            if row is None:
                self.errors.append(f"fenced: there is no HostOS {name} in cluster {self.cluster.name} or its ledger")
            elif not row.fenced:
                self.hosts[name] = dataclasses.replace(row, fenced=self.wishes.now)

    def _is_fenced(self, host: str) -> bool:
        row = self.hosts.get(host) or self.state.hosts.get(host)
        return bool(row and row.fenced)

    def _find_lost(self, guest: Guest) -> None:
        row = self.rows[guest.name]
        if row.host is None:
            return
        if row.uuid in self.state.moves:
            move = self.state.moves[row.uuid]
            self._hold(guest, f"its move from {move.source} to {move.target} is not settled: run oscarv.virt.settle")
        elif self._is_fenced(row.host):
            self._lose(guest, row)
        elif row.host not in self.cluster.hosts:
            self._hold(
                guest,
                f"its HostOS {row.host} is not in the definition: put it back and evacuate it, or if it is off for good"
                f" say -e oscarv_fenced={row.host}",
            )

    def _lose(self, guest: Guest, row: GuestRow) -> None:
        """Guests of a fenced host come up elsewhere: with their disks from shared pools, else empty and by consent."""
        local = [disk.name for disk in guest.disks if not disk.shared]
        consent = self.wishes.recreate is None or guest.name in self.wishes.recreate
        if local and not consent:
            self._hold(
                guest,
                f"{row.host} is fenced and has its disks ({', '.join(local)}): wait for {row.host}, or make the guest"
                " again, empty: -e oscarv_recreate=true",
            )
            return
        self.lost[guest.name] = row
        self.rows[guest.name] = dataclasses.replace(
            row,
            host=None,
            epoch=self.state.next_epoch(row.uuid),
            state="planned",
            first_contact=None if local else row.first_contact,
        )
        if local:
            self.recreate.add(guest.name)

    def _hold(self, guest: Guest, reason: str) -> None:
        self.stays[guest.name] = Stays(guest.name, reason)

    def keep_lost(self, name: str) -> None:
        """A guest of a fenced host found no other place: it stays as it was."""
        self.rows[name] = self.lost.pop(name)
        self.recreate.discard(name)
        self.why.pop(name, None)

    # -- rebuild ----------------------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """The newest build of the definition's image becomes the guest's, see `_assign._builds`.

        The epoch is raised, so that a rebuild on the same build is one too, and one that was made is not made again.
        """
        if self.wishes.rebuild:
            names = listing(sorted(self.wishes.rebuild, key=natural))
            count = counted(len(self.wishes.rebuild), "guest")
            self._want_confirm(
                f"rebuild makes the root disk of {count} anew, what is on it is lost: {names}. If you mean it"
            )
        for name in sorted(self.wishes.rebuild, key=natural):
            row = self.rows.get(name)
            if row is None or name not in self.cluster.guests or row.state == "leaving":
                self.errors.append(f"rebuild: guest {name} is not in the definition")
            elif row.host is None or name in self.stays or name in self.lost:
                reason = self.stays[name].reason if name in self.stays else "it has no HostOS yet"
                self.errors.append(f"rebuild: guest {name}: {reason}")
            elif "rebuild" in (lacking := lacks(self.state.hosts.get(row.host))):
                self.errors.append(
                    f"rebuild: guest {name}: its HostOS {row.host} lacks capability rebuild: {lacking['rebuild']}"
                )
            else:
                self.recreate.add(name)
                epoch = self.state.next_epoch(row.uuid)
                self.rows[name] = dataclasses.replace(row, first_contact=None, epoch=epoch)
                self.why[name].append("rebuild")
