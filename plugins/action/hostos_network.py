# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `hostos_network`: reach the machine again after its network has changed, and say so.

Change and confirmation are one task, because a play waits for its slowest host between two: one machine that cannot be
reached would let the time of all others run out.
"""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

#: Seconds beyond the roll-back's own: then there is always an answer, and it says what happened.
GRACE = 60
PAUSE = 1.0


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        found = self.ask("apply", task_vars)
        pending = found.pop("pending", False)
        result.update(found)
        if pending:
            kept = self.confirm(float(self._task.args.get("rollback_timeout", 60)) + GRACE, task_vars)
            if kept.get("failed"):
                result.update(failed=True, msg=kept.get("msg", "the new network configuration was not kept"))
        return result

    def ask(self, step: str, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        arguments = {**self._task.args, "step": step}
        answer: dict[str, t.Any] = self._execute_module(
            module_name="oscarv.virt.hostos_network", module_args=arguments, task_vars=task_vars
        )
        return answer

    def confirm(self, timeout: float, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        """Confirm over a new connection. The old one would be no proof: it may live on a neighbour's stale address."""
        deadline = time.monotonic() + timeout
        while True:
            self.forget_connection()
            try:
                answer = self.ask("confirm", task_vars)
                if not answer.get("retry"):
                    return answer
                if time.monotonic() > deadline:
                    return {
                        "failed": True,
                        "msg": "the machine never made the change; what it prepared is taken back",
                    }
            except AnsibleConnectionFailure as error:
                if time.monotonic() > deadline:
                    raise
                display.vvv(f"not reached yet: {error}")
            time.sleep(PAUSE)

    def forget_connection(self) -> None:
        try:
            self._connection.reset()
        except (AttributeError, NotImplementedError):  # a connection that is not kept
            self._connection.close()
