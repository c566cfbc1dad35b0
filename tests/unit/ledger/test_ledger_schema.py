# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import typing as t

import ledgers
import pytest
import sqlalchemy as sa
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_schema as schema
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_sql as sql
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import LedgerError

#: Of the tables as version 1 has them. If this differs, a row has changed: let VERSION grow and write a step.
FINGERPRINTS = {1: "7405fc26af14ced48a390d8aabb3f597dea18ac986f12651d0613e38e831958f"}

HISTORY = rows.HistoryRow(ledgers.NOW, "alice", None, "upgrade", "demo", "")


def described() -> str:
    """The tables in words of our own: SQLAlchemy's change with its releases."""
    lines = []
    for table in schema.tables().metadata.sorted_tables:
        for column in table.columns:
            lines.append(f"{table.name}.{column.name} {column.type!r} {column.nullable} {column.primary_key}")
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            where = [str(index.dialect_options[name]["where"]) for name in ("sqlite", "postgresql")]
            lines.append(f"{index.name} {[column.name for column in index.columns]} {index.unique} {where}")
        for key in sorted(table.foreign_key_constraints, key=lambda key: key.column_keys):
            lines.append(f"{table.name} {key.column_keys} {key.referred_table.name} {key.ondelete}")
    return "\n".join(lines)


def test_a_changed_table_needs_a_new_version() -> None:
    assert hashlib.sha256(described().encode()).hexdigest() == FINGERPRINTS[sql.VERSION], described()
    assert sorted(schema.STEPS) == list(range(1, sql.VERSION)), "a step for every version but the last"


@pytest.fixture
def older(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """A ledger of this version, used by a collection that is two versions newer."""
    ledger = ledgers.ledger(tmp_path)
    with ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(1),)))

    def first(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE oscarv_guest ADD COLUMN colour TEXT")

    def second(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE oscarv_guest SET colour = 'red'")

    monkeypatch.setattr(sql, "VERSION", 3)
    monkeypatch.setattr(schema, "STEPS", {1: first, 2: second})
    return ledger


def colours(ledger: t.Any) -> list[t.Any]:
    with ledger._store.reader() as fetch:
        return [row[0] for row in fetch("SELECT colour FROM oscarv_guest", {})]


def test_an_older_ledger_asks_for_the_upgrade_and_gets_it_once(older: t.Any, tmp_path: pathlib.Path) -> None:
    for act in (older.state, lambda: older.transaction().__enter__(), older.export, older.history):
        with pytest.raises(LedgerError, match="schema is version 1, this collection wants 3: make a backup.*upgrade"):
            act()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    assert older.upgrade(HISTORY, check=True) == (1, 3)
    assert (tmp_path / "ledger.sqlite").read_bytes() == before
    assert older.upgrade(HISTORY) == (1, 3)
    assert older.upgrade(HISTORY) == (3, 3)
    assert colours(older) == ["red"]
    assert older.state().guests == {ledgers.uuid(1): ledgers.guest(1)}
    assert [row.why for row in older.history()] == ["schema 1 to 3"]


def test_an_upgrade_that_fails_leaves_the_older_ledger(older: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: sa.Connection) -> None:
        raise RuntimeError("no")

    monkeypatch.setitem(schema.STEPS, 2, broken)
    with pytest.raises(RuntimeError):
        older.upgrade(HISTORY)
    assert older.version() == 1
    with pytest.raises(LedgerError, match="no such column"):
        colours(older)


def test_a_newer_ledger_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledgers.ledger(tmp_path)
    with ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(1),)))
    monkeypatch.setattr(sql, "VERSION", 0)
    for act in (ledger.state, lambda: ledger.transaction().__enter__(), lambda: ledger.upgrade(HISTORY)):
        with pytest.raises(LedgerError, match="version 1, this collection knows 0: .* newer oscarv.virt; use that one"):
            act()


def test_an_upgrade_of_nothing_creates_nothing(tmp_path: pathlib.Path) -> None:
    assert ledgers.ledger(tmp_path).upgrade(HISTORY) is None
    assert list(tmp_path.iterdir()) == []


def test_every_row_has_its_columns() -> None:
    all_ = schema.tables()
    for row, table in (
        (rows.GuestRow, all_.guest),
        (rows.HostRow, all_.host),
        (rows.BuildRow, all_.build),
        (rows.HostBuildRow, all_.host_build),
        (rows.HostKeyRow, all_.host_key),
        (rows.MoveRow, all_.move),
        (rows.HistoryRow, all_.history),
    ):
        assert {field.name for field in dataclasses.fields(row)} | {"cluster"} == set(table.columns.keys())
        for field in dataclasses.fields(row):
            optional = str(field.type).endswith("| None") and field.name != "id"
            assert table.columns[field.name].nullable == optional, f"{table.name}.{field.name}"
