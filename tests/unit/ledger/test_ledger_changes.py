# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import tempfile
import typing as t

import ledgers
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_changes import applied, effective, problems
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_outcome import difference
from hypothesis import given, settings
from hypothesis import strategies as st

NUMBERS = st.integers(1, 4)
MOVES = ("in_flight", "committed", "aborted")


def some(strategy: st.SearchStrategy[t.Any], key: t.Callable[[t.Any], t.Any]) -> st.SearchStrategy[tuple[t.Any, ...]]:
    return st.lists(strategy, max_size=3, unique_by=key).map(tuple)


CHANGES = st.builds(
    rows.Changes,
    guests=some(
        st.builds(
            lambda number, epoch, state: ledgers.guest(number, epoch=epoch, state=state),
            NUMBERS,
            st.integers(1, 3),
            st.sampled_from(rows.GUEST_STATES),
        ),
        lambda row: row.uuid,
    ),
    nics=some(
        st.builds(
            lambda number, guest, last: ledgers.nic(number, guest=ledgers.uuid(guest), addresses=(f"10.0.4.{last}",)),
            NUMBERS,
            NUMBERS,
            NUMBERS,
        ),
        lambda row: row.mac,
    ),
    nics_removed=some(NUMBERS.map(lambda number: ledgers.nic(number).mac), lambda mac: mac),
    hosts=some(st.builds(rows.HostRow, NUMBERS.map(str), st.just("kvm"), NUMBERS), lambda row: row.name),
    host_builds=some(
        st.builds(rows.HostBuildRow, NUMBERS.map(str), st.just(ledgers.BUILD), st.just("x")), lambda row: row.host
    ),
    host_builds_removed=some(NUMBERS.map(lambda number: (str(number), ledgers.BUILD)), lambda pair: pair),
    moves=some(
        st.builds(
            lambda number, epoch, state: ledgers.move(number, epoch_to=epoch, state=state),
            NUMBERS,
            st.integers(2, 5),
            st.sampled_from(MOVES),
        ),
        lambda row: row.guest,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, max_size=8))
def test_what_is_predicted_is_what_the_database_holds(sequence: list[rows.Changes]) -> None:
    """`applied` (check mode) against the database (the real run), over random sequences of changes."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = ledgers.ledger(pathlib.Path(folder))
        state = ledger.state()
        for wanted in sequence:
            changes = effective(state, wanted)
            if problems(state, changes):
                continue
            assert changes.empty == (not difference(state, changes).changed)
            expected = applied(state, changes)
            with ledger.transaction() as tx:
                tx.write(changes)
            state = ledger.state()
            assert state == expected
            assert (
                effective(state, changes).empty or changes.nics_removed or changes.host_builds_removed or changes.moves
            )
            addresses = [(nic.realm, address) for nic in state.nics.values() for address in nic.addresses]
            assert len(addresses) == len(set(addresses))


def test_effective_keeps_only_what_differs() -> None:
    state = ledgers.state(ledgers.guest(1), ledgers.guest(2), nics=[ledgers.nic(1)], moves=[ledgers.move(2)])
    changes = rows.Changes(
        guests=(ledgers.guest(1), ledgers.guest(2, host="node03")),
        nics=(ledgers.nic(1),),
        nics_removed=("52:54:00:00:00:77",),
        builds_removed=("gone",),
        moves=(ledgers.move(2),),
    )
    assert effective(state, changes) == rows.Changes(guests=(ledgers.guest(2, host="node03"),))


def test_a_difference_shows_only_the_fields_that_differ() -> None:
    state = ledgers.state(ledgers.guest(1), nics=[ledgers.nic(1)])
    changes = rows.Changes(
        guests=(ledgers.guest(1, host="node02", epoch=2), ledgers.guest(2)), nics_removed=(ledgers.nic(1).mac,)
    )
    shown = difference(state, changes)
    assert shown["guest wn1"].before == {"host": "node01", "epoch": 1}
    assert shown["guest wn1"].after == {"host": "node02", "epoch": 2}
    assert shown["guest wn2"].before is None and shown["guest wn2"].after["uuid"] == ledgers.uuid(2)
    assert shown["nic 52:54:00:00:00:01 of wn1"].after is None
    assert shown.before_after()["before_header"] == "ledger of cluster demo"
