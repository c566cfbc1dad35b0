# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL does differently from SQLite, on a real server."""

from __future__ import annotations

import concurrent.futures
import pathlib
import threading
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_schema as schema
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_sql as sql
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_store
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import Ledger, LedgerError
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_store import open_store
from postgres import PASSWORD, Server

HISTORY = rows.HistoryRow(ledgers.NOW, "alice", None, "import", "demo", "")


def ledger_at(url: str, cluster: str = "demo") -> Ledger:
    return Ledger(cluster, open_store(url, "/", {"JOB_ID": "1"}))


def write(ledger: Ledger, **changes: t.Any) -> rows.LedgerState:
    with ledger.transaction() as tx:
        tx.write(rows.Changes(**changes))
        inside = tx.state
    assert ledger.state() == inside
    return inside


def test_reading_creates_nothing_and_writing_creates_the_tables(database: str, server: Server) -> None:
    ledger = ledger_at(database)
    name = database.partition("@/")[2].partition("?")[0]
    assert ledger.state() == sql.empty_state("demo") and ledger.version() is None
    assert server.sql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'oscarv%'", name) == "0"
    state = write(
        ledger,
        guests=(ledgers.guest(1), ledgers.guest(2)),
        nics=(ledgers.nic(1, addresses=("fd00::9", "10.0.4.1")),),
        hosts=(rows.HostRow("node01", "kvm", 8, 2**40, 2**50, cpu={"f": [1]}),),
        builds=(rows.BuildRow(ledgers.BUILD, "worker", "r", 1, 2**40, None, "x"),),
        host_builds=(rows.HostBuildRow("node01", ledgers.BUILD, "x"),),
        host_keys=(rows.HostKeyRow(ledgers.uuid(1), ledgers.KEY, "x"),),
        moves=(ledgers.move(1),),
        history=(HISTORY,),
    )
    assert state.revision == 1 and state.hosts["node01"].disk == 2**50
    assert [row.who for row in ledger.history(subject="demo", what="import", limit=5)] == ["alice"]


def test_a_ledger_goes_from_sqlite_to_postgresql_and_back(database: str, tmp_path: pathlib.Path) -> None:
    here, there, back = ledgers.ledger(tmp_path), ledger_at(database), ledgers.ledger(tmp_path, file="back.sqlite")
    before = write(here, guests=(ledgers.guest(1),), nics=(ledgers.nic(1),), history=(HISTORY,))
    assert there.import_(here.export(), HISTORY) is not None
    assert there.state() == before
    assert there.import_(here.export(), HISTORY) is None
    assert back.import_(there.export(), HISTORY) is not None
    assert back.export()["guests"] == here.export()["guests"]


def test_an_exception_leaves_everything_as_it_was(database: str) -> None:
    ledger = ledger_at(database)
    before = write(ledger, guests=(ledgers.guest(1),))
    with pytest.raises(RuntimeError), ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(2),), history=(HISTORY,)))
        raise RuntimeError
    assert ledger.state() == before and ledger.history() == []


def test_passwords_never_show(server: Server, database: str) -> None:
    wrong = ledger_at(server.url(password="wrong-secret"))
    with pytest.raises(LedgerError, match="PGPASSWORD") as caught:
        wrong.state()
    assert "wrong-secret" not in str(caught.value) and f"@/postgres?host={server.folder}" in str(caught.value)
    assert PASSWORD not in ledger_at(database).url


def test_the_password_may_come_from_the_environment(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert ledger_at(database.replace(f":{PASSWORD}", "")).state().revision == 0


def test_a_cluster_has_one_writer_and_a_neighbour_need_not_wait(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ledger_store, "PATIENCE", 1)
    ledger, neighbour = ledger_at(database), ledger_at(database, "neighbour")
    write(ledger, guests=(ledgers.guest(1),))
    with ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(2),)))
        write(neighbour, guests=(ledgers.guest(3),))
        with pytest.raises(LedgerError, match="another run has held it for 1 s"):
            write(ledger, guests=(ledgers.guest(4),))
    assert len(ledger.state().guests) == 2


