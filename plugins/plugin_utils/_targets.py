# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How guests are reached over ssh: from what a task says, the ledger, and the inventory."""

from __future__ import annotations

import shlex
import shutil
import typing as t

from ansible import constants, context
from ansible.errors import AnsibleActionFail

from ._assign_result import guests_of
from ._context import failing, open_context
from ._ledger_changes import HOST_KEY
from ._wait import Target

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

#: What a guest may be given as; the rest comes from the ledger and the inventory.
KEYS = ("name", "address", "host_key", "user", "port")


def read_targets(
    action: ActionBase, given: t.Sequence[t.Any], variables: dict[str, t.Any]
) -> tuple[list[Target], dict[str, str]]:
    """Read all, fill up from the ledger and the inventory; and what is wrong, by guest."""
    if shutil.which("ssh") is None:
        raise AnsibleActionFail("ssh is not there: install OpenSSH's client on the controller")
    wishes = [item if isinstance(item, dict) else {"name": item} for item in given]
    known: dict[str, dict[str, t.Any]] = {}
    if any(not wish.get("address") or not wish.get("host_key") for wish in wishes):
        ctx = open_context(action, variables)
        with failing():
            known = guests_of(ctx.cluster, ctx.ledger.state())
    targets: list[Target] = []
    errors: dict[str, str] = {}
    for wish in wishes:
        name = str(wish.get("name") or "")
        if not name or set(wish) - set(KEYS):
            raise AnsibleActionFail(f"guests: expected a name, or a mapping with {', '.join(KEYS)}; found {wish!r}")
        row = known.get(name, {})
        address, host_key = wish.get("address") or row.get("address"), wish.get("host_key") or row.get("host_key")
        if not address:
            errors[name] = "it has no address in the ledger: run oscarv.virt.deploy"
        elif not host_key or not HOST_KEY.match(str(host_key)):
            errors[name] = "no ssh-ed25519 host key is recorded for it: run oscarv.virt.deploy"
        else:
            targets.append(_target(name, str(address), str(host_key), wish, _inventory_of(name, variables)))
    return targets, errors


def _target(name: str, address: str, host_key: str, wish: t.Mapping[str, t.Any], own: t.Mapping[str, t.Any]) -> Target:
    more = str(own.get("ansible_ssh_extra_args") or "")
    key = own.get("ansible_ssh_private_key_file") or context.CLIARGS.get("private_key_file")
    key = key or constants.DEFAULT_PRIVATE_KEY_FILE
    return Target(
        name=name,
        address=address,
        host_key=host_key,
        user=str(wish.get("user") or own.get("ansible_user") or "root"),
        port=int(wish.get("port") or own.get("ansible_port") or 22),
        arguments=tuple(shlex.split(more) + (["-i", str(key)] if key else [])),
        probe="Proxy" not in more,
    )


def _inventory_of(name: str, variables: dict[str, t.Any]) -> t.Mapping[str, t.Any]:
    """The guest's own variables, templated; empty where it is not in the inventory."""
    hostvars = variables.get("hostvars") or {}
    if name not in hostvars:
        return {}
    own: t.Mapping[str, t.Any] = hostvars[name]
    return own
