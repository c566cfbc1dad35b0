# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `guest_wait`; documented in plugins/modules/guest_wait.py. It waits by plugin_utils/_wait.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._context import ARGUMENTS, plain
from ..plugin_utils._targets import read_targets
from ..plugin_utils._wait import wait_for
from ..plugin_utils._words import counted

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "guests": {"type": "list", "elements": "raw", "required": True},
    "wait_timeout": {"type": "int", "default": 600},
    "wait_sleep": {"type": "float", "default": 1},
    "parallel": {"type": "int", "default": 16},
    "missing_ok": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, validated = self.validate_argument_spec(argument_spec={**ARGUMENTS, **_OPTIONS})
        args = plain(validated)
        for name in ("wait_timeout", "wait_sleep", "parallel"):
            if args[name] <= 0:
                raise AnsibleActionFail(f"{name}: found {args[name]}; allowed: more than 0")
        result.update(changed=False, guests={}, reached=[], missing={})
        if self._task.check_mode or not args["guests"]:
            return result
        targets, errors = read_targets(self, args["guests"], task_vars or {})
        if errors:
            raise AnsibleActionFail("\n".join(f"guest {name}: {error}" for name, error in errors.items()))
        answers = wait_for(targets, timeout=args["wait_timeout"], sleep=args["wait_sleep"], parallel=args["parallel"])
        result["guests"] = {answer.name: answer.plain() for answer in answers}
        result["reached"] = [answer.name for answer in answers if answer.reached]
        missing = {a.name: f"{a.msg} (tried {a.seconds:.0f} s)" for a in answers if not a.reached}
        result["missing"] = missing
        if missing:
            lines = [f"  {name}: {text}" for name, text in missing.items()]
            result["msg"] = "\n".join([f"{counted(len(missing), 'guest')} of {len(answers)} did not answer:", *lines])
            result["failed"] = not args["missing_ok"]
        return result
