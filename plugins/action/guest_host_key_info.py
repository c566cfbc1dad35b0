# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `guest_host_key_info`; documented in plugins/modules/guest_host_key_info.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._context import ARGUMENTS, plain
from ..plugin_utils._targets import read_targets
from ..plugin_utils._wait import run_on

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "guests": {"type": "list", "elements": "raw", "required": True},
    "missing_ok": {"type": "bool", "default": False},
    "parallel": {"type": "int", "default": 16},
}
_PATH = "/etc/ssh/ssh_host_ed25519_key"
_HEAD = "-----BEGIN OPENSSH PRIVATE KEY-----"


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, validated = self.validate_argument_spec(argument_spec={**ARGUMENTS, **_OPTIONS})
        args = plain(validated)
        result.update(changed=False, private_keys={}, missing={})
        if not args["guests"]:
            return result
        targets, result["missing"] = read_targets(self, args["guests"], task_vars or {})
        command = f"cat {_PATH} || sudo -n cat {_PATH}"
        for name, (text, problem) in run_on(targets, command, args["parallel"]).items():
            if text is not None and text.startswith(_HEAD):
                result["private_keys"][name] = text
            else:
                result["missing"][name] = problem or f"{_PATH} is not a private key"
        if result["missing"] and not args["missing_ok"]:
            # Raised before any key is in a result: what is shown of a failed task has no secret.
            lines = [f"  {name}: {problem}" for name, problem in result["missing"].items()]
            raise AnsibleActionFail("\n".join(["the private host key of these guests could not be read:", *lines]))
        result["_ansible_no_log"] = True
        return result
