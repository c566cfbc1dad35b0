# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `assign`; documented in plugins/modules/assign.py. What is decided stands in plugin_utils/_assign.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._assign import Decision, decide
from ..plugin_utils._assign_result import difference, result_of
from ..plugin_utils._context import ARGUMENTS, Context, failing, open_context, plain
from ..plugin_utils._ledger_rows import LedgerState
from ..plugin_utils._select import SelectError, select
from ..plugin_utils._specs import SpecProblem

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "select": {"type": "list", "elements": "str"},
    "confirm": {"type": "str"},
    "fenced": {"type": "list", "elements": "str", "default": []},
    "recreate": {"type": "bool", "default": False},
    "rebuild": {"type": "bool", "default": False},
    "teardown": {"type": "bool", "default": False},
    "need_builds": {"type": "bool", "default": True},
    "observed": {"type": "dict"},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, validated = self.validate_argument_spec(
            argument_spec={**ARGUMENTS, **_OPTIONS},
            mutually_exclusive=[("rebuild", "teardown"), ("select", "teardown")],
        )
        args = plain(validated)
        ctx = open_context(self, task_vars)
        with failing():
            state = ctx.ledger.state()
            selected = _selected(ctx, state, args)
            state, decision = _decide_and_record(ctx, state, args, selected)
            try:
                result.update(result_of(ctx.cluster, decision, selected, args["observed"], teardown=args["teardown"]))
            except SpecProblem as error:
                raise AnsibleActionFail(str(error)) from error
        result["changed"] = not decision.changes.empty
        if ctx.diff and result["changed"]:
            result["diff"] = [difference(ctx.cluster, state, decision).before_after()]
        return result


def _selected(ctx: Context, state: LedgerState, args: dict[str, t.Any]) -> list[str] | None:
    leaving = [row.name for row in state.guests.values() if row.state == "leaving"]
    try:
        selected = select(ctx.cluster, args["select"], leaving)
    except SelectError as error:
        raise AnsibleActionFail(str(error)) from error
    if args["rebuild"] and selected is None:
        raise AnsibleActionFail("rebuild: say which guests: -e oscarv_select=PATTERN (all of them: '*')")
    return selected


def _decide_and_record(
    ctx: Context, state: LedgerState, args: dict[str, t.Any], selected: list[str] | None
) -> tuple[LedgerState, Decision]:
    """Decide on a snapshot; if that changes anything, decide again inside a transaction and record it."""
    decision = _decide(ctx, state, args, selected)
    if decision.changes.empty or ctx.check:
        return state, decision
    with ctx.ledger.transaction() as tx:
        state = tx.state
        decision = _decide(ctx, state, args, selected)
        if not decision.changes.empty:
            tx.write(decision.changes)
    return state, decision


def _decide(ctx: Context, state: LedgerState, args: dict[str, t.Any], selected: list[str] | None) -> Decision:
    decision = decide(
        ctx.cluster,
        state,
        now=ctx.now,
        who=ctx.who,
        job=ctx.job,
        confirm=args["confirm"],
        fenced=args["fenced"],
        recreate=(None if selected is None else selected) if args["recreate"] else (),
        rebuild=(selected or ()) if args["rebuild"] else (),
        teardown=args["teardown"],
        need_builds=args["need_builds"],
        observed=args["observed"],
    )
    if decision.errors:
        head = f"nothing was decided about cluster {ctx.cluster.name}:"
        raise AnsibleActionFail("\n".join([head, *(f"  {error}" for error in decision.errors)]))
    return decision
