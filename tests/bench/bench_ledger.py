# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger against the floor: Python's sqlite3 doing the same statements on the same tables, and nothing else."""

from __future__ import annotations

import dataclasses
import pathlib
import sqlite3
import statistics
import sys
import tempfile
import time
import typing as t

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / part) for part in ("", "unit/ledger")]

import conftest

conftest.pytest_configure()

import ledgers
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows_
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import Ledger

HOSTS, GUESTS, TRANSACTIONS = 500, 10_000, 200
TABLES = ("guest", "nic", "nic_address", "host", "host_key")


def cluster() -> rows_.Changes:
    """500 HostOSes, 10,000 guests with two addresses and a host key each."""
    guests = tuple(ledgers.guest(number, host=f"node{number % HOSTS}") for number in range(GUESTS))
    return rows_.Changes(
        guests=guests,
        nics=tuple(
            ledgers.nic(
                0,
                mac=f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}",
                guest=guest.uuid,
                addresses=(f"10.0.{number >> 8}.{number & 255}", f"fd00::{number + 1:x}"),
            )
            for number, guest in enumerate(guests)
        ),
        hosts=tuple(
            rows_.HostRow(f"node{number}", "kvm", 32, 2**38, 2**42, cpu={"model": "x"}) for number in range(HOSTS)
        ),
        host_keys=tuple(rows_.HostKeyRow(guest.uuid, ledgers.KEY, ledgers.NOW) for guest in guests),
    )


def seconds(act: t.Callable[[], t.Any], repeats: int = 5) -> float:
    times = []
    for _number in range(repeats):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def write_all(ledger: Ledger, changes: rows_.Changes) -> None:
    with ledger.transaction() as tx:
        tx.write(changes)


def read_plainly(path: pathlib.Path) -> list[list[t.Any]]:
    raw = sqlite3.connect(path)
    found = [raw.execute(f"SELECT * FROM oscarv_{table} WHERE cluster = 'demo'").fetchall() for table in TABLES]
    raw.close()
    return found


def write_plainly(path: pathlib.Path, copy: pathlib.Path, contents: list[list[t.Any]]) -> None:
    """The same rows into the same tables, in one transaction with the same durability."""
    raw = sqlite3.connect(copy, isolation_level=None)
    raw.execute("PRAGMA journal_mode = TRUNCATE")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("BEGIN IMMEDIATE")
    for table, found in zip(TABLES, contents, strict=True):
        raw.executemany(f"INSERT INTO oscarv_{table} VALUES ({', '.join('?' * len(found[0]))})", found)
    raw.execute("COMMIT")
    raw.close()


def empty_copy(path: pathlib.Path, copy: pathlib.Path) -> None:
    """A database with the same tables and no rows."""
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    found = source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    for (statement,) in found:
        target.execute(statement)
    target.commit()
    source.close()
    target.close()


def small_ours(ledger: Ledger, guest: rows_.GuestRow) -> None:
    for number in range(TRANSACTIONS):
        with ledger.transaction() as tx:
            epoch = tx.state.guests[guest.uuid].epoch
            tx.write(rows_.Changes(guests=(dataclasses.replace(guest, epoch=epoch + 1, image=str(number)),)))


def small_plainly(path: pathlib.Path, guest: rows_.GuestRow) -> None:
    """A connection for each, as each is a run of its own; reads what it changes, raises the revision."""
    for number in range(TRANSACTIONS):
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("PRAGMA journal_mode = TRUNCATE")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("SELECT * FROM oscarv_guest WHERE uuid = ?", (guest.uuid,)).fetchall()
        raw.execute("UPDATE oscarv_guest SET epoch = epoch + 1, image = ? WHERE uuid = ?", (str(number), guest.uuid))
        raw.execute("UPDATE oscarv_cluster SET revision = revision + 1")
        raw.execute("COMMIT")
        raw.close()


def row(name: str, ours: float, peer: float, goal: float) -> dict[str, t.Any]:
    ratio = ours / peer
    return {"bar": name, "ours": ours, "peer": peer, "ratio": ratio, "goal": f"<= {goal}", "holds": ratio <= goal}


def rows() -> list[dict[str, t.Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        changes = cluster()
        write_all(ledgers.ledger(folder, file="warm.sqlite"), rows_.Changes(guests=changes.guests[:1]))
        names = iter(f"{number}.sqlite" for number in range(100))
        wrote = seconds(lambda: write_all(ledgers.ledger(folder, file=next(names)), changes))
        path, ledger = folder / "0.sqlite", ledgers.ledger(folder, file="0.sqlite")
        contents = read_plainly(path)

        copies = [folder / f"copy-{number}.sqlite" for number in range(5)]
        for copy in copies:
            empty_copy(path, copy)
        plain = iter(copies)
        wrote_plainly = seconds(lambda: write_plainly(path, next(plain), contents))

        small = ledgers.ledger(folder, file="small.sqlite")
        write_all(small, rows_.Changes(guests=changes.guests[:1]))
        ours = seconds(lambda: small_ours(small, changes.guests[0]), 3) / TRANSACTIONS
        peer = seconds(lambda: small_plainly(folder / "small.sqlite", changes.guests[0]), 3) / TRANSACTIONS
        read, read_floor = seconds(ledger.state), seconds(lambda: read_plainly(path))
        return [
            row("read 500 HostOSes, 10,000 guests (s; floor: fetchall)", read, read_floor, 6),
            row("write 10,000 guests, one transaction (s; floor: executemany)", wrote, wrote_plainly, 6),
            row("one small transaction (s; floor: sqlite3)", ours, peer, 4),
        ]
