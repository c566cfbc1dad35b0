# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`observe`: what HostOSes answered becomes the guests' state; and the only way from `leaving` to `released`.

A guest is released when the HostOS that the ledger names has proved its absence, never because somebody did not
look. Absence of any other guest is drift: it becomes `absent` and keeps its addresses.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ._ledger_outcome import Outcome, Stamp
from ._ledger_rows import Changes, GuestRow, HistoryRow, HostKeyRow, LedgerState, NicRow
from ._ledger_seen import SeenGuest, Sight


def later(now: str, seconds: int) -> str:
    """`now` plus some seconds, in the same notation."""
    return (datetime.datetime.fromisoformat(now) + datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")


def nics_by_guest(state: LedgerState) -> dict[str, list[NicRow]]:
    found: dict[str, list[NicRow]] = {}
    for nic in state.nics.values():
        found.setdefault(nic.guest, []).append(nic)
    return found


def released(row: GuestRow, nics: t.Iterable[NicRow], stamp: Stamp, quarantine: int) -> tuple[GuestRow, list[NicRow]]:
    """The guest's rows after its release: its addresses rest for `quarantine` seconds."""
    free = later(stamp.now, quarantine)
    resting = [dataclasses.replace(nic, free_after=free) for nic in nics]
    return dataclasses.replace(row, state="released", released=stamp.now), resting


def observe(state: LedgerState, sights: t.Mapping[str, Sight | None], stamp: Stamp, quarantine: int) -> Outcome:
    """`quarantine`: seconds. Unreachable HostOSes (None) say nothing about their guests."""
    return _Observe(state, {host: sight for host, sight in sights.items() if sight}, stamp, quarantine).outcome()


class _Observe:
    def __init__(self, state: LedgerState, sights: t.Mapping[str, Sight], stamp: Stamp, quarantine: int) -> None:
        self._state = state
        self._sights = sights
        self._stamp = stamp
        self._quarantine = quarantine
        self._guests: list[GuestRow] = []
        self._nics: list[NicRow] = []
        self._keys: list[HostKeyRow] = []
        self._history: list[HistoryRow] = []
        self._stale: list[dict[str, t.Any]] = []
        self._unknown: list[dict[str, t.Any]] = []
        self._new_keys: list[str] = []
        self._nics_of = nics_by_guest(state)

    def outcome(self) -> Outcome:
        elsewhere = self._sort_copies()
        for row in self._state.guests.values():
            if row.uuid in self._state.moves or row.state == "released":
                continue  # `settle` looks at both sides of a move
            sight = self._sights.get(row.host) if row.host else None
            seen = sight.guests.get(row.uuid) if sight else None
            if seen and seen.epoch in (None, row.epoch):
                self._present(row, seen)
            elif row.uuid not in elsewhere and (row.host is None or (sight and self._proved_absent(row, sight))):
                self._absent(row, told=bool(sight and row.uuid in sight.gone))
        changes = Changes(
            guests=tuple(self._guests),
            nics=tuple(self._nics),
            host_keys=tuple(self._keys),
            history=tuple(self._history),
        )
        gone = sorted(row.name for row in self._guests if row.state == "released")
        result = {
            "states": {row.name: row.state for row in self._guests},
            "released": gone,
            "host_keys": self._new_keys,
            "stale": self._stale,
            "unknown": self._unknown,
        }
        return Outcome(changes, result, tuple(item["reason"] for item in self._stale + self._unknown))

    def _sort_copies(self) -> set[str]:
        """Report copies that the ledger does not expect; the uuids seen on a HostOS other than the ledger's."""
        elsewhere = set()
        for host, sight in self._sights.items():
            for seen in sight.guests.values():
                row = self._state.guests.get(seen.uuid)
                if row is None:
                    reason = (
                        f"guest {seen.name} on {host} carries our mark (uuid {seen.uuid}) but is not in the ledger: if"
                        " the ledger was lost use `operation: rebuild`; else remove the guest by hand"
                    )
                    self._unknown.append({"guest": seen.name, "uuid": seen.uuid, "host": host, "reason": reason})
                    continue
                if row.host != host:
                    elsewhere.add(row.uuid)
                if row.uuid not in self._state.moves:
                    self._check_copy(row, seen, host)
        return elsewhere

    def _check_copy(self, row: GuestRow, seen: SeenGuest, host: str) -> None:
        """Is this the copy that the ledger means?"""
        if row.state == "released":
            reason = (
                f"guest {row.name} is {seen.state} on {host} although it was released: deploy with pruning removes it"
            )
        elif row.host != host:
            reason = (
                f"guest {row.name} is {seen.state} on {host} (epoch {seen.epoch}) but the ledger has it on {row.host}"
                f" (epoch {row.epoch}): a stale copy"
            )
        elif seen.epoch is not None and seen.epoch > row.epoch:
            reason = (
                f"guest {row.name} on {host} has epoch {seen.epoch}, the ledger only {row.epoch}: the ledger is older"
                " than reality. Was a backup restored? Empty the ledger (docs/how-to/ledger.md: import an empty"
                " document with `replace: true`), then run oscarv.virt.settle; a rebuild alone keeps the rows that are"
                " there"
            )
        elif seen.epoch is not None and seen.epoch < row.epoch and row.state != "planned":
            reason = f"guest {row.name} on {host} has epoch {seen.epoch}, the ledger {row.epoch}: deploy updates it"
        else:
            return
        found = {"guest": row.name, "uuid": row.uuid, "host": host, "state": seen.state, "epoch": seen.epoch}
        self._stale.append({**found, "ledger_host": row.host, "ledger_epoch": row.epoch, "reason": reason})

    def _present(self, row: GuestRow, seen: SeenGuest) -> None:
        if seen.state != "moving" and row.state not in (seen.state, "leaving"):
            self._change(row, seen.state, f"seen {seen.state} on {row.host}, was {row.state}")
        old = self._state.host_keys.get(row.uuid)
        if seen.host_key and (old is None or old.key != seen.host_key):
            self._keys.append(HostKeyRow(row.uuid, seen.host_key, self._stamp.now))
            self._new_keys.append(row.name)
            why = f"host key {'changed' if old else 'recorded'} from {row.host}: {seen.host_key}"
            self._history.append(self._stamp.history("observe", row.name, why))

    def _proved_absent(self, row: GuestRow, sight: Sight) -> bool:
        """Not if a tombstone as new as the ledger's copy says that the guest moved, by a move the ledger lacks."""
        stone = sight.stones.get(row.uuid)
        if not sight.lacks(row.uuid) or stone is None or (stone.state != "unreadable" and stone.epoch < row.epoch):
            return sight.lacks(row.uuid)
        reason = (
            f"guest {row.name}: {row.host} has a tombstone of it ({stone.state}, epoch {stone.epoch}), the ledger has"
            f" it there with epoch {row.epoch}: the ledger is older than reality, or a move was cut off. Find the guest"
            " with oscarv.virt.status before anything else"
        )
        found = {"guest": row.name, "uuid": row.uuid, "host": row.host, "state": "absent", "epoch": stone.epoch}
        self._stale.append({**found, "ledger_host": row.host, "ledger_epoch": row.epoch, "reason": reason})
        return False

    def _absent(self, row: GuestRow, *, told: bool) -> None:
        if row.state == "leaving":
            guest, nics = released(row, self._nics_of.get(row.uuid, ()), self._stamp, self._quarantine)
            self._guests.append(guest)
            self._nics += nics
            proof = f"{row.host} has it no longer" if row.host else "it never had a host"
            self._history.append(self._stamp.history("release", row.name, f"left the definition and {proof}"))
        elif row.host is not None and row.state != "absent" and (row.state != "planned" or told):
            self._change(row, "absent", f"not on {row.host}, was {row.state}")

    def _change(self, row: GuestRow, to: str, why: str) -> None:
        self._guests.append(dataclasses.replace(row, state=to))
        self._history.append(self._stamp.history("observe", row.name, why))
