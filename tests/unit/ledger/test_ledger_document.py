# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import pathlib
import typing as t

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import Ledger, LedgerError
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_document import document_text
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import Refused

HISTORY = rows.HistoryRow(ledgers.LATER, "bob", None, "import", "demo", "backup.json")


@pytest.fixture
def full(tmp_path: pathlib.Path) -> Ledger:
    ledger = ledgers.ledger(tmp_path, file="full.sqlite")
    with ledger.transaction() as tx:
        tx.write(
            rows.Changes(
                guests=(ledgers.guest(2), ledgers.guest(1, epoch=2), ledgers.guest(3, name="wn1", state="released")),
                nics=(ledgers.nic(2, addresses=("fd00::2", "10.0.4.2")), ledgers.nic(1)),
                hosts=(rows.HostRow("node01", "kvm", cpu={"z": 1, "a": [2]}),),
                builds=(rows.BuildRow(ledgers.BUILD, "worker", "r", 1, 2, None, "x", {"b": {"a": "ü"}}),),
                host_builds=(rows.HostBuildRow("node01", ledgers.BUILD, "x"),),
                host_keys=(rows.HostKeyRow(ledgers.uuid(1), ledgers.KEY, "x"),),
                history=(rows.HistoryRow(ledgers.NOW, "alice", "17", "assign", "wn1", "new"),),
            )
        )
    with ledger.transaction() as tx:
        tx.write(rows.Changes(moves=(ledgers.move(2), ledgers.move(1, id="old", epoch_from=2, epoch_to=3))))
    with ledger.transaction() as tx:
        tx.write(rows.Changes(moves=(ledgers.move(1, id="old", epoch_from=2, epoch_to=3, state="aborted"),)))
    return ledger


def test_an_export_is_one_sorted_text(full: Ledger) -> None:
    document = full.export()
    assert document_text(document) == document_text(full.export())
    assert json.loads(document_text(document)) == document
    assert (document["format"], document["cluster"], document["revision"]) == ("oscarv.virt ledger", "demo", 3)
    assert [row["uuid"] for row in document["guests"]] == [ledgers.uuid(1), ledgers.uuid(3), ledgers.uuid(2)]
    assert [row["state"] for row in document["moves"]] == ["in_flight", "aborted"]


def test_import_gives_the_same_ledger_once(full: Ledger, tmp_path: pathlib.Path) -> None:
    document = json.loads(document_text(full.export()))
    empty = ledgers.ledger(tmp_path, file="empty.sqlite")
    assert empty.import_(document, HISTORY, check=True) is not None
    assert not (tmp_path / "empty.sqlite").exists()
    assert empty.import_(document, HISTORY) is not None
    assert empty.state() == full.state()
    assert empty.moves() == full.moves()
    assert [row.what for row in empty.history()] == ["import", "assign"]
    assert {**empty.export(), "history": []} == {**document, "history": []}
    assert empty.import_(document, HISTORY) is None
    assert len(empty.history()) == 2


def test_nothing_is_overwritten_unless_asked(full: Ledger, tmp_path: pathlib.Path) -> None:
    other = ledgers.ledger(tmp_path, file="other.sqlite")
    with other.transaction() as tx:
        tx.write(
            rows.Changes(
                guests=(ledgers.guest(9),), nics=(ledgers.nic(9, addresses=("10.0.4.1",)),), history=(HISTORY,)
            )
        )
    before = other.state()
    with pytest.raises(LedgerError, match=r"other.sqlite: it has rows of cluster demo already; `replace: true`"):
        other.import_(full.export(), HISTORY)
    assert other.import_(full.export(), HISTORY, replace=True, check=True) is not None
    assert other.state() == before
    assert other.import_(full.export(), HISTORY, replace=True) is not None
    assert other.state() == full.state()
    assert [row.what for row in other.history()] == ["import", "assign", "import"], "history is added to"


