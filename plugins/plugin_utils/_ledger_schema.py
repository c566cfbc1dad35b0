# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the ledger, made from the rows of `_ledger_rows`, and the steps from one version to the next.

A row that gains a field gains a column, and with it `_ledger_sql.VERSION` must grow and STEPS must say how an older
ledger gets there; tests/unit/ledger/test_schema.py holds the two together. Imports SQLAlchemy: only writers come here.
"""

from __future__ import annotations

import dataclasses
import typing as t

import sqlalchemy as sa

from . import _ledger_rows as rows
from . import _ledger_sql as sql

PREFIX = "oscarv_"
metadata = sa.MetaData()

_TYPES = {"str": sa.Text, "int": sa.BigInteger}


def _columns(row: type, key: tuple[str, ...], leave_out: tuple[str, ...] = ()) -> list[sa.Column[t.Any]]:
    columns: list[sa.Column[t.Any]] = []
    for field in dataclasses.fields(row):
        if field.name in leave_out:
            continue
        hint = str(field.type)
        kind = _TYPES.get(hint.split(" | ")[0], sa.Text)  # a mapping is JSON text
        columns.append(sa.Column(field.name, kind, nullable=hint.endswith("| None"), primary_key=field.name in key))
    return columns


def _table(name: str, row: type, *key: str, more: tuple[t.Any, ...] = (), leave_out: tuple[str, ...] = ()) -> sa.Table:
    """One table; `cluster` is part of the key where the row's own key is unique in one cluster only."""
    whole = "cluster" in key
    cluster: sa.Column[str] = sa.Column("cluster", sa.Text, nullable=False, primary_key=whole)
    own = _columns(row, tuple(part for part in key if part != "cluster"), leave_out)
    return sa.Table(PREFIX + name, metadata, cluster, *own, *more, sqlite_with_rowid=False)


def _owned_by(column: str, table: str, key: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{PREFIX}{table}.{key}"], ondelete="CASCADE")


schema = sa.Table(PREFIX + "schema", metadata, sa.Column("version", sa.Integer, nullable=False))
cluster = sa.Table(
    PREFIX + "cluster",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
guest = _table("guest", rows.GuestRow, "uuid")
nic = _table("nic", rows.NicRow, "mac", more=(_owned_by("guest", "guest", "uuid"),), leave_out=("addresses",))
#: The database itself guarantees that an address is given once in its realm, whatever a program does.
nic_address = sa.Table(
    PREFIX + "nic_address",
    metadata,
    sa.Column("realm", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, primary_key=True),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("mac", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    _owned_by("mac", "nic", "mac"),
    sqlite_with_rowid=False,
)
host = _table("host", rows.HostRow, "cluster", "name")
build = _table("build", rows.BuildRow, "cluster", "build_id")
host_build = _table("host_build", rows.HostBuildRow, "cluster", "host", "build_id")
host_key = _table("host_key", rows.HostKeyRow, "guest", more=(_owned_by("guest", "guest", "uuid"),))
move = _table("move", rows.MoveRow, "id", more=(_owned_by("guest", "guest", "uuid"),))
history = sa.Table(
    PREFIX + "history",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("cluster", sa.Text, nullable=False),
    *_columns(rows.HistoryRow, (), leave_out=("id",)),
)


def _only_where(condition: str) -> dict[str, t.Any]:
    return {"unique": True, "sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


sa.Index(PREFIX + "guest_name", guest.c.cluster, guest.c.name, **_only_where("state <> 'released'"))
sa.Index(PREFIX + "move_in_flight", move.c.guest, **_only_where("state = 'in_flight'"))
sa.Index(PREFIX + "move_epoch", move.c.cluster, move.c.guest, move.c.epoch_to)
sa.Index(PREFIX + "nic_guest", nic.c.guest)
sa.Index(PREFIX + "nic_address_mac", nic_address.c.mac)
sa.Index(PREFIX + "history_subject", history.c.cluster, history.c.subject)

#: STEPS[n] turns a ledger of version n into one of version n + 1, inside the caller's transaction.
STEPS: dict[int, t.Callable[[sa.Connection], None]] = {}


def create(connection: sa.Connection) -> None:
    """Make all tables in an empty database, inside the caller's transaction."""
    metadata.create_all(connection)
    connection.execute(schema.insert().values(version=sql.VERSION))


def upgrade(connection: sa.Connection, version: int) -> None:
    """From `version` to `_ledger_sql.VERSION`, inside the caller's transaction: all steps or none."""
    for number in range(version, sql.VERSION):
        STEPS[number](connection)
    connection.execute(schema.update().values(version=sql.VERSION))
