# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `per_host`: one variable of many hosts, for a task that runs once for all of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: per_host
short_description: One variable of many hosts, by host
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Gives a mapping from host to the value that a variable has there, for a task that runs once for all hosts of a play.
  - Hosts where the variable is not defined are left out, unless O(default) is given.
positional: hosts, variable
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts.
    type: list
    elements: str
    required: true
  variable:
    description: Name of the variable. A dot leads into it, C(registered.guests).
    type: str
    required: true
  default:
    description: The value for hosts where it is not defined.
    type: raw
"""

EXAMPLES = r"""
- name: Record what all HostOSes show, in one task
  oscarv.virt.ledger:
    operation: observe
    observations: "{{ hostvars | oscarv.virt.per_host(ansible_play_hosts, 'guest_info_result') }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The values by host.
  type: dict
"""

import typing as t

_NOTHING = object()


def per_host(hostvars: t.Any, hosts: t.Sequence[str], variable: str, default: t.Any = _NOTHING) -> dict[str, t.Any]:
    """{host: value}; a host without the variable is left out, or gets `default`."""
    found = {}
    for host in hosts:
        value = _inside(hostvars.get(host, {}), variable.split("."))
        if value is _NOTHING:
            value = default
        if value is not _NOTHING:
            found[host] = value
    return found


def _inside(value: t.Any, keys: t.Sequence[str]) -> t.Any:
    for key in keys:
        if not isinstance(value, t.Mapping) or key not in value:
            return _NOTHING
        value = value[key]
    return value


class FilterModule:
    """Ansible's way in."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"per_host": per_host}
