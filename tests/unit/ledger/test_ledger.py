# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import threading
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_sql, _ledger_store
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import Ledger, LedgerError, open_ledger
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_store import open_store, without_password

HISTORY = rows.HistoryRow(ledgers.NOW, "alice", None, "assign", "wn1", "new")
FULL = rows.Changes(
    guests=(ledgers.guest(1), ledgers.guest(2, state="leaving", first_contact=ledgers.NOW, vcpus=2, memory=1, disk=3)),
    nics=(ledgers.nic(1, addresses=("fd00::9", "10.0.4.1")), ledgers.nic(2, free_after=ledgers.LATER)),
    hosts=(rows.HostRow("node01", "kvm", 8, 2**36, 2**40, cpu={"model": "x", "f": [1]}, facts={"b": {"c": None}}),),
    builds=(rows.BuildRow(ledgers.BUILD, "worker", "r1", 5, 6, None, ledgers.NOW, {"k": "v"}),),
    host_builds=(rows.HostBuildRow("node01", ledgers.BUILD, ledgers.NOW),),
    host_keys=(rows.HostKeyRow(ledgers.uuid(1), ledgers.KEY, ledgers.NOW),),
    moves=(ledgers.move(1),),
    history=(HISTORY,),
)


@pytest.fixture
def ledger(tmp_path: pathlib.Path) -> Ledger:
    return ledgers.ledger(tmp_path)


def write(ledger: Ledger, **changes: t.Any) -> rows.LedgerState:
    with ledger.transaction() as tx:
        tx.write(rows.Changes(**changes))
    return ledger.state()


def test_reading_creates_nothing(tmp_path: pathlib.Path) -> None:
    ledger = ledgers.ledger(tmp_path, file=".oscarv/ledger.sqlite")
    assert ledger.state() == _ledger_sql.empty_state("demo")
    assert ledger.history() == [] and ledger.moves() == [] and ledger.version() is None
    assert ledger.export()["guests"] == []
    assert list(tmp_path.iterdir()) == []


def test_every_field_comes_back_and_the_state_in_the_transaction_is_the_state_after_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        tx.write(FULL)
        inside = tx.state
    state = ledger.state()
    assert state == inside
    assert state.revision == 1
    assert state.guests == {row.uuid: row for row in FULL.guests}
    assert state.nics == {row.mac: row for row in FULL.nics}
    assert state.hosts == {"node01": FULL.hosts[0]} and state.builds == {ledgers.BUILD: FULL.builds[0]}
    assert state.host_builds == {("node01", ledgers.BUILD)} and ledger.host_builds() == list(FULL.host_builds)
    assert state.host_keys[ledgers.uuid(1)].key == ledgers.KEY
    assert state.moves == {ledgers.uuid(1): ledgers.move(1)} and state.epochs == {ledgers.uuid(1): 2}
    (history,) = ledger.history()
    assert (history.who, history.what, history.subject, history.id) == ("alice", "assign", "wn1", 1)


def test_an_exception_leaves_everything_as_it_was(ledger: Ledger) -> None:
    before = write(ledger, guests=(ledgers.guest(1),), history=(HISTORY,))
    with pytest.raises(RuntimeError, match="stop"), ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(2),), history=(HISTORY,)))
        assert len(tx.state.guests) == 2
        raise RuntimeError("stop")
    assert ledger.state() == before
    assert len(ledger.history()) == 1


def test_one_revision_per_transaction_that_changed_something(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(1),)))
        tx.write(rows.Changes(guests=(ledgers.guest(2),)))
        assert tx.state.revision == 1
    assert ledger.state().revision == 1
    with ledger.transaction() as tx:
        assert len(tx.state.guests) == 2
    assert ledger.state().revision == 1
    assert write(ledger, history=(HISTORY,)).revision == 1
    assert write(ledger, nics=(ledgers.nic(1),)).revision == 2


