# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves in the ledger: the intent before anything acts, and what became of it.

A guest's epoch is raised when a move is committed. An aborted move has used its epoch up: a copy with it may lie
somewhere, so no later move ever gets the same one.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._ledger_outcome import Outcome, Refused, Stamp
from ._ledger_rows import Changes, GuestRow, HistoryRow, LedgerState, MoveRow
from ._model import Cluster

MODES = ("live", "cold")
OUTCOMES = ("committed", "aborted")
#: Guest states that can be moved; the others are nowhere for certain.
_MOVABLE = ("running", "paused", "stopped")
#: Which hypervisor takes over which one's guests: their disks are of the same kind, or it can make its own of them.
_TAKES_OVER = {("kvm", "xen"), ("xen", "kvm"), ("openvz", "lxc")}


def begin(
    cluster: Cluster,
    state: LedgerState,
    moves: t.Sequence[t.Mapping[str, t.Any]],
    stamp: Stamp,
    new_id: t.Callable[[], str],
) -> Outcome:
    """Record the intent of each move of {guest, target, mode, source?}. Refused, whole, if any of them cannot be."""
    rows = {row.name: row for row in state.guests.values() if row.state != "released"}
    errors: list[str] = []
    begun: list[MoveRow] = []
    for wish in moves:
        row = rows.get(str(wish.get("guest")))
        wrong = (
            [f"not in the ledger of cluster {state.cluster}"] if row is None else _obstacles(cluster, state, row, wish)
        )
        if row is not None and any(move.guest == row.uuid for move in begun):
            wrong.append("is in the list twice")
        errors += [f"guest {wish.get('guest')}: {text}" for text in wrong]
        if row is None or wrong:
            continue
        epoch = state.next_epoch(row.uuid)
        target, mode = str(wish["target"]), str(wish.get("mode") or "live")
        source = t.cast(str, row.host)
        begun.append(MoveRow(new_id(), row.uuid, source, target, row.epoch, epoch, mode, "in_flight", stamp.now))
    if errors:
        raise Refused(errors)
    names = {row.uuid: row.name for row in rows.values()}
    history = tuple(
        stamp.history("begin_move", names[move.guest], f"{move.source} to {move.target}, {move.mode}, move {move.id}")
        for move in begun
    )
    return Outcome(
        Changes(moves=tuple(begun), history=history),
        {
            "moves": [
                {**plain_move(move, names[move.guest]), **_of_target(cluster, state, move.target)} for move in begun
            ]
        },
    )


def _of_target(cluster: Cluster, state: LedgerState, name: str) -> dict[str, t.Any]:
    """What a source must know of the target's hypervisor in order to make a guest for it."""
    known = state.hosts.get(name)
    return {
        "target_hypervisor": cluster.hosts[name].hypervisor,
        "target_acceleration": str((known.facts if known else {}).get("acceleration") or ""),
    }


def plain_move(move: MoveRow, name: str) -> dict[str, t.Any]:
    """As tasks see it: the guest by name and by uuid."""
    return {**dataclasses.asdict(move), "guest": name, "uuid": move.guest}


def _obstacles(cluster: Cluster, state: LedgerState, row: GuestRow, wish: t.Mapping[str, t.Any]) -> list[str]:
    found = []
    unknown = set(wish) - {"guest", "target", "mode", "source"}
    if unknown:
        found.append(f"unknown key {min(unknown)!r}; known keys: guest, target, mode, source")
    if (wish.get("mode") or "live") not in MODES:
        found.append(f"mode {wish['mode']!r}; allowed: {', '.join(MODES)}")
    flying = state.moves.get(row.uuid)
    if flying:
        found.append(f"move {flying.id} from {flying.source} to {flying.target} is in flight; run oscarv.virt.settle")
    if row.host is None or row.state not in _MOVABLE:
        seen = ", ".join(_MOVABLE)
        found.append(f"is {row.state}; only a guest that was seen {seen} is moved: deploy it first (saved: as running)")
        return found
    if wish.get("source") not in (None, row.host):
        found.append(f"is on {row.host}, not on {wish['source']}: plan again")
    source = state.hosts.get(row.host)
    if source and source.fenced:
        found.append(f"its host {row.host} is fenced: nothing can be moved from a host that is off")
    return found + _target_obstacles(cluster, state, row, wish)