def test_revisions_only_grow(full: Ledger, tmp_path: pathlib.Path) -> None:
    document = {**full.export(), "revision": 2}
    document["guests"] = [{**row, "image": "other"} for row in document["guests"]]
    assert full.import_(document, HISTORY, replace=True) is not None
    assert full.state().revision == 4


def test_other_clusters_of_the_database_are_not_touched(full: Ledger, tmp_path: pathlib.Path) -> None:
    neighbour = ledgers.ledger(tmp_path, "neighbour", "shared.sqlite")
    with neighbour.transaction() as tx:
        tx.write(
            rows.Changes(
                guests=(ledgers.guest(9),), nics=(ledgers.nic(9, addresses=("10.0.4.2",)),), history=(HISTORY,)
            )
        )
    before = neighbour.state()
    shared = ledgers.ledger(tmp_path, "demo", "shared.sqlite")
    for check in (True, False):
        with pytest.raises(LedgerError, match="wn2.* 10.0.4.2 .* belongs to another cluster"):
            shared.import_(full.export(), HISTORY, check=check)
    document = full.export()
    document["nics"][1]["addresses"] = []
    assert shared.import_(document, HISTORY) is not None
    assert neighbour.state().guests == before.guests and neighbour.state().nics == before.nics
    assert len(neighbour.history()) == 1


def break_at(document: dict[str, t.Any], path: tuple[t.Any, ...], value: t.Any) -> dict[str, t.Any]:
    broken = copy.deepcopy(document)
    target = broken
    for step in path[:-1]:
        target = target[step]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return broken


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("format",), "ansible facts", ["format"]),
        (("schema",), 99, ["schema 99", "reads 1"]),
        (("cluster",), "other", ["'other'", "'demo'"]),
        (("revision",), "3", ["revision '3'"]),
        (("surprise",), [], ["'surprise'"]),
        (("guests", 0, "epoch"), "2", ["guests[0]: epoch", "'2'", "int"]),
        (("guests", 0, "epoch"), True, ["guests[0]: epoch", "True"]),
        (("guests", 0, "name"), None, ["guests[0]: name", "None"]),
        (("guests", 0, "colour"), "red", ["guests[0]", "'colour'"]),
        (("guests", 0, "uuid"), KeyError, ["guests[0]", "'uuid' is missing"]),
        (("guests", 0), "wn1", ["guests[0]", "mapping"]),
        (("guests", 0, "state"), "up", ["wn1", "'up'"]),
        (("guests", 2, "name"), "wn1", ["wn1", "the name belongs to"]),
        (("guests", 2, "uuid"), ledgers.uuid(1), ["guests", ledgers.uuid(1), "twice"]),
        (("nics", 0, "addresses"), ["10.0.4.2"], ["10.0.4.2", "belongs to guest wn"]),
        (("nics", 0, "addresses"), "10.0.4.9", ["nics[0]: addresses", "tuple"]),
        (("nics", 0, "guest"), ledgers.uuid(8), ["no such guest"]),
        (("nics", 0, "mac"), "52:54:00:00:00:02", ["nics", "twice"]),
        (("host_keys", 0, "key"), "ssh-rsa AAAA", ["public key"]),
        (("moves", 1, "state"), "lost", ["'lost'"]),
        (("hosts", 0, "cpu"), [], ["hosts[0]: cpu"]),
    ],
)
def test_a_wrong_document_is_refused_whole(
    full: Ledger, tmp_path: pathlib.Path, path: tuple[t.Any, ...], value: t.Any, words: list[str]
) -> None:
    before = full.state()
    with pytest.raises(Refused) as caught:
        full.import_(break_at(full.export(), path, value), HISTORY, replace=True)
    for word in ["import", *words]:
        assert word in str(caught.value)
    assert full.state() == before


def test_two_moves_in_flight_of_one_guest_are_refused(full: Ledger) -> None:
    document = break_at(full.export(), ("moves", 1, "state"), "in_flight")
    document["moves"][1]["guest"] = document["moves"][0]["guest"]
    with pytest.raises(Refused, match="two moves in flight"):
        full.import_(document, HISTORY, replace=True)