def test_an_address_that_is_removed_can_be_given_in_the_same_transaction(ledger: Ledger) -> None:
    write(ledger, guests=(ledgers.guest(1), ledgers.guest(2)), nics=(ledgers.nic(1), ledgers.nic(2)))
    swapped = (ledgers.nic(1, addresses=("10.0.4.2",)), ledgers.nic(2, addresses=("10.0.4.1",)))
    assert write(ledger, nics=swapped).nics[swapped[0].mac].addresses == ("10.0.4.2",)
    state = write(
        ledger, nics_removed=(swapped[0].mac,), nics=(ledgers.nic(3, guest=ledgers.uuid(1), addresses=("10.0.4.2",)),)
    )
    assert sorted(state.nics) == ["52:54:00:00:00:02", "52:54:00:00:00:03"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nics": (ledgers.nic(2, addresses=("10.0.4.1",)),)}, ["guest wn2", "10.0.4.1", "realm default", "guest wn1"]),
        ({"nics": (ledgers.nic(2, addresses=("10.0.4.02",)),)}, ["guest wn2", "10.0.4.02", "ipaddress"]),
        ({"nics": (ledgers.nic(2, addresses=("10.0.4.2/24",)),)}, ["10.0.4.2/24", "without a prefix"]),
        ({"nics": (ledgers.nic(2, addresses=("FD00::1",)),)}, ["FD00::1", "ipaddress"]),
        ({"nics": (ledgers.nic(2, mac="52:54:00:00:00:AB"),)}, ["52:54:00:00:00:AB", "lower case"]),
        ({"nics": (ledgers.nic(9),)}, [ledgers.uuid(9), "no such guest"]),
        ({"guests": (ledgers.guest(3, name="wn1"),)}, ["guest wn1", ledgers.uuid(1), ledgers.uuid(3)]),
        ({"guests": (ledgers.guest(1, epoch=1),)}, ["guest wn1", "epoch 1", "lower than 3"]),
        ({"guests": (ledgers.guest(3, epoch=0),)}, ["guest wn3", "epoch 0"]),
        ({"guests": (ledgers.guest(3, state="up"),)}, ["guest wn3", "'up'", "planned, running"]),
        ({"host_keys": (rows.HostKeyRow(ledgers.uuid(1), "ssh-ed25519 AA\n* ssh-rsa", "x"),)}, ["wn1", "public key"]),
        ({"host_keys": (rows.HostKeyRow(ledgers.uuid(9), ledgers.KEY, "x"),)}, [ledgers.uuid(9), "no such guest"]),
        ({"builds": (rows.BuildRow("latest", "w", "r", 1, 1, None, "x"),)}, ["latest", "64"]),
        ({"host_builds": (rows.HostBuildRow("node01", "../x", "x"),)}, ["../x", "64"]),
        ({"moves": (ledgers.move(1, id="other", epoch_to=9),)}, ["wn1", "move-1", "in flight", "settle"]),
        ({"moves": (ledgers.move(1, epoch_from=3, epoch_to=9),)}, ["wn1", "begun as", "epoch 3 to 4", "epoch 3 to 9"]),
        ({"moves": (ledgers.move(2, state="aborted"),)}, ["wn2", "not in flight"]),
        ({"moves": (ledgers.move(2, epoch_to=1),)}, ["wn2", "epoch 1", "the next is 2"]),
        ({"moves": (ledgers.move(2, state="done"),)}, ["wn2", "done", "in_flight"]),
        ({"moves": (ledgers.move(9),)}, [ledgers.uuid(9), "no such guest"]),
    ],
)
def test_wrong_changes_are_refused_by_name_and_nothing_is_written(
    ledger: Ledger, changes: dict[str, t.Any], words: list[str]
) -> None:
    before = write(
        ledger,
        guests=(ledgers.guest(1, epoch=3), ledgers.guest(2)),
        nics=(ledgers.nic(1),),
        moves=(ledgers.move(1, epoch_from=3, epoch_to=4),),
    )
    with pytest.raises(LedgerError) as caught:
        write(ledger, guests=(*changes.pop("guests", ()), ledgers.guest(4)), history=(HISTORY,), **changes)
    for word in words:
        assert word in str(caught.value)
    assert ledger.state() == before and ledger.history() == []


