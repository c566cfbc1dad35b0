# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes as values: what they really change, what comes out of them, what is wrong with them. No database."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ._ledger_rows import GUEST_STATES, MOVE_STATES, Changes, GuestRow, LedgerState, MoveRow, NicRow

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_BUILD_ID = re.compile(r"[0-9a-f]{64}")
#: One line of known_hosts without the name: nothing else may come from a HostOS into a file that ssh reads.
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{43,}={0,2}")


def effective(state: LedgerState, changes: Changes) -> Changes:
    """Without the rows that are in the ledger already, so that `empty` tells whether anything changes."""
    return dataclasses.replace(
        changes,
        guests=tuple(row for row in changes.guests if state.guests.get(row.uuid) != row),
        nics=tuple(row for row in changes.nics if state.nics.get(row.mac) != row),
        nics_removed=tuple(mac for mac in changes.nics_removed if mac in state.nics),
        hosts=tuple(row for row in changes.hosts if state.hosts.get(row.name) != row),
        builds=tuple(row for row in changes.builds if state.builds.get(row.build_id) != row),
        builds_removed=tuple(build for build in changes.builds_removed if build in state.builds),
        host_builds=tuple(row for row in changes.host_builds if (row.host, row.build_id) not in state.host_builds),
        host_builds_removed=tuple(pair for pair in changes.host_builds_removed if pair in state.host_builds),
        host_keys=tuple(row for row in changes.host_keys if state.host_keys.get(row.guest) != row),
        moves=tuple(row for row in changes.moves if state.moves.get(row.guest) != row),
    )


def applied(state: LedgerState, changes: Changes) -> LedgerState:
    """What `state` is once `changes` are written."""
    moves = dict(state.moves)
    epochs = dict(state.epochs)
    for move in changes.moves:
        epochs[move.guest] = max(epochs.get(move.guest, 0), move.epoch_to)
        if move.state == "in_flight":
            moves[move.guest] = move
        elif move.guest in moves and moves[move.guest].id == move.id:
            del moves[move.guest]
    removed = set(changes.host_builds_removed)
    added = {(row.host, row.build_id) for row in changes.host_builds}
    return dataclasses.replace(
        state,
        revision=state.revision + (0 if changes.empty else 1),
        guests={**state.guests, **{row.uuid: row for row in changes.guests}},
        nics={**_without(state.nics, changes.nics_removed), **{row.mac: row for row in changes.nics}},
        hosts={**state.hosts, **{row.name: row for row in changes.hosts}},
        builds={**_without(state.builds, changes.builds_removed), **{row.build_id: row for row in changes.builds}},
        host_builds=frozenset((state.host_builds - removed) | added),
        host_keys={**state.host_keys, **{row.guest: row for row in changes.host_keys}},
        moves=moves,
        epochs=epochs,
    )


Value = t.TypeVar("Value")


def _without(rows: t.Mapping[str, Value], keys: t.Iterable[str]) -> dict[str, Value]:
    gone = set(keys)
    return {key: row for key, row in rows.items() if key not in gone}


def problems(state: LedgerState, changes: Changes) -> list[str]:
    """Everything that is wrong with `changes`, each naming its guest or row; empty: they may be written.

    The database's own constraints stand behind these as the last guard; here the message can name who has it.
    """
    after = applied(state, changes)
    found = list(_guest_problems(state, after, changes.guests))
    found += _nic_problems(after, changes.nics)
    found += _move_problems(state, after, changes.moves)
    for key in changes.host_keys:
        if key.guest not in after.guests:
            found.append(f"host key of guest {key.guest}: there is no such guest")
        if not HOST_KEY.fullmatch(key.key):
            found.append(f"host key of {_name(after, key.guest)}: {key.key[:80]!r} is not an ssh-ed25519 public key")
    for build_id in [row.build_id for row in changes.builds] + [row.build_id for row in changes.host_builds]:
        if not _BUILD_ID.fullmatch(build_id):
            found.append(f"build {build_id!r}: a build_id has 64 hexadecimal digits")
    return found


