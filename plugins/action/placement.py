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
from ..plugin_utils._ledger_rows import LedgerState
from ..plugin_utils._model import Cluster
from ..plugin_utils._plan import Problem
from ..plugin_utils._planner import VERBS, PlannerError, asked, solve
from ..plugin_utils._report import plain_plan, plan_lines, summaries
from ..plugin_utils._select import SelectError, select, select_hosts

_ABOUT_GUESTS = ("explain", "move")
_COUNTS = ("moves", "moves_per_host", "moves_total", "threshold")

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "verb": {"type": "str", "required": True, "choices": list(VERBS)},
    "hosts": {"type": "list", "elements": "str"},
    "select": {"type": "list", "elements": "str"},
    "to": {"type": "str"},
    "threshold": {"type": "int"},
    "moves": {"type": "int", "default": 20},
    "make_room": {"type": "bool", "default": False},
    "lose": {"type": "list", "elements": "str"},
    "add": {
        "type": "dict",
        "options": {"count": {"type": "int", "required": True}, "like": {"type": "str", "required": True}},
    },
    "fit": {"type": "str"},
    "moves_per_host": {"type": "int", "default": 2},
    "moves_total": {"type": "int"},
    "engine": {"type": "str", "choices": ["auto", "pure", "highspy"], "default": "auto"},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, validated = self.validate_argument_spec(
            argument_spec={**ARGUMENTS, **_OPTIONS},
            required_if=[
                ("verb", "evacuate", ("hosts",)),
                ("verb", "relieve", ("threshold",)),
                ("verb", "explain", ("select",)),
                ("verb", "move", ("select", "to")),
            ],
        )
        args = plain(validated)
        for name in _COUNTS:
            if args[name] is not None and args[name] < 1:
                raise AnsibleActionFail(f"{name}: found {args[name]}; allowed: 1 or more")
        ctx = open_context(self, task_vars)
        with failing():
            state = ctx.ledger.state()
        try:
            problem = _problem(ctx.cluster, state, args)
            plan = solve(problem)
            problem = asked(problem)
        except (SelectError, PlannerError) as error:
            raise AnsibleActionFail(str(error)) from error
        wrong = complaints(problem, plan, always_together=True)
        if wrong:
            raise AnsibleActionFail(
                f"the planner broke a constraint, which is a bug; please report: {'; '.join(wrong)}"
            )
        before, then = numbers = summaries(problem, plan)
        result.update(
            changed=False,
            hosts=[] if args["verb"] in _ABOUT_GUESTS else list(problem.subjects),
            plan=plain_plan(plan),
            before=before,
            after=then,
            report=list(plan.notes) if args["verb"] == "explain" else plan_lines(problem, plan, known=numbers),
        )
        return result


def _problem(cluster: Cluster, state: LedgerState, args: t.Mapping[str, t.Any]) -> Problem:
    """The question as the planner takes it. Raises SelectError."""
    options = {name: args[name] for name in _OPTIONS if name not in ("verb", "hosts", "select")}
    options["lose"] = select_hosts(cluster, args["lose"]) if args["lose"] else []
    if args["threshold"] is not None:
        options["threshold"] = args["threshold"] / 100
    problem = ask(cluster, state, args["verb"], (), options)
    if args["verb"] in _ABOUT_GUESTS:  # one that is to be absent and never had a place is none of the planner's
        subjects = [name for name in select(cluster, args["select"]) or [] if name in problem.guests]
    elif args["hosts"] is not None:
        subjects = select_hosts(cluster, args["hosts"])
    else:
        subjects = []
    return dataclasses.replace(problem, subjects=tuple(subjects))
