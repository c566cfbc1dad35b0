# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""32 processes that write into one ledger, some of them killed: no address twice, no lost update.

Every transaction gives a guest the lowest free MAC and address of one range, which all writers want, gives back what
the guest had, and raises a counter that it has read. What it did stands in the history, written by the same
transaction: replayed afterwards, it must be one story without a contradiction.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import signal
import sqlite3
import time
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_store
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import Ledger, Transaction
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_store import open_store

WRITERS = 32
TRANSACTIONS = 150  #: of each writer
KILLED_INSIDE = 4  #: writers that kill themselves between writing and committing
KILLED_OUTSIDE = 4  #: writers that are killed by somebody else, wherever they are
NETWORK = list(ipaddress.ip_network("10.0.0.0/26").hosts())
FORK = multiprocessing.get_context("fork")


def allocate(tx: Transaction, writer: int, number: int) -> None:
    """One transaction's work: as `assign` does it, all from what `tx.state` shows."""
    state = tx.state
    mine = next((row for row in state.guests.values() if row.name == f"g{writer}"), None)
    mine = mine or rows.GuestRow(ledgers.uuid(writer), f"g{writer}", "w", None, 1, "planned", vcpus=0)
    old = [nic for nic in state.nics.values() if nic.guest == mine.uuid]
    taken = {address for nic in state.nics.values() for address in nic.addresses}
    address = next(str(item) for item in NETWORK if str(item) not in taken)
    macs = (f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}" for number in itertools.count(1))
    mac = next(item for item in macs if item not in state.nics)
    counter = state.hosts.get("counter") or rows.HostRow("counter", "kvm", vcpus=0)
    done = {"writer": writer, "number": number, "mac": mac, "address": address, "freed": [nic.mac for nic in old]}
    tx.write(
        rows.Changes(
            guests=(dataclasses.replace(mine, vcpus=(mine.vcpus or 0) + 1),),
            nics=(rows.NicRow(mac, mine.uuid, 0, "n", "default", (address,)),),
            nics_removed=tuple(nic.mac for nic in old),
            hosts=(dataclasses.replace(counter, vcpus=(counter.vcpus or 0) + 1),),
            history=(rows.HistoryRow("now", "w", None, "allocate", mine.name, json.dumps(done)),),
        )
    )


def write_until_done(url: str, folder: str, writer: int, start: t.Any, die_at: int | None) -> None:
    """A writer process: until TRANSACTIONS of its own are in the ledger, its forerunner's included."""
    _ledger_store.PATIENCE = 600  # not what is tried here, and the others get little of a busy machine
    ledger = Ledger("demo", open_store(url, folder, {}))
    done = sum(1 for row in ledger.history(subject=f"g{writer}"))
    with open(pathlib.Path(folder) / f"committed-{writer}", "ab", buffering=0) as committed:
        if start is not None:
            start.wait(timeout=600)
        for number in range(done, TRANSACTIONS):
            with ledger.transaction() as tx:
                allocate(tx, writer, number)
                if number == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            committed.write(f"{number}\n".encode())
    os._exit(0)


def run_writers(url: str, folder: pathlib.Path) -> float:
    """All writers from a common start; each that is killed gets a successor. Seconds from the start to the end."""
    start = FORK.Barrier(WRITERS + 1)
    dice = random.Random(4711)

    def begin(writer: int, barrier: t.Any, die_at: int | None) -> t.Any:
        process = FORK.Process(target=write_until_done, args=(url, str(folder), writer, barrier, die_at))
        process.start()
        return process

    dies = {writer: dice.randrange(20, TRANSACTIONS - 20) for writer in range(KILLED_INSIDE)}
    victims = list(range(KILLED_INSIDE, KILLED_INSIDE + KILLED_OUTSIDE))
    processes = {writer: begin(writer, start, dies.get(writer)) for writer in range(WRITERS)}
    start.wait(timeout=600)
    started, kills = time.monotonic(), 0
    deadline = started + 1500
    while processes:
        assert time.monotonic() < deadline
        for writer in [writer for writer in victims if progress(folder, writer) > 10 * (1 + writer)]:
            victims.remove(writer)
            os.kill(processes[writer].pid, signal.SIGKILL)
        for writer, process in list(processes.items()):
            process.join(timeout=0.01)
            if process.exitcode is None:
                continue
            del processes[writer]
            if process.exitcode == -signal.SIGKILL:
                kills += 1
                processes[writer] = begin(writer, None, None)
            else:
                assert process.exitcode == 0, f"writer {writer} failed"
    assert kills == KILLED_INSIDE + KILLED_OUTSIDE
    return time.monotonic() - started