def _name(state: LedgerState, uuid: str) -> str:
    row = state.guests.get(uuid)
    return f"guest {row.name}" if row else f"guest {uuid}"


def _guest_problems(before: LedgerState, after: LedgerState, guests: t.Sequence[GuestRow]) -> t.Iterator[str]:
    owners: dict[str, list[str]] = {}
    if guests:
        for row in after.guests.values():
            if row.state != "released":
                owners.setdefault(row.name, []).append(row.uuid)
    for row in guests:
        if row.state not in GUEST_STATES:
            yield f"guest {row.name}: state {row.state!r}; allowed: {', '.join(GUEST_STATES)}"
        old = before.guests.get(row.uuid)
        lowest = old.epoch if old else 1
        if row.epoch < lowest:
            yield f"guest {row.name}: epoch {row.epoch} is lower than {lowest}: a newer move is recorded"
        if row.state != "released" and len(owners[row.name]) > 1:
            yield f"guest {row.name}: the name belongs to {' and '.join(owners[row.name])}"


def _nic_problems(after: LedgerState, nics: t.Sequence[NicRow]) -> t.Iterator[str]:
    if not nics:
        return
    holders: dict[tuple[str, str], NicRow] = {}
    changed = {nic.mac for nic in nics}
    for nic in after.nics.values():
        if nic.mac not in changed:
            for address in nic.addresses:
                holders[nic.realm, address] = nic
    for nic in nics:
        who = f"{_name(after, nic.guest)}: NIC {nic.mac}"
        if not _MAC.fullmatch(nic.mac):
            yield f"{who}: a MAC is six hexadecimal pairs in lower case with colons"
        if nic.guest not in after.guests:
            yield f"{who}: there is no such guest"
        if nic.mac in after.foreign_macs:
            yield f"{who}: the MAC belongs to another cluster in this ledger"
        for address in nic.addresses:
            yield from _address_problems(after, who, nic, address, holders)


def _address_problems(
    after: LedgerState, who: str, nic: NicRow, address: str, holders: dict[tuple[str, str], NicRow]
) -> t.Iterator[str]:
    try:
        good = str(ipaddress.ip_address(address)) == address
    except ValueError:
        good = False
    if not good:
        yield f"{who}: {address!r} is not an address as Python's ipaddress writes it, without a prefix"
    if (nic.realm, address) in after.foreign_addresses:
        yield f"{who}: {address} (realm {nic.realm}) belongs to another cluster in this ledger"
    holder = holders.setdefault((nic.realm, address), nic)
    if holder is not nic:
        yield f"{who}: {address} (realm {nic.realm}) belongs to {_name(after, holder.guest)}"


def _move_problems(before: LedgerState, after: LedgerState, moves: t.Sequence[MoveRow]) -> t.Iterator[str]:
    for move in moves:
        who = f"{_name(after, move.guest)}: move {move.id}"
        if move.guest not in after.guests:
            yield f"{who}: there is no such guest"
        if move.state not in MOVE_STATES:
            yield f"{who}: state {move.state!r}; allowed: {', '.join(MOVE_STATES)}"
        flying = before.moves.get(move.guest)
        if flying and flying.id != move.id:
            yield f"{who}: move {flying.id} to {flying.target} is in flight; settle it first"
        elif flying and _intent(flying) != _intent(move):
            yield f"{who}: it was begun as {_intent(flying)} and cannot become {_intent(move)}"
        if not flying and move.state != "in_flight" and move.guest in before.guests:  # an import has them at once
            yield f"{who}: is not in flight"
        if not flying and move.state == "in_flight" and move.epoch_to < before.next_epoch(move.guest):
            yield f"{who}: epoch {move.epoch_to} was used before; the next is {before.next_epoch(move.guest)}"


def _intent(move: MoveRow) -> str:
    return f"{move.source} to {move.target}, {move.mode}, epoch {move.epoch_from} to {move.epoch_to}"