def _target_obstacles(cluster: Cluster, state: LedgerState, row: GuestRow, wish: t.Mapping[str, t.Any]) -> list[str]:
    target = wish.get("target")
    host = cluster.hosts.get(str(target))
    if host is None or host.external:
        return [f"target {target!r} is not a HostOS of cluster {cluster.name}"]
    found = []
    if host.name == row.host:
        found.append(f"is on {row.host} already")
    here = cluster.hosts.get(str(row.host))
    now = (here and here.hypervisor) or row.hypervisor
    if host.hypervisor != now:
        if (now, host.hypervisor) not in _TAKES_OVER:
            found.append(f"runs on {now}, target {host.name} has {host.hypervisor}: their guests' disks differ")
        elif wish.get("mode") != "cold":
            found.append(
                f"runs on {now}, target {host.name} has {host.hypervisor}: between hypervisors only mode cold is"
                " possible (oscarv_mode=cold), which shuts it down and starts it there"
            )
    guest = cluster.guests.get(row.name)
    if guest and host.partition not in guest.on:
        found.append(f"may run on {', '.join(guest.on)}; target {host.name} is in partition {host.partition}")
    known = state.hosts.get(host.name)
    if known and known.fenced:
        found.append(f"target {host.name} is fenced since {known.fenced}")
    if known and known.maintenance:
        found.append(f"target {host.name} is in maintenance: {known.maintenance}")
    return found


def end(
    state: LedgerState, ended: t.Mapping[str, MoveRow], wishes: t.Sequence[t.Mapping[str, t.Any]], stamp: Stamp
) -> Outcome:
    """Each wish {id, outcome, message}. `ended`: moves that are over, by id. The same outcome again changes nothing."""
    flying = {move.id: move for move in state.moves.values()}
    errors: list[str] = []
    results: list[Changes] = []
    for wish in wishes:
        id_, outcome = str(wish.get("id")), wish.get("outcome")
        old = ended.get(id_)
        if outcome not in OUTCOMES:
            errors.append(f"move {id_}: outcome {outcome!r}; allowed: {', '.join(OUTCOMES)}")
        elif id_ in flying:
            results.append(ended_rows(state, flying[id_], str(outcome), str(wish.get("message") or ""), stamp))
        elif old is None:
            errors.append(f"move {id_}: not in the ledger of cluster {state.cluster}")
        elif old.state != outcome:
            errors.append(f"move {id_}: was {old.state} at {old.ended}; it cannot become {outcome}")
    if errors:
        raise Refused(errors)
    moves = tuple(move for changes in results for move in changes.moves)
    result = {"moves": [plain_move(move, state.guests[move.guest].name) for move in moves]}
    return Outcome(joined(results), result)


def ended_rows(
    state: LedgerState, move: MoveRow, outcome: str, message: str, stamp: Stamp, *, guest: GuestRow | None = None
) -> Changes:
    """The rows of a move that is over. `guest`: the guest's row, if more than the move itself changes it."""
    row = guest or state.guests[move.guest]
    if outcome == "committed":
        target = state.hosts.get(move.target)
        hypervisor = target.hypervisor if target else row.hypervisor
        row = dataclasses.replace(row, host=move.target, epoch=move.epoch_to, hypervisor=hypervisor)
    over = dataclasses.replace(move, state=outcome, ended=stamp.now, message=message)
    why = f"{move.source} to {move.target}, move {move.id}" + (f": {message}" if message else "")
    verb = "commit" if outcome == "committed" else "abort"
    return Changes(guests=(row,), moves=(over,), history=(stamp.history(verb, row.name, why),))


def joined(parts: t.Sequence[Changes]) -> Changes:
    """One set of changes of guests and moves out of several."""
    history: tuple[HistoryRow, ...] = tuple(row for part in parts for row in part.history)
    return Changes(
        guests=tuple(row for part in parts for row in part.guests),
        moves=tuple(row for part in parts for row in part.moves),
        history=history,
    )