def progress(folder: pathlib.Path, writer: int) -> int:
    path = folder / f"committed-{writer}"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def check_story(ledger: Ledger, folder: pathlib.Path, writers: int = WRITERS, transactions: int = TRANSACTIONS) -> None:
    """The history, replayed: every address and MAC had one holder at a time, and the end is what the ledger says."""
    story = [json.loads(row.why) for row in reversed(ledger.history())]
    assert len(story) == writers * transactions
    held: dict[str, tuple[int, str]] = {}  # mac -> writer, address
    for event in story:
        for mac in event["freed"]:
            assert held.pop(mac)[0] == event["writer"], "gave back what another had"
        assert event["mac"] not in held, f"MAC {event['mac']} given twice"
        assert event["address"] not in {address for _writer, address in held.values()}, (
            f"{event['address']} given twice"
        )
        held[event["mac"]] = event["writer"], event["address"]
    state = ledger.state()
    assert {nic.mac: nic.addresses for nic in state.nics.values()} == {mac: (held[mac][1],) for mac in held}
    for writer in range(writers):
        mine = [event["number"] for event in story if event["writer"] == writer]
        assert mine == list(range(transactions)), "each of its transactions once, in order"
        reported = [int(line) for line in (folder / f"committed-{writer}").read_text().split()]
        unreported = set(mine) - set(reported)
        assert set(reported) <= set(mine), "what was reported as committed is in the ledger"
        assert len(reported) == len(set(reported)) and len(unreported) <= (writer < KILLED_INSIDE + KILLED_OUTSIDE)
        assert state.guests[ledgers.uuid(writer)].vcpus == transactions, "a lost update of its own row"
    assert state.hosts["counter"].vcpus == state.revision == writers * transactions, "a lost update of the shared row"


def test_many_writers_on_sqlite(tmp_path: pathlib.Path, record_property: t.Callable[[str, t.Any], None]) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    seconds = run_writers(url, tmp_path)
    record_property("seconds", seconds)
    print(f"SQLite: {WRITERS * TRANSACTIONS / seconds:.0f} transactions/s")  # noqa: T201
    check_story(Ledger("demo", open_store(url, "/", {})), tmp_path)
    raw = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()


def test_many_writers_on_postgresql(tmp_path: pathlib.Path, database: str) -> None:
    seconds = run_writers(database, tmp_path)
    print(f"PostgreSQL: {WRITERS * TRANSACTIONS / seconds:.0f} transactions/s")  # noqa: T201
    check_story(Ledger("demo", open_store(database, "/", {})), tmp_path)


TAMPERED = {
    "given twice": "UPDATE oscarv_history SET why = replace(why, '10.0.0.2', '10.0.0.1')",
    "in order": "UPDATE oscarv_history SET why = replace(why, '\"number\": 1', '\"number\": 0')",
    "own row": "UPDATE oscarv_guest SET vcpus = 2 WHERE name = 'g0'",
    "shared row": "UPDATE oscarv_cluster SET revision = 5",
}


@pytest.mark.parametrize("word", ["", *TAMPERED])
def test_the_story_is_checked_for_real(tmp_path: pathlib.Path, word: str) -> None:
    """Two writers, three transactions each, in turn: a true story passes, each kind of false one does not."""
    ledger = Ledger("demo", open_store(f"sqlite:///{tmp_path}/ledger.sqlite", "/", {}))
    for number, writer in itertools.product(range(3), range(2)):
        with ledger.transaction() as tx:
            allocate(tx, writer, number)
        with (tmp_path / f"committed-{writer}").open("a") as committed:
            committed.write(f"{number}\n")
    if not word:
        check_story(ledger, tmp_path, 2, 3)
        return
    raw = sqlite3.connect(tmp_path / "ledger.sqlite")
    raw.execute(TAMPERED[word])
    raw.commit()
    raw.close()
    with pytest.raises(AssertionError, match=word):
        check_story(ledger, tmp_path, 2, 3)
