# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger of one cluster: read a snapshot, or decide and record inside one exclusive transaction.

    ledger = open_ledger(cluster)
    state = ledger.state()                      # changes nothing, creates nothing
    with ledger.transaction() as tx:            # one writer at a time
        tx.write(decide(tx.state))              # all rows or none

An exception inside the `with` leaves the ledger as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import typing as t

from . import _ledger_schema
from . import _ledger_sql as sql
from ._ledger_changes import applied, problems
from ._ledger_document import export_document, has_rows, read_document, same_rows
from ._ledger_rows import Changes, HistoryRow, HostBuildRow, LedgerState, MoveRow
from ._ledger_store import Fetch, LedgerError, Store, open_store
from ._model import Cluster

if t.TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Ledger", "LedgerError", "Transaction", "open_ledger"]


def open_ledger(cluster: Cluster, url: str | None = None) -> Ledger:
    """The ledger of `cluster`: at `url`, else at OSCARV_LEDGER, else where the definition says.

    Raises LedgerError for a URL that cannot be used; touches no file and no server yet.
    """
    where = url or os.environ.get("OSCARV_LEDGER") or cluster.ledger
    folder = str(pathlib.Path(cluster.definition).parent)
    return Ledger(cluster.name, open_store(where, folder, os.environ))


#: What an empty cluster has; what other clusters of the same database hold stays.
_NOTHING: dict[str, t.Any] = {
    "guests": {},
    "nics": {},
    "hosts": {},
    "builds": {},
    "host_builds": frozenset(),
    "host_keys": {},
    "moves": {},
    "epochs": {},
}


def refuse(state: LedgerState, changes: Changes) -> None:
    """LedgerError if `changes` cannot be written; check mode asks the same."""
    wrong = problems(state, changes)
    if wrong:
        raise LedgerError("nothing was written to the ledger: " + "; ".join(wrong))


class Transaction:
    """Made by `Ledger.transaction`; ends with its `with` block."""

    def __init__(self, connection: sa.Connection, fetch: Fetch, cluster: str) -> None:
        self._fetch = fetch
        self._cluster = cluster
        self._writer = sql.Writer(connection, cluster)
        self._state: LedgerState | None = None
        self._revision: int | None = None  #: of this transaction, once it has written

    @property
    def state(self) -> LedgerState:
        """The ledger as it is now, with what this transaction has written."""
        if self._state is None:
            self._state = sql.read_state(self._fetch, self._cluster)
        return self._state

    def write(self, changes: Changes) -> None:
        """Record `changes`; LedgerError (and nothing is written) if they cannot be. May be called more than once."""
        refuse(self.state, changes)
        self._refuse_foreign_guests(changes)
        before = self.state
        self._writer.apply(changes)
        if changes.empty:
            return
        if self._revision is None:  # a second write of the same transaction belongs to the same revision
            self._revision = before.revision + 1
            self._writer.set_revision(self._revision)
        self._state = dataclasses.replace(applied(before, changes), revision=self._revision)

    def replace(self, changes: Changes, revision: int, history: HistoryRow) -> None:
        """Throw away every row of the cluster and write `changes` instead. History rows that are new are added."""
        before = self.state
        refuse(dataclasses.replace(before, **_NOTHING), changes)
        self._writer.clear()
        self._state = dataclasses.replace(before, **_NOTHING)
        self._refuse_foreign_guests(changes)
        known = {dataclasses.replace(row, id=None) for row in sql.read_history(self._fetch, self._cluster)}
        new = tuple(row for row in changes.history if row not in known)
        self._writer.apply(dataclasses.replace(changes, history=(*new, history)))
        self._revision = max(revision, before.revision + 1)
        self._writer.set_revision(self._revision)
        self._state = None

    def moves(self, ids: t.Collection[str] | None = None) -> list[MoveRow]:
        """Moves in every state, oldest first."""
        return sql.read_moves(self._fetch, self._cluster, ids)

    def _refuse_foreign_guests(self, changes: Changes) -> None:
        """A uuid that another cluster of this database uses would be taken over by the upsert."""
        new = {row.uuid: row.name for row in changes.guests if row.uuid not in self.state.guests}
        if not new:
            return
        others = "SELECT uuid, cluster FROM oscarv_guest WHERE cluster <> :cluster"
        for uuid, owner in self._fetch(others, {"cluster": self._cluster}):
            if uuid in new:
                raise LedgerError(
                    f"nothing was written to the ledger: guest {new[uuid]}: its uuid {uuid} belongs to cluster {owner}"
                    " in the same ledger"
                )


