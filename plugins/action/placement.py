# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `placement`; documented in plugins/modules/placement.py. Asks the planner and changes nothing."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._assign_problem import ask
from ..plugin_utils._checker import complaints
from ..plugin_utils._context import ARGUMENTS, failing, open_context, plain
from ..plugin_utils._planner import LATER_VERBS, VERBS, PlannerError, solve
from ..plugin_utils._report import after, plain_plan, plan_lines, summary
from ..plugin_utils._select import SelectError, select, select_hosts

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "verb": {"type": "str", "required": True, "choices": [*VERBS[1:], *LATER_VERBS]},
    "hosts": {"type": "list", "elements": "str"},
    "select": {"type": "list", "elements": "str"},
    "to": {"type": "str"},
    "moves_per_host": {"type": "int", "default": 2},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, validated = self.validate_argument_spec(
            argument_spec={**ARGUMENTS, **_OPTIONS},
            required_if=[
                ("verb", "evacuate", ("hosts",)),
                ("verb", "explain", ("select",)),
                ("verb", "move", ("select", "to")),
            ],
        )
        args = plain(validated)
        if args["moves_per_host"] < 1:
            raise AnsibleActionFail(f"moves_per_host: found {args['moves_per_host']}; allowed: 1 or more")
        ctx = open_context(self, task_vars)
        with failing():
            state = ctx.ledger.state()
        try:
            about_guests = args["verb"] in ("explain", "move")
            if about_guests:
                subjects = select(ctx.cluster, args["select"]) or []
            else:
                subjects = select_hosts(ctx.cluster, args["hosts"])
            options = {"moves_per_host": args["moves_per_host"], "to": args["to"]}
            problem = ask(ctx.cluster, state, args["verb"], (), options)
            if about_guests:  # one that is to be absent and never had a place is none of the planner's
                subjects = [name for name in subjects if name in problem.guests]
            problem = dataclasses.replace(problem, subjects=tuple(subjects))
            plan = solve(problem)
        except (SelectError, PlannerError) as error:
            raise AnsibleActionFail(str(error)) from error
        wrong = complaints(problem, plan)
        if wrong:
            raise AnsibleActionFail(
                f"the planner broke a constraint, which is a bug; please report: {'; '.join(wrong)}"
            )
        result.update(
            changed=False,
            hosts=[] if about_guests else list(subjects),
            plan=plain_plan(plan),
            before=summary(problem),
            after=summary(after(problem, plan)),
            report=list(plan.notes) if args["verb"] == "explain" else plan_lines(problem, plan),
        )
        return result
