# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `deploy_report`; what it says stands in plugin_utils/_deploy.py."""

from __future__ import annotations

DOCUMENTATION = r"""
name: deploy_report
short_description: What a deploy makes of the answers of its HostOSes
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Used by the playbooks of this collection.
positional: decided
options:
  _input:
    description: Results of M(oscarv.virt.guest) by HostOS, an empty mapping where there is none.
    type: dict
    required: true
  decided:
    description: The result of M(oscarv.virt.assign).
    type: dict
    required: true
  reached:
    description: Guests that were reached in this run.
    type: list
    elements: str
    default: []
  check:
    description: Whether the results are those of check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what happened
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: guest_result} | oscarv.virt.deploy_report(decided)).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(observations), what the ledger has to know of it.
    - C(expected), guests that have to answer over ssh, and C(new), those of them never reached before, by HostOS.
    - C(with_roles), guests that the roles of their partition are for. C(lines) for people. C(problems).
  type: dict
"""

import typing as t

from ..plugin_utils._deploy import deploy_report


class FilterModule:
    """Ansible's way in."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"deploy_report": deploy_report}
