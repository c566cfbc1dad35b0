# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows out of the ledger and into it. Reading needs no SQLAlchemy (see `_ledger_store`), writing does."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing as t

from ._ledger_rows import (
    BuildRow,
    Changes,
    GuestRow,
    HistoryRow,
    HostBuildRow,
    HostKeyRow,
    HostRow,
    LedgerState,
    MoveRow,
    NicRow,
)
from ._ledger_store import Fetch

if t.TYPE_CHECKING:
    import sqlalchemy as sa

#: Version of the schema that this code reads and writes (`_ledger_schema` has the tables).
VERSION = 1

Row = t.TypeVar("Row")
#: Columns that hold JSON text.
_JSON = {HostRow: ("cpu", "facts"), BuildRow: ("manifest",)}


def _select(row: type[Row], table: str, condition: str = "", *, leave_out: tuple[str, ...] = ()) -> str:
    names = [field.name for field in dataclasses.fields(t.cast(t.Any, row)) if field.name not in leave_out]
    return f"SELECT {', '.join(names)} FROM oscarv_{table} WHERE cluster = :cluster {condition}"


def _decoded(row: type[Row], found: t.Sequence[t.Any]) -> Row:
    names = [field.name for field in dataclasses.fields(t.cast(t.Any, row))]
    values = dict(zip(names, found, strict=True))
    for name in _JSON.get(t.cast(t.Any, row), ()):
        values[name] = json.loads(values[name])
    return row(**values)


def read_state(fetch: Fetch, cluster: str) -> LedgerState:
    """Everything of one cluster; `fetch` must be a snapshot."""
    me = {"cluster": cluster}
    revision = fetch("SELECT revision FROM oscarv_cluster WHERE name = :cluster", me)
    guests = [GuestRow(*found) for found in fetch(_select(GuestRow, "guest", "ORDER BY uuid"), me)]
    hosts = [_decoded(HostRow, found) for found in fetch(_select(HostRow, "host", "ORDER BY name"), me)]
    builds = [_decoded(BuildRow, found) for found in fetch(_select(BuildRow, "build", "ORDER BY build_id"), me)]
    host_builds = fetch("SELECT host, build_id FROM oscarv_host_build WHERE cluster = :cluster", me)
    keys = [HostKeyRow(*found) for found in fetch(_select(HostKeyRow, "host_key", "ORDER BY guest"), me)]
    moves = [MoveRow(*found) for found in fetch(_select(MoveRow, "move", "AND state = 'in_flight' ORDER BY id"), me)]
    epochs = fetch("SELECT guest, max(epoch_to) FROM oscarv_move WHERE cluster = :cluster GROUP BY guest", me)
    macs = fetch("SELECT mac FROM oscarv_nic WHERE cluster <> :cluster", me)
    addresses = fetch("SELECT realm, address FROM oscarv_nic_address WHERE cluster <> :cluster", me)
    return LedgerState(
        cluster=cluster,
        revision=int(revision[0][0]) if revision else 0,
        guests={row.uuid: row for row in guests},
        nics={row.mac: row for row in _read_nics(fetch, me)},
        hosts={row.name: row for row in hosts},
        builds={row.build_id: row for row in builds},
        host_builds=frozenset((host, build) for host, build in host_builds),
        host_keys={row.guest: row for row in keys},
        moves={row.guest: row for row in moves},
        epochs={guest: int(epoch) for guest, epoch in epochs},
        foreign_macs=frozenset(mac for (mac,) in macs),
        foreign_addresses=frozenset((realm, address) for realm, address in addresses),
    )


def empty_state(cluster: str) -> LedgerState:
    return LedgerState(cluster, 0, {}, {}, {}, {})


def _read_nics(fetch: Fetch, me: dict[str, str]) -> list[NicRow]:
    addresses: dict[str, list[str]] = {}
    sql = "SELECT mac, address FROM oscarv_nic_address WHERE cluster = :cluster ORDER BY mac, position"
    for mac, address in fetch(sql, me):
        addresses.setdefault(mac, []).append(address)
    names = "mac, guest, position, network, realm, free_after"
    found = fetch(f"SELECT {names} FROM oscarv_nic WHERE cluster = :cluster ORDER BY mac", me)
    return [
        NicRow(mac, guest, position, network, realm, tuple(addresses.get(mac, ())), free_after)
        for mac, guest, position, network, realm, free_after in found
    ]


def read_moves(fetch: Fetch, cluster: str, ids: t.Collection[str] | None = None) -> list[MoveRow]:
    """All moves ever, oldest first, or those with the given ids."""
    found = fetch(_select(MoveRow, "move", "ORDER BY started, id"), {"cluster": cluster})
    moves = [MoveRow(*values) for values in found]
    return moves if ids is None else [move for move in moves if move.id in ids]