def test_the_server_gives_up_a_controller_that_vanishes_within_a_minute(database: str, server: Server) -> None:
    """Over a Unix socket, where there is nothing to keep alive, the same settings are taken and show as 0."""
    name = database.partition("@/")[2].partition("?")[0]
    shown = {}
    for way, url in {"tcp": server.tcp_url(name), "socket": database}.items():
        with open_store(url, "/", {}).writer("demo") as connection:
            shown[way] = [
                int(connection.exec_driver_sql(f"SHOW tcp_keepalives_{what}").scalar_one())
                for what in ("idle", "interval", "count")
            ]
    assert shown == {"tcp": [30, 10, 3], "socket": [0, 0, 0]}


@pytest.mark.parametrize("whole", [False, True])
def test_who_waits_in_vain_is_told_for_whom(
    database: str, server: Server, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(_ledger_store, "PATIENCE", 1)
    name = database.partition("@/")[2].partition("?")[0]
    write(ledger_at(database), guests=(ledgers.guest(1),))
    holder, neighbour = open_store(server.tcp_url(name), "/", {}), open_store(database, "/", {})
    with neighbour.writer("neighbour"), holder.writer("demo") as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with pytest.raises(LedgerError) as caught, open_store(database, "/", {}).writer("demo", whole=whole):
            pass
    said = str(caught.value)
    assert f"pid {pid} of the server oscarv.virt from 127.0.0.1 since 20" in said and "+00:00" in said
    # Who only shares the database's lock is in the way of one who wants it whole, and of nobody else.
    assert said.count("pid ") == (2 if whole else 1) and ("from the same machine" in said) is whole


def test_neighbours_that_take_the_same_address_at_once_do_not_both_get_it(database: str) -> None:
    """Each cluster locks itself only: the unique constraint is what stands between them."""
    clusters = [ledger_at(database, name) for name in ("one", "two")]
    for number, ledger in enumerate(clusters):
        write(ledger, guests=(ledgers.guest(number),))
    both_have_looked = threading.Barrier(2, timeout=30)

    def take(number: int) -> str:
        with clusters[number].transaction() as tx:
            assert not tx.state.foreign_addresses
            both_have_looked.wait()
            tx.write(rows.Changes(nics=(ledgers.nic(number + 1, guest=ledgers.uuid(number), addresses=("10.0.4.7",)),)))
        return "taken"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(take, number) for number in (0, 1)]
        errors = [future.exception(timeout=60) for future in ended]
    (error,) = [error for error in errors if error is not None]
    assert isinstance(error, LedgerError) and "10.0.4.7" in str(error)
    assert sum(len(ledger.state().nics) for ledger in clusters) == 1


def test_tables_are_made_once_by_many(database: str) -> None:
    barrier = threading.Barrier(8, timeout=30)

    def first(number: int) -> None:
        barrier.wait()
        write(ledger_at(database, f"c{number}"), guests=(ledgers.guest(number),))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(first, number) for number in range(8)]:
            future.result(timeout=60)
    assert ledger_at(database).version() == sql.VERSION
    assert all(ledger_at(database, f"c{number}").state().revision == 1 for number in range(8))


def test_an_upgrade_is_all_or_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_at(database)
    write(ledger, guests=(ledgers.guest(1),))

    def first(connection: t.Any) -> None:
        connection.exec_driver_sql("ALTER TABLE oscarv_guest ADD COLUMN colour TEXT")

    def broken(connection: t.Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(sql, "VERSION", 3)
    monkeypatch.setattr(schema, "STEPS", {1: first, 2: broken})
    with pytest.raises(RuntimeError):
        ledger.upgrade(HISTORY)
    assert ledger.version() == 1
    monkeypatch.setitem(schema.STEPS, 2, first)
    with pytest.raises(LedgerError, match="colour"):  # the second step adds it again
        ledger.upgrade(HISTORY)
    monkeypatch.setitem(schema.STEPS, 2, lambda connection: None)
    assert ledger.upgrade(HISTORY) == (1, 3)
    assert len(ledger.state().guests) == 1
