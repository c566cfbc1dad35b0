#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_host_key_info
short_description: Read the private ssh host keys of guests
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Reads C(/etc/ssh/ssh_host_ed25519_key) of many guests at once, over ssh connections whose host key is verified against the
    ledger. The playbook C(oscarv.virt.rebuild) gives the keys back to the guests that it makes anew.
  - The result is never shown.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.ledger
options:
  guests:
    description: Names of guests, or mappings, as for M(oscarv.virt.guest_wait).
    type: list
    elements: raw
    required: true
  missing_ok:
    description: Whether guests that cannot be reached are listed in RV(missing) instead of failing the task.
    type: bool
    default: false
  parallel:
    description: How many ssh connections are made at the same time.
    type: int
    default: 16
requirements:
  - OpenSSH 8.5 or newer (on the controller)
"""

EXAMPLES = r"""
- name: Read the keys of guests that will be made anew
  oscarv.virt.guest_host_key_info:
    guests: [wn001]
  register: host_keys
  run_once: true
"""

RETURN = r"""
private_keys:
  description: Private keys by guest, in OpenSSH's format.
  returned: always
  type: dict
missing:
  description: Guests whose key could not be read, with the reason.
  returned: always
  type: dict
"""