class Ledger:
    def __init__(self, cluster: str, store: Store) -> None:
        self.cluster = cluster
        self._store = store

    @property
    def url(self) -> str:
        """Where it is; never with a password."""
        return self._store.url

    def state(self) -> LedgerState:
        """A consistent snapshot; an empty one where there is no ledger yet. Creates nothing."""
        return self._read(lambda fetch: sql.read_state(fetch, self.cluster), sql.empty_state(self.cluster))

    def history(
        self, *, subject: str | None = None, what: str | None = None, limit: int | None = None
    ) -> list[HistoryRow]:
        """Newest first."""
        return self._read(
            lambda fetch: sql.read_history(fetch, self.cluster, subject=subject, what=what, limit=limit), []
        )

    def moves(self, ids: t.Collection[str] | None = None) -> list[MoveRow]:
        """Moves in every state, oldest first."""
        return self._read(lambda fetch: sql.read_moves(fetch, self.cluster, ids), [])

    def host_builds(self) -> list[HostBuildRow]:
        return self._read(lambda fetch: sql.read_host_builds(fetch, self.cluster), [])

    def version(self) -> int | None:
        """The schema's version; None where there is no ledger yet."""
        if not self._store.exists():
            return None
        with self._store.reader() as fetch:
            return self._store.version(fetch)

    @contextlib.contextmanager
    def transaction(self) -> t.Iterator[Transaction]:
        """Exclusive for this cluster; makes the tables where they are missing."""
        with self._store.writer(self.cluster) as connection:
            version = self._store.version(self._store.fetch(connection))
            if version is None:
                _ledger_schema.create(connection)
            else:
                self._check(version)
            yield Transaction(connection, self._store.fetch(connection), self.cluster)

    def export(self) -> dict[str, t.Any]:
        """The whole ledger of the cluster as plain data; see `_ledger_document`."""
        return self._read(
            lambda fetch: export_document(fetch, self.cluster), export_document(lambda _sql, _values: [], self.cluster)
        )

    def import_(
        self, document: t.Any, history: HistoryRow, *, replace: bool = False, check: bool = False
    ) -> tuple[dict[str, t.Any], dict[str, t.Any]] | None:
        """Take over an exported document; with `check` only say what would be.

        Returns the documents before and after, None if the ledger holds the same rows already. History is added to,
        never replaced. Raises Refused for a document that is wrong, LedgerError if rows would be overwritten without
        `replace`.
        """
        revision, changes = read_document(document, self.cluster)
        before = self.export()
        if same_rows(before, document):
            return None
        if not replace and has_rows(before):
            raise LedgerError(
                f"ledger {self.url}: it has rows of cluster {self.cluster} already; `replace: true` overwrites them"
            )
        refuse(dataclasses.replace(self.state(), **_NOTHING), changes)
        if not check:
            with self.transaction() as tx:
                tx.replace(changes, revision, history)
        return before, {**document, "revision": max(revision, before["revision"] + 1)}

    def upgrade(self, history: HistoryRow, *, check: bool = False) -> tuple[int, int] | None:
        """Bring an older schema to this one, all steps or none: (from, to), or None where there is no ledger yet.

        With `check` only say what would be.
        """
        version = self.version()
        if version is not None and version > sql.VERSION:
            self._check(version)
        if version is None or version == sql.VERSION or check:
            return None if version is None else (version, sql.VERSION)
        with self._store.writer(self.cluster, whole=True) as connection:
            version = t.cast(int, self._store.version(self._store.fetch(connection)))
            _ledger_schema.upgrade(connection, version)
            why = dataclasses.replace(history, why=f"schema {version} to {sql.VERSION}")
            sql.Writer(connection, self.cluster).apply(Changes(history=(why,)))
        return (version, sql.VERSION)

    def _read(self, read: t.Callable[[Fetch], t.Any], empty: t.Any) -> t.Any:
        if not self._store.exists():
            return empty
        with self._store.reader() as fetch:
            version = self._store.version(fetch)
            if version is None:
                return empty
            self._check(version)
            return read(fetch)

    def _check(self, version: int) -> None:
        if version > sql.VERSION:
            raise LedgerError(
                f"ledger {self.url}: its schema is version {version}, this collection knows {sql.VERSION}: it was"
                " written by a newer oscarv.virt; use that one"
            )
        if version < sql.VERSION:
            raise LedgerError(
                f"ledger {self.url}: its schema is version {version}, this collection wants {sql.VERSION}: make a"
                " backup, then run oscarv.virt.ledger with `operation: upgrade`"
            )
