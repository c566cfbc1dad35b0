# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `status_info`; documented in plugins/modules/status_info.py. It compares by plugin_utils/_status.py."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._context import ARGUMENTS, failing, open_context, plain
from ..plugin_utils._select import SelectError, select
from ..plugin_utils._status import status, status_lines

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "observed": {"type": "dict", "required": True},
    "select": {"type": "list", "elements": "str"},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, validated = self.validate_argument_spec(argument_spec={**ARGUMENTS, **_OPTIONS})
        args = plain(validated)
        ctx = open_context(self, task_vars)
        with failing():
            state = ctx.ledger.state()
            known = [row.name for row in state.guests.values() if row.state != "released"]
            try:
                selected = select(ctx.cluster, args["select"], known)
            except SelectError as error:
                raise AnsibleActionFail(str(error)) from error
            found = status(ctx.cluster, state, args["observed"], selected)
        result.update(
            changed=False,
            hosts=[dataclasses.asdict(host) for host in found.hosts],
            guests=[dataclasses.asdict(guest) for guest in found.guests],
            drifting=found.drifting,
            report=status_lines(ctx.cluster, state, found),
        )
        return result
