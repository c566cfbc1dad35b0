# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `guest_wait`; documented in plugins/modules/guest_wait.py. It waits by plugin_utils/_wait.py."""

from __future__ import annotations

import shlex
import shutil
import typing as t

from ansible import constants, context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._assign_result import guests_of
from ..plugin_utils._context import ARGUMENTS, failing, open_context, plain
from ..plugin_utils._ledger_changes import HOST_KEY
from ..plugin_utils._wait import Target, wait_for
from ..plugin_utils._words import counted

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "guests": {"type": "list", "elements": "raw", "required": True},
    "wait_timeout": {"type": "int", "default": 600},
    "wait_sleep": {"type": "float", "default": 1},
    "parallel": {"type": "int", "default": 16},
}
#: What a guest may be given as; the rest comes from the ledger and the inventory.
_KEYS = ("name", "address", "host_key", "user", "port")


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _, validated = self.validate_argument_spec(argument_spec={**ARGUMENTS, **_OPTIONS})
        args = plain(validated)
        for name in ("wait_timeout", "wait_sleep", "parallel"):
            if args[name] <= 0:
                raise AnsibleActionFail(f"{name}: found {args[name]}; allowed: more than 0")
        result.update(changed=False, guests={}, reached=[])
        if self._task.check_mode or not args["guests"]:
            return result
        if shutil.which("ssh") is None:
            raise AnsibleActionFail("ssh is not there: install OpenSSH's client on the controller")
        targets = self._targets(args["guests"], task_vars or {})
        answers = wait_for(targets, timeout=args["wait_timeout"], sleep=args["wait_sleep"], parallel=args["parallel"])
        result["guests"] = {answer.name: answer.plain() for answer in answers}
        result["reached"] = [answer.name for answer in answers if answer.reached]
        lost = [answer for answer in answers if not answer.reached]
        if lost:
            lines = [f"  {answer.name}: {answer.msg} (tried {answer.seconds:.0f} s)" for answer in lost]
            result["failed"] = True
            result["msg"] = "\n".join([f"{counted(len(lost), 'guest')} of {len(answers)} did not answer:", *lines])
        return result

    def _targets(self, given: t.Sequence[t.Any], variables: dict[str, t.Any]) -> list[Target]:
        """Read all, fill up from the ledger and the inventory, complain about all at once."""
        wishes = [item if isinstance(item, dict) else {"name": item} for item in given]
        known: dict[str, dict[str, t.Any]] = {}
        if any(not wish.get("address") or not wish.get("host_key") for wish in wishes):
            ctx = open_context(self, variables)
            with failing():
                known = guests_of(ctx.cluster, ctx.ledger.state())
        errors: list[str] = []
        targets = [self._target(wish, known, variables, errors) for wish in wishes]
        if errors:
            raise AnsibleActionFail("\n".join(errors))
        return [target for target in targets if target]

    def _target(
        self,
        wish: dict[str, t.Any],
        known: dict[str, dict[str, t.Any]],
        variables: dict[str, t.Any],
        errors: list[str],
    ) -> Target | None:
        name = str(wish.get("name") or "")
        unknown = sorted(set(wish) - set(_KEYS))
        if not name or unknown:
            errors.append(f"guests: expected a name, or a mapping with {', '.join(_KEYS)}; found {wish!r}")
            return None
        row = known.get(name, {})
        address, host_key = wish.get("address") or row.get("address"), wish.get("host_key") or row.get("host_key")
        if not address:
            errors.append(f"guest {name}: it has no address in the ledger: run oscarv.virt.deploy")
        if not host_key or not HOST_KEY.match(str(host_key)):
            errors.append(f"guest {name}: no ssh-ed25519 host key is recorded for it: run oscarv.virt.deploy")
        if not address or not host_key:
            return None
        own = _inventory_of(name, variables)
        arguments = shlex.split(str(own.get("ansible_ssh_extra_args") or ""))
        key = own.get("ansible_ssh_private_key_file") or context.CLIARGS.get("private_key_file")
        key = key or constants.DEFAULT_PRIVATE_KEY_FILE
        arguments += ["-i", str(key)] if key else []
        return Target(
            name=name,
            address=str(address),
            host_key=str(host_key),
            user=str(wish.get("user") or own.get("ansible_user") or "root"),
            port=int(wish.get("port") or own.get("ansible_port") or 22),
            arguments=tuple(arguments),
            probe="Proxy" not in str(own.get("ansible_ssh_extra_args") or ""),
        )


def _inventory_of(name: str, variables: dict[str, t.Any]) -> t.Mapping[str, t.Any]:
    """The guest's own variables, templated; empty where it is not in the inventory."""
    hostvars = variables.get("hostvars") or {}
    if name not in hostvars:
        return {}
    own: t.Mapping[str, t.Any] = hostvars[name]
    return own