def test_an_aborted_move_uses_its_epoch_up(ledger: Ledger) -> None:
    write(ledger, guests=(ledgers.guest(1),), moves=(ledgers.move(1),))
    state = write(ledger, moves=(ledgers.move(1, state="aborted", ended=ledgers.LATER),))
    assert state.moves == {} and state.guests[ledgers.uuid(1)].epoch == 1
    assert state.next_epoch(ledgers.uuid(1)) == 3
    with pytest.raises(LedgerError, match="epoch 2 was used before; the next is 3"):
        write(ledger, moves=(ledgers.move(1, id="second"),))
    assert [move.id for move in ledger.moves()] == ["move-1"]


def test_clusters_share_a_database_but_neither_addresses_nor_macs_nor_guests(tmp_path: pathlib.Path) -> None:
    one, two = ledgers.ledger(tmp_path, "one"), ledgers.ledger(tmp_path, "two")
    write(one, guests=(ledgers.guest(1),), nics=(ledgers.nic(1),))
    state = write(two, guests=(ledgers.guest(2, name="wn1"),))
    assert list(state.guests) == [ledgers.uuid(2)] and state.nics == {} and state.revision == 1
    assert state.foreign_macs == {"52:54:00:00:00:01"} and state.foreign_addresses == {("default", "10.0.4.1")}
    mine = {"guest": ledgers.uuid(2)}
    for wrong, word in (
        ({"nics": (ledgers.nic(1, addresses=(), **mine),)}, "MAC belongs to another cluster"),
        ({"nics": (ledgers.nic(2, addresses=("10.0.4.1",)),)}, "10.0.4.1 .realm default. belongs to another cluster"),
        ({"guests": (ledgers.guest(1, name="x"),)}, "guest x: its uuid .* belongs to cluster one"),
    ):
        with pytest.raises(LedgerError, match=word):
            write(two, **wrong)
    same_address = ledgers.nic(2, realm="lab", addresses=("10.0.4.1",))
    assert write(two, nics=(same_address,)).nics == {same_address.mac: same_address}
    assert one.state().guests == {ledgers.uuid(1): ledgers.guest(1)}


def test_the_database_itself_refuses_an_address_twice(ledger: Ledger, tmp_path: pathlib.Path) -> None:
    write(ledger, guests=(ledgers.guest(1), ledgers.guest(2)), nics=(ledgers.nic(1), ledgers.nic(2)))
    raw = sqlite3.connect(tmp_path / "ledger.sqlite")
    insert = (
        "INSERT INTO oscarv_nic_address (realm, address, cluster, mac, position) VALUES ('default', ?, 'demo', ?, 1)"
    )
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(insert, ("10.0.4.1", "52:54:00:00:00:02"))
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute("UPDATE oscarv_guest SET name = 'wn1' WHERE name = 'wn2'")
    raw.close()


