# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operation on the ledger is given and what it answers. Operations are pure: state in, Outcome out.

The same function answers check mode and the real run, so the two cannot disagree.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ..module_utils._difference import Difference
from ._ledger_rows import Changes, HistoryRow, LedgerState


class Refused(Exception):
    """An operation that is wrong as it was asked; one message per line, each naming its guest, host or key."""

    def __init__(self, errors: t.Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


@dataclasses.dataclass(frozen=True)
class Stamp:
    """When, who, by which AWX job: on every history row."""

    now: str
    who: str
    job: str | None = None

    def history(self, what: str, subject: str, why: str) -> HistoryRow:
        return HistoryRow(self.now, self.who, self.job, what, subject, why)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """`result` is plain data for the task's result; `warnings` are shown to people."""

    changes: Changes = Changes()
    result: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def difference(state: LedgerState, changes: Changes) -> Difference:
    """Row by row, only the fields that differ. `changes` are effective ones; history is not part of it."""
    found = Difference(f"ledger of cluster {state.cluster}")
    names = {uuid: row.name for uuid, row in state.guests.items()} | {row.uuid: row.name for row in changes.guests}

    def compare(key: str, before: t.Any, after: t.Any) -> None:
        old, new = _fields(before), _fields(after)
        if old and new:
            same = {name for name in old if old[name] == new[name]}
            old, new = ({key: value for key, value in side.items() if key not in same} for side in (old, new))
        found.compare(key, old, new)

    for guest in changes.guests:
        compare(f"guest {guest.name}", state.guests.get(guest.uuid), guest)
    for nic in changes.nics:
        compare(f"nic {nic.mac} of {names.get(nic.guest)}", state.nics.get(nic.mac), nic)
    for mac in changes.nics_removed:
        compare(f"nic {mac} of {names.get(state.nics[mac].guest)}", state.nics[mac], None)
    for host in changes.hosts:
        compare(f"host {host.name}", state.hosts.get(host.name), host)
    for build in changes.builds:
        compare(f"build {build.build_id}", state.builds.get(build.build_id), build)
    for build_id in changes.builds_removed:
        compare(f"build {build_id}", state.builds[build_id], None)
    for lies in changes.host_builds:
        compare(f"build {lies.build_id} on {lies.host}", None, lies)
    for on_host, build_id in changes.host_builds_removed:
        found.compare(f"build {build_id} on {on_host}", {"host": on_host, "build_id": build_id}, None)
    for host_key in changes.host_keys:
        compare(f"host key of {names.get(host_key.guest)}", state.host_keys.get(host_key.guest), host_key)
    for move in changes.moves:
        compare(f"move {move.id} of {names.get(move.guest)}", state.moves.get(move.guest), move)
    return found


def _fields(row: t.Any) -> dict[str, t.Any] | None:
    if row is None:
        return None
    plain: dict[str, t.Any] = json.loads(json.dumps(dataclasses.asdict(row)))
    return plain
