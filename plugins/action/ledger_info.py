# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `ledger_info`; documented in plugins/modules/ledger_info.py."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.plugins.action import ActionBase

from ..plugin_utils._context import ARGUMENTS, Context, failing, open_context, plain
from ..plugin_utils._ledger_moves import plain_move
from ..plugin_utils._ledger_observe import nics_by_guest
from ..plugin_utils._ledger_rows import LedgerState

_SUBSETS = ("guests", "hosts", "moves", "builds", "history")
_OPTIONS: dict[str, dict[str, t.Any]] = {
    "subset": {"type": "list", "elements": "str", "choices": list(_SUBSETS), "default": list(_SUBSETS[:-1])},
    "subject": {"type": "str"},
    "what": {"type": "str"},
    "limit": {"type": "int", "default": 100},
    "all_moves": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _result, validated = self.validate_argument_spec(argument_spec={**ARGUMENTS, **_OPTIONS})
        args = plain(validated)
        ctx = open_context(self, task_vars)
        with failing():
            state = ctx.ledger.state()
            result.update(
                changed=False,
                url=ctx.ledger.url,
                exists=ctx.ledger.version() is not None,
                revision=state.revision,
            )
            for subset in args["subset"]:
                result[subset] = _read(ctx, state, subset, args)
        return result


def _read(ctx: Context, state: LedgerState, subset: str, args: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    subject = args["subject"]
    if subset == "history":
        rows = ctx.ledger.history(subject=subject, what=args["what"], limit=args["limit"])
        return [dataclasses.asdict(row) for row in rows]
    if subset == "guests":
        return _guests(state, subject)
    if subset == "hosts":
        return _hosts(state, subject)
    if subset == "builds":
        return [dataclasses.asdict(row) for row in state.builds.values()]
    moves = ctx.ledger.moves() if args["all_moves"] else list(state.moves.values())
    found = [plain_move(move, state.guests[move.guest].name) for move in moves]
    return [move for move in found if subject in (None, move["guest"], move["source"], move["target"])]


def _guests(state: LedgerState, subject: str | None) -> list[dict[str, t.Any]]:
    nics = nics_by_guest(state)
    found = []
    for row in sorted(state.guests.values(), key=lambda row: (row.name, row.uuid)):
        if subject in (None, row.name, row.host):
            key, move = state.host_keys.get(row.uuid), state.moves.get(row.uuid)
            found.append(
                {
                    **dataclasses.asdict(row),
                    "nics": [
                        dataclasses.asdict(nic) for nic in sorted(nics.get(row.uuid, ()), key=lambda nic: nic.position)
                    ],
                    "host_key": key.key if key else None,
                    "move": plain_move(move, row.name) if move else None,
                }
            )
    return found


def _hosts(state: LedgerState, subject: str | None) -> list[dict[str, t.Any]]:
    builds: dict[str, list[str]] = {}
    for host, build in sorted(state.host_builds):
        builds.setdefault(host, []).append(build)
    return [
        {**dataclasses.asdict(row), "builds": builds.get(row.name, [])}
        for row in state.hosts.values()
        if subject in (None, row.name)
    ]
