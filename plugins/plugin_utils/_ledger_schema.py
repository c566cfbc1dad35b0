# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the ledger, made from the rows of `_ledger_rows`, and the steps from one version to the next.

A row that gains a field gains a column, and with it `_ledger_sql.VERSION` must grow and STEPS must say how an older
ledger gets there; tests/unit/ledger/test_ledger_schema.py holds the two together.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from . import _ledger_rows as rows
from . import _ledger_sql as sql

if t.TYPE_CHECKING:
    import sqlalchemy as sa

PREFIX = "oscarv_"


class Tables:
    """All tables; made by `tables()`. Needs SQLAlchemy."""

    def __init__(self) -> None:
        import sqlalchemy

        self._sa = sqlalchemy
        self.metadata = sqlalchemy.MetaData()
        self.schema = self._raw("schema", self._column("version", sqlalchemy.Integer))
        self.cluster = self._raw(
            "cluster", self._column("name", key=True), self._column("revision", sqlalchemy.BigInteger)
        )
        self.guest = self._table("guest", rows.GuestRow, "uuid")
        self.nic = self._table("nic", rows.NicRow, "mac", owner=("guest", "guest", "uuid"), leave_out=("addresses",))
        # The database itself guarantees that an address is given once in its realm, whatever a program does.
        self.nic_address = self._raw(
            "nic_address",
            self._column("realm", key=True),
            self._column("address", key=True),
            self._column("cluster"),
            self._column("mac"),
            self._column("position", sqlalchemy.Integer),
            self._owned_by("mac", "nic", "mac"),
        )
        self.host = self._table("host", rows.HostRow, "cluster", "name")
        self.build = self._table("build", rows.BuildRow, "cluster", "build_id")
        self.host_build = self._table("host_build", rows.HostBuildRow, "cluster", "host", "build_id")
        self.host_key = self._table("host_key", rows.HostKeyRow, "guest", owner=("guest", "guest", "uuid"))
        self.move = self._table("move", rows.MoveRow, "id", owner=("guest", "guest", "uuid"))
        number = sqlalchemy.Column(
            "id", sqlalchemy.BigInteger().with_variant(sqlalchemy.Integer, "sqlite"), primary_key=True
        )
        columns = self._columns(rows.HistoryRow, (), leave_out=("id",))
        self.history = sqlalchemy.Table(PREFIX + "history", self.metadata, number, self._column("cluster"), *columns)
        self._indices()

    def _indices(self) -> None:
        self._index("guest_name", self.guest.c.cluster, self.guest.c.name, only="state <> 'released'")
        self._index("move_in_flight", self.move.c.guest, only="state = 'in_flight'")
        self._index("move_epoch", self.move.c.cluster, self.move.c.guest, self.move.c.epoch_to)
        self._index("nic_guest", self.nic.c.guest)
        self._index("nic_address_mac", self.nic_address.c.mac)
        self._index("history_subject", self.history.c.cluster, self.history.c.subject)

    def _index(self, name: str, *columns: t.Any, only: str | None = None) -> None:
        """With `only` a unique index over the rows for which that holds."""
        where: dict[str, t.Any] = (
            {f"{kind}_where": self._sa.text(only) for kind in ("sqlite", "postgresql")} if only else {}
        )
        self._sa.Index(PREFIX + name, *columns, unique=bool(only), **where)

    def _column(self, name: str, kind: t.Any = None, *, key: bool = False) -> sa.Column[t.Any]:
        return self._sa.Column(name, kind or self._sa.Text, nullable=False, primary_key=key)

    def _raw(self, name: str, *parts: t.Any) -> sa.Table:
        keyed = any(getattr(part, "primary_key", False) for part in parts)
        # Rows are read in the order of their key: without row ids that is the order in the file.
        return self._sa.Table(PREFIX + name, self.metadata, *parts, sqlite_with_rowid=not keyed)

    def _table(
        self,
        name: str,
        row: type,
        *key: str,
        owner: tuple[str, str, str] | None = None,
        leave_out: tuple[str, ...] = (),
    ) -> sa.Table:
        """The table of a row; `cluster` is part of the key where the row's own key is unique in one cluster only."""
        columns = self._columns(row, key, leave_out)
        owners = [self._owned_by(*owner)] if owner else []
        return self._raw(name, self._column("cluster", key="cluster" in key), *columns, *owners)

    def _columns(self, row: type, key: tuple[str, ...], leave_out: tuple[str, ...] = ()) -> list[sa.Column[t.Any]]:
        columns: list[sa.Column[t.Any]] = []
        for field in dataclasses.fields(row):
            if field.name in leave_out:
                continue
            hint = str(field.type)
            kind: t.Any = self._sa.BigInteger if hint.startswith("int") else self._sa.Text  # a mapping is JSON text
            optional = hint.endswith("| None")
            columns.append(self._sa.Column(field.name, kind, nullable=optional, primary_key=field.name in key))
        return columns

    def _owned_by(self, column: str, table: str, key: str) -> sa.ForeignKeyConstraint:
        return self._sa.ForeignKeyConstraint([column], [f"{PREFIX}{table}.{key}"], ondelete="CASCADE")


@functools.cache
def tables() -> Tables:
    return Tables()


#: STEPS[n] turns a ledger of version n into one of version n + 1, inside the caller's transaction.
STEPS: dict[int, t.Callable[[sa.Connection], None]] = {}


def create(connection: sa.Connection) -> None:
    """Make all tables in an empty database, inside the caller's transaction."""
    tables().metadata.create_all(connection)
    connection.execute(tables().schema.insert().values(version=sql.VERSION))


def upgrade(connection: sa.Connection, version: int) -> None:
    """From `version` to `_ledger_sql.VERSION`, inside the caller's transaction: all steps or none."""
    for number in range(version, sql.VERSION):
        STEPS[number](connection)
    connection.execute(tables().schema.update().values(version=sql.VERSION))