def read_host_builds(fetch: Fetch, cluster: str) -> list[HostBuildRow]:
    found = fetch(_select(HostBuildRow, "host_build", "ORDER BY host, build_id"), {"cluster": cluster})
    return [HostBuildRow(*values) for values in found]


def read_history(
    fetch: Fetch, cluster: str, *, subject: str | None = None, what: str | None = None, limit: int | None = None
) -> list[HistoryRow]:
    """History, newest first."""
    condition = "AND subject = :subject " * (subject is not None) + "AND what = :what " * (what is not None)
    sql = _select(HistoryRow, "history", condition + "ORDER BY id DESC" + " LIMIT :limit" * (limit is not None))
    given = {"subject": subject, "what": what, "limit": limit}
    values = {"cluster": cluster, **{key: value for key, value in given.items() if value is not None}}
    return [HistoryRow(*found) for found in fetch(sql, values)]


@functools.lru_cache(maxsize=32)  # making the statement costs more than running it
def _upsert(table: sa.Table, dialect: str) -> t.Any:
    """INSERT that replaces the row with the same primary key, in the words of either database."""
    from sqlalchemy.dialects import postgresql, sqlite

    statement: t.Any = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    key = [column.name for column in table.primary_key]
    rest = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=rest)


class Writer:
    """Writes rows of one cluster through one SQLAlchemy connection that is inside a transaction."""

    def __init__(self, connection: sa.Connection, cluster: str) -> None:
        from ._ledger_schema import tables

        self._connection = connection
        self._cluster = cluster
        self._tables = tables()

    def apply(self, changes: Changes) -> None:
        """All rows of `changes`. What is removed goes first, so that its addresses can be given again."""
        tables = self._tables
        self._remove(tables.nic, "mac", changes.nics_removed)
        self._remove(tables.build, "build_id", changes.builds_removed)
        self._remove_host_builds(changes.host_builds_removed)
        self._upsert(tables.guest, changes.guests)
        self._nics(changes.nics)
        self._upsert(tables.host, changes.hosts)
        self._upsert(tables.build, changes.builds)
        self._upsert(tables.host_build, changes.host_builds)
        self._upsert(tables.host_key, changes.host_keys)
        self._upsert(tables.move, changes.moves)
        if changes.history:
            records = [self._record(row) for row in changes.history]
            for record in records:
                del record["id"]  # given by the database
            self._connection.execute(tables.history.insert(), records)

    def set_revision(self, revision: int) -> None:
        statement = _upsert(self._tables.cluster, self._connection.dialect.name)
        self._connection.execute(statement, {"name": self._cluster, "revision": revision})

    def clear(self) -> None:
        """Remove every row of the cluster but its history."""
        tables = self._tables
        for table in (tables.guest, tables.host, tables.build, tables.host_build):  # the others go with the guests
            self._connection.execute(table.delete().where(table.c.cluster == self._cluster))

    def _record(self, row: t.Any) -> dict[str, t.Any]:
        record = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        for name in _JSON.get(type(row), ()):
            record[name] = json.dumps(record[name], sort_keys=True)
        return {"cluster": self._cluster, **record}

    def _upsert(self, table: sa.Table, rows: t.Sequence[t.Any], records: list[dict[str, t.Any]] | None = None) -> None:
        if not rows:
            return
        statement = _upsert(table, self._connection.dialect.name)
        self._connection.execute(statement, records or [self._record(row) for row in rows])

    def _nics(self, nics: t.Sequence[NicRow]) -> None:
        if not nics:
            return
        table = self._tables.nic_address
        self._remove(table, "mac", [nic.mac for nic in nics])
        records = [self._record(nic) for nic in nics]
        for record in records:
            del record["addresses"]
        self._upsert(self._tables.nic, nics, records)
        given = [
            {"realm": nic.realm, "address": address, "cluster": self._cluster, "mac": nic.mac, "position": position}
            for nic in nics
            for position, address in enumerate(nic.addresses)
        ]
        if given:
            self._connection.execute(table.insert(), given)

    def _remove(self, table: sa.Table, column: str, values: t.Sequence[str]) -> None:
        if values:
            import sqlalchemy

            statement = table.delete().where(
                table.c.cluster == self._cluster, table.c[column] == sqlalchemy.bindparam("value")
            )
            self._connection.execute(statement, [{"value": value} for value in values])

    def _remove_host_builds(self, pairs: t.Sequence[tuple[str, str]]) -> None:
        if pairs:
            import sqlalchemy

            table = self._tables.host_build
            statement = table.delete().where(
                table.c.cluster == self._cluster,
                table.c.host == sqlalchemy.bindparam("its_host"),
                table.c.build_id == sqlalchemy.bindparam("its_build"),
            )
            self._connection.execute(statement, [{"its_host": host, "its_build": build} for host, build in pairs])