def test_where_the_ledger_is(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OSCARV_LEDGER", "AWX_HOST", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    cluster = ledgers.cluster(tmp_path)
    assert open_ledger(cluster).url == f"sqlite:///{tmp_path}/.oscarv/ledger.sqlite"
    monkeypatch.setenv("OSCARV_LEDGER", "sqlite:////srv/l.sqlite")
    assert open_ledger(cluster).url == "sqlite:////srv/l.sqlite"
    assert open_ledger(cluster, "sqlite:///x.sqlite").url == f"sqlite:///{tmp_path}/x.sqlite"
    assert open_ledger(cluster, "postgresql://u:secret@db/x?password=secret&sslmode=require").url == (
        "postgresql://u@db/x?sslmode=require"
    )


@pytest.mark.parametrize("variable", ["AWX_HOST", "JOB_ID"])
def test_sqlite_is_refused_under_awx(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    cluster = ledgers.cluster(tmp_path)
    monkeypatch.setenv(variable, "42")
    with pytest.raises(
        LedgerError, match=rf"SQLite is refused under AWX \({variable} is set\).*OSCARV_LEDGER=postgresql"
    ):
        open_ledger(cluster, "sqlite:///x.sqlite")
    assert open_ledger(cluster, "postgresql://u@db/x").url == "postgresql://u@db/x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://root:secret@db/x", "mysql://root@db/x"),
        ("/srv/ledger.sqlite", "not a URL"),
        ("sqlite://ledger.sqlite", "sqlite:///PATH"),
        ("sqlite:///x?mode=memory", "without options"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_a_password(url: str, shown: str) -> None:
    with pytest.raises(LedgerError) as caught:
        open_store(url, "/srv", {})
    assert shown in str(caught.value) and "secret" not in str(caught.value)


def test_passwords_never_show() -> None:
    assert (
        without_password("postgresql://u:p%40ss@h:5432/d?sslpassword=x&passfile=/y&a=b")
        == "postgresql://u@h:5432/d?a=b"
    )
    assert without_password("secret") == "(not a URL)"


def test_a_server_that_is_not_there_is_named_without_a_password(tmp_path: pathlib.Path) -> None:
    ledger = Ledger("demo", open_store(f"postgresql://u:secret@/db?host={tmp_path}", "/", {}))
    with pytest.raises(LedgerError, match="is the server up") as caught:
        ledger.state()
    assert "secret" not in str(caught.value) and "postgresql://u@/db" in str(caught.value)


def test_a_file_that_is_no_ledger_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("my letters\n" * 100)
    ledger = ledgers.ledger(tmp_path)
    for act in (ledger.state, lambda: write(ledger, guests=(ledgers.guest(1),))):
        with pytest.raises(LedgerError, match=rf"{tmp_path}/ledger.sqlite.*restore it from a backup.*rebuild"):
            act()
    assert (tmp_path / "ledger.sqlite").read_text().startswith("my letters")


def test_an_empty_file_is_an_empty_ledger(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    ledger = ledgers.ledger(tmp_path)
    assert ledger.state().revision == 0 and ledger.version() is None
    assert write(ledger, guests=(ledgers.guest(1),)).revision == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"file/l.sqlite: cannot make its folder"):
        write(ledgers.ledger(tmp_path, file="file/l.sqlite"), guests=(ledgers.guest(1),))


def test_a_writer_that_waits_too_long_says_why(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write(ledger, guests=(ledgers.guest(1),))
    monkeypatch.setattr(_ledger_store, "PATIENCE", 0.2)
    with ledger.transaction() as tx:
        tx.write(rows.Changes(guests=(ledgers.guest(2),)))
        with pytest.raises(LedgerError, match="another run has held it for 0.2 s"):
            write(ledger, guests=(ledgers.guest(3),))
    assert sorted(row.name for row in ledger.state().guests.values()) == ["wn1", "wn2"]


def test_a_reader_sees_one_moment(ledger: Ledger) -> None:
    """All rows of a state are of one revision, whatever is written meanwhile."""
    write(ledger, guests=(ledgers.guest(1),), hosts=(rows.HostRow("h", "kvm", vcpus=1),))
    stop = threading.Event()

    def keep_writing() -> None:
        number = 1
        while not stop.is_set():
            number += 1
            with ledger.transaction() as tx:
                tx.write(
                    rows.Changes(
                        guests=(ledgers.guest(1, epoch=number),), hosts=(rows.HostRow("h", "kvm", vcpus=number),)
                    )
                )

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        states = [ledger.state() for _number in range(200)]
    finally:
        stop.set()
        writer.join()
    assert len({state.revision for state in states}) > 5
    for state in states:
        assert state.guests[ledgers.uuid(1)].epoch == state.hosts["h"].vcpus == state.revision


READS = """
import sys
sys.path[:0] = {paths!r}
import conftest
conftest.pytest_configure()
import ledgers, pathlib
state = ledgers.ledger(pathlib.Path({folder!r})).state()
sys.exit(3 if "sqlalchemy" in sys.modules else len(state.guests))
"""


def test_reading_sqlite_does_not_load_sqlalchemy(ledger: Ledger, tmp_path: pathlib.Path) -> None:
    """It would cost every run of the inventory plugin half a second."""
    write(ledger, guests=(ledgers.guest(1),))
    assert run_script(READS, tmp_path).returncode == 1


def run_script(script: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    here = pathlib.Path(__file__).resolve()
    text = script.format(paths=[str(here.parents[2]), str(here.parent)], folder=str(folder))
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False)


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import conftest
conftest.pytest_configure()
import ledgers, pathlib
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
with ledgers.ledger(pathlib.Path({folder!r})).transaction() as tx:
    for number in range(1000, 3000):  # enough that pages spill into the file before the commit
        tx._writer.apply(rows.Changes(guests=(ledgers.guest(number, image="x" * 5000),)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing_and_the_next_reader_cleans_up(ledger: Ledger, tmp_path: pathlib.Path) -> None:
    before = write(ledger, guests=(ledgers.guest(1),), nics=(ledgers.nic(1),))
    killed = run_script(KILLED, tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "ledger.sqlite-journal").stat().st_size > 0, "the journal is hot: half of it is in the file"
    assert (tmp_path / "ledger.sqlite").stat().st_size > 2_000_000
    assert ledger.state() == before
    raw = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


def test_a_reader_without_write_permission_reads(ledger: Ledger, tmp_path: pathlib.Path) -> None:
    write(ledger, guests=(ledgers.guest(1),))
    (tmp_path / "ledger.sqlite").chmod(0o444)
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o555)
    reader = os.fork()
    if reader == 0:
        good = False
        try:
            if os.geteuid() == 0:  # root may write everywhere: be somebody else
                os.setgid(65534)
                os.setuid(65534)
            good = len(ledger.state().guests) == 1
            write(ledger, guests=(ledgers.guest(2),))
            good = False
        except LedgerError as error:
            good = good and "must be able to write" in str(error)
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0
    tmp_path.chmod(0o755)


def test_a_postgresql_writer_sets_keepalives_before_it_asks_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server makes of it is seen on a real one, in the integration suite."""
    asked: list[tuple[str, t.Any]] = []

    class Recorder:
        def execute(self, statement: t.Any, values: t.Any) -> t.Any:
            asked.append((str(statement), values))
            return self

        def all(self) -> list[tuple[None]]:
            return [(None,)]

        def commit(self) -> None: ...

    store = open_store("postgresql://u@db/x", "/", {})
    monkeypatch.setattr(store, "_connect", lambda _isolation: contextlib.nullcontext(Recorder()))
    with store.writer("demo"):
        pass
    first_lock = next(number for number, (text, _values) in enumerate(asked) if "advisory" in text)
    text, values = next(each for each in asked[:first_lock] if "set_config" in each[0])
    assert all(f"set_config('{name}', :{name}, true)" in text for name in values)
    assert values == {
        "lock_timeout": "60s",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }


def test_the_holder_of_the_lock_is_shown_as_far_as_the_server_tells() -> None:
    since = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert _ledger_store._holder(7, "oscarv.virt", "10.0.0.5", 4711, since) == (
        "pid 7 of the server oscarv.virt from 10.0.0.5 since 2026-11-20T10:00:00+00:00"
    )
    assert _ledger_store._holder(7, "", None, -1, None) == "pid 7 of the server from the same machine"
    assert _ledger_store._holder(7, None, None, None, None) == "pid 7 of the server"
