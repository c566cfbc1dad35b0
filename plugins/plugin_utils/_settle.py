# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of moves that nobody finished. Pure: moves in flight and what both sides show, to decisions.

| source                   | target (copy with the move's epoch)  | decision                                       |
|--------------------------|--------------------------------------|------------------------------------------------|
| any, job active          | any                                  | wait                                           |
| any                      | any, job active                      | wait                                           |
| not reached              | any                                  | leave: the guest is refused                    |
| any                      | not reached                          | leave: the guest is refused                    |
| gone                     | runs, paused or halted               | commit                                         |
| gone                     | defined, not running                 | commit: a stopped guest moved cold, or it has  |
|                          |                                      | been stopped since; `guest` starts it if wanted|
| any copy                 | gone                                 | abort: it never left                           |
| stopped, behind its      | runs or paused                       | commit: the tombstone keeps the old copy off;  |
| tombstone, no autostart  |                                      | it is cleaned away                             |
| defined                  | defined (every other case)           | riddle: start neither, report                  |
| gone                     | gone                                 | riddle: lost, report loudly                    |
| gone                     | fenced                               | commit: it is lost with the target             |
| fenced                   | gone or fenced                       | abort: it is lost with the source              |

Halted: paused by a move of which no job is left, as a HostOS's daemon leaves a guest when it dies in the middle.
A HostOS that is fenced and does not answer counts as gone from, on the operator's word. A copy with an epoch that
this move did not make is a riddle. Nothing is ever started here: after a decision the next `guest` call brings the
guest to its wanted state.

`resolve` is the operator's word on a riddle: the HostOS whose copy is the right one. It is refused while both run.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._ledger_moves import ended_rows, joined, plain_move
from ._ledger_outcome import Outcome, Refused, Stamp
from ._ledger_rows import Changes, LedgerState, MoveRow
from ._ledger_seen import SeenGuest, SeenStone, Sight

COMMIT, ABORT, WAIT, LEAVE, RIDDLE = "commit", "abort", "wait", "leave", "riddle"
_RUNS = ("running", "paused")
#: What a HostOS may have to do after a decision; the `settle` of `guest_migrate` does it. The order of a decision's
#: actions holds across both hosts: files on the source are the last copy until the target has accepted its own.
ACTIONS = {
    "write_tombstone": "the copy of this epoch has left: tombstone `moved`",
    "undefine": "remove the copy of this epoch, which does not run; its files stay for `remove_leftovers`",
    "accept": "the guest has arrived with this epoch: make files that came with it durable",
    "remove_leftovers": "remove the guest's files that the move made or left behind here, while no copy is defined",
    "drop_tombstone": "the copy of this epoch has not left: remove its tombstone",
}


@dataclasses.dataclass(frozen=True)
class Side:
    """One end of a move. `seen` None and `reached`: the guest is not there."""

    host: str
    reached: bool
    fenced: bool
    seen: SeenGuest | None
    stone: SeenStone | None

    @property
    def gone(self) -> bool:
        return self.fenced or (self.reached and self.seen is None)

    @property
    def runs(self) -> bool:
        return not self.fenced and self.seen is not None and self.seen.state in _RUNS

    @property
    def active(self) -> bool:
        """It has a process, or memory that is saved: it runs, is paused or halted, or would go on."""
        return not self.fenced and self.seen is not None and self.seen.state != "stopped"

    def __str__(self) -> str:
        if self.fenced:
            return f"{self.host} is fenced"
        if not self.reached:
            return f"{self.host} could not be reached"
        return f"{self.host}: " + (f"{self.seen.state}, epoch {self.seen.epoch}" if self.seen else "not there")


@dataclasses.dataclass(frozen=True)
class Decision:
    move: MoveRow
    guest: str
    decision: str  #: commit | abort | wait | leave | riddle
    reason: str
    cleanup: tuple[t.Mapping[str, t.Any], ...] = ()  #: {host, action, uuid, guest, epoch, move}

    def to_plain(self) -> dict[str, t.Any]:
        return {
            **plain_move(self.move, self.guest),
            "decision": self.decision,
            "reason": self.reason,
            "cleanup": [dict(item) for item in self.cleanup],
        }


def settle(
    state: LedgerState,
    sights: t.Mapping[str, Sight | None],
    stamp: Stamp,
    resolve: t.Mapping[str, str] | None = None,
) -> Outcome:
    """Decide every move in flight. `resolve`: {GUEST: HOST} for riddles. Refused if `resolve` cannot be followed."""
    decisions = [
        _decide(state, move, sights) for move in sorted(state.moves.values(), key=lambda move: (move.started, move.id))
    ]
    if resolve:
        decisions = _resolved(state, decisions, sights, resolve)
    changes = joined([_rows(state, item, stamp) for item in decisions if item.decision in (COMMIT, ABORT)])
    cleanup = [dict(item) for decision in decisions for item in decision.cleanup] + forgotten(state, sights)
    open_ = [item for item in decisions if item.decision in (WAIT, LEAVE, RIDDLE)]
    result = {
        "decisions": [item.to_plain() for item in decisions],
        "cleanup": cleanup,
        "cleanup_rounds": rounds(cleanup),
        "refused": sorted(item.guest for item in open_),
        "waiting": sorted(item.guest for item in decisions if item.decision == WAIT),
        "riddles": [item.reason for item in decisions if item.decision == RIDDLE],
    }
    return Outcome(changes, result, tuple(item.reason for item in open_))


def _side(state: LedgerState, move: MoveRow, host: str, sights: t.Mapping[str, Sight | None]) -> Side:
    row, sight = state.hosts.get(host), sights.get(host)
    fenced = bool(row and row.fenced) and sight is None  # what answers is not off, whatever was said
    seen = sight.guests.get(move.guest) if sight else None
    # An answer that is not the whole list proves nothing about a guest that is not in it.
    reached = sight is not None and (seen is not None or sight.lacks(move.guest))
    return Side(host, reached, fenced, seen, sight.stones.get(move.guest) if sight else None)


def _decide(state: LedgerState, move: MoveRow, sights: t.Mapping[str, Sight | None]) -> Decision:
    source, target = _side(state, move, move.source, sights), _side(state, move, move.target, sights)
    guest = state.guests[move.guest].name

    def answer(decision: str, why: str, *cleanup: t.Mapping[str, t.Any]) -> Decision:
        return Decision(move, guest, decision, f"guest {guest}, move {move.id} ({source}; {target}): {why}", cleanup)

    if any(side.seen and side.seen.busy and not side.fenced for side in (source, target)):
        return answer(WAIT, "a job is active; wait for it and settle again")
    if not all(side.reached or side.fenced for side in (source, target)):
        return answer(LEAVE, "nothing is decided until both sides answer; or fence the one that is off for good")
    if source.gone and target.gone:
        if not source.fenced and target.fenced:
            return answer(COMMIT, "it left for a host that is off now")
        if source.fenced:
            return answer(ABORT, "it did not leave a host that is off now, or nobody can tell")
        return answer(RIDDLE, "it is on neither side. Look for it with oscarv.virt.status, then use `resolve`")
    strange = _strange(move, source, target)
    if strange:
        return answer(RIDDLE, strange)
    if source.gone:
        return answer(COMMIT, "it has arrived", *_after_commit(state, move, source, target))
    if target.gone:
        return answer(ABORT, "it has not left", *_after_abort(state, move, source, target))
    if target.runs and _kept_off(move, source):
        why = "it runs on the target; the old copy is kept off"
        return answer(COMMIT, why, *_after_commit(state, move, source, target))
    why = "both have a copy; neither is started. Find out which is right and settle with `resolve`"
    return answer(RIDDLE, "BOTH RUN: power one off by hand, now; then " + why if source.runs and target.runs else why)


def _strange(move: MoveRow, source: Side, target: Side) -> str:
    """A copy that this move cannot have left or made. The mark on the source may be behind the ledger."""
    if source.seen and source.seen.epoch is not None and source.seen.epoch > move.epoch_from:
        return f"the copy on {source.host} is newer than epoch {move.epoch_from}, with which it was to leave; `resolve`"
    if target.seen and target.seen.epoch not in (None, move.epoch_to):
        return f"the copy on {target.host} should have epoch {move.epoch_to}: this move did not make it; use `resolve`"
    return ""


def _kept_off(move: MoveRow, source: Side) -> bool:
    """The old copy does not run, and its HostOS will not start it: not `guest`, for the tombstone, and not at boot."""
    stone = source.stone
    held = stone is not None and stone.state in ("moving", "moved") and stone.epoch >= move.epoch_from
    return held and source.seen is not None and source.seen.state == "stopped" and not source.seen.autostart


def _todo(state: LedgerState, move: MoveRow, side: Side, *actions: str) -> list[dict[str, t.Any]]:
    """What is to be done on one side; nothing where nobody answers."""
    name = state.guests[move.guest].name
    epoch = move.epoch_from if side.host == move.source else move.epoch_to
    whom = {"host": side.host, "uuid": move.guest, "guest": name, "epoch": epoch, "move": move.id}
    return [] if side.fenced else [{**whom, "action": action} for action in actions]


def _after_commit(state: LedgerState, move: MoveRow, source: Side, target: Side) -> list[dict[str, t.Any]]:
    # When a fenced source comes back, its copy is older than the ledger's epoch and is pruned.
    left = ["write_tombstone"] + ["undefine"] * (source.seen is not None)
    arrived = ["accept"] * (target.seen is not None)
    return [
        *_todo(state, move, source, *left),
        *_todo(state, move, target, *arrived),
        *_todo(state, move, source, "remove_leftovers"),
    ]


def _after_abort(state: LedgerState, move: MoveRow, source: Side, target: Side) -> list[dict[str, t.Any]]:
    made = ["undefine"] * (target.seen is not None) + ["remove_leftovers"]
    # The source first: who still works on this move holds the lock there, and who comes later is refused there.
    return _todo(state, move, source, "drop_tombstone") + _todo(state, move, target, *made)


def _resolved(
    state: LedgerState,
    decisions: list[Decision],
    sights: t.Mapping[str, Sight | None],
    resolve: t.Mapping[str, str],
) -> list[Decision]:
    by_guest = {item.guest: item for item in decisions}
    errors = []
    for guest, host in resolve.items():
        item = by_guest.get(guest)
        if item is None:
            errors.append(f"guest {guest}: resolve: it has no move in flight")
        elif host not in (item.move.source, item.move.target):
            errors.append(f"guest {guest}: resolve: found {host!r}; allowed: {item.move.source}, {item.move.target}")
        elif item.decision in (WAIT, LEAVE):
            errors.append(f"{item.reason}; resolve cannot help")
        elif item.decision == RIDDLE:
            source, target = (_side(state, item.move, name, sights) for name in (item.move.source, item.move.target))
            other = target if host == source.host else source
            if other.active:
                state_ = other.seen.state if other.seen else ""
                # Saved memory is no process: there is nothing to power off, and a start may be the wrong thing to do.
                way = "throw its saved memory away" if state_ == "saved" else "power it off"
                errors.append(f"guest {guest}: resolve: the copy on {other.host} is {state_}; {way} by hand first")
                continue
            wanted = COMMIT if host == target.host else ABORT
            after = _after_commit if wanted == COMMIT else _after_abort
            cleanup = after(state, item.move, source, target)
            reason = f"guest {guest}, move {item.move.id}: the operator says that the copy on {host} is the right one"
            by_guest[guest] = dataclasses.replace(item, decision=wanted, reason=reason, cleanup=tuple(cleanup))
    if errors:
        raise Refused(errors)
    return list(by_guest.values())


def _rows(state: LedgerState, item: Decision, stamp: Stamp) -> Changes:
    outcome = "committed" if item.decision == COMMIT else "aborted"
    target = state.hosts.get(item.move.target)
    row = state.guests[item.move.guest]
    if outcome == "aborted" and target and target.fenced:
        # A copy with the move's epoch may come back with that HostOS: the right one must be newer.
        row = dataclasses.replace(row, epoch=state.next_epoch(row.uuid))
    return ended_rows(state, item.move, outcome, "settled: " + item.reason, stamp, guest=row)


def forgotten(state: LedgerState, sights: t.Mapping[str, Sight | None]) -> list[dict[str, t.Any]]:
    """Tombstones `moving` without a move in flight: the run that ended the move was cut off before it cleaned up."""
    found = []
    for host, sight in sights.items():
        for stone in sight.stones.values() if sight else ():
            row = state.guests.get(stone.uuid)
            if stone.state != "moving" or row is None or row.uuid in state.moves:
                continue
            todo = {"host": host, "uuid": row.uuid, "guest": row.name, "epoch": stone.epoch, "move": None}
            if row.host == host and row.epoch >= stone.epoch:
                found.append({**todo, "action": "drop_tombstone"})
            elif row.host != host and row.epoch > stone.epoch:
                found.append({**todo, "action": "write_tombstone"})
    return found


def rounds(cleanup: t.Sequence[t.Mapping[str, t.Any]]) -> list[list[dict[str, t.Any]]]:
    """The same actions, such that all hosts may do one round at the same time and the order of each guest holds."""
    found: list[list[dict[str, t.Any]]] = []
    last: dict[str, tuple[int, str]] = {}  # guest -> round and host of its latest action
    for item in cleanup:
        number, host = last.get(item["uuid"], (0, item["host"]))
        number += host != item["host"]
        last[item["uuid"]] = number, item["host"]
        if number == len(found):
            found.append([])
        found[number].append(dict(item))
    return found
