# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens vaulted values of specs on their way into the module `guest`, so that no registered variable ever has them."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._assign_result import unsealed
from ..plugin_utils._definition_vault import VaultError, reveal


class ActionModule(ActionBase):
    """Everything else is the module's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        specs, secret = unsealed(args.get("specs"))
        if secret:
            args["specs"] = self._open(specs)
        result.update(self._execute_module(module_name="oscarv.virt.guest", module_args=args, task_vars=task_vars))
        if secret:
            result.pop("invocation", None)
        return result

    def _open(self, specs: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
        opened = []
        for spec in specs:
            try:
                opened.append(reveal(spec, self._loader._vault.decrypt, f"guest {spec.get('name')}"))
            except VaultError as error:
                raise AnsibleActionFail(f"{error}; give the vault password, e.g. with --vault-password-file") from error
        return opened
