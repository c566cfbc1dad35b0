#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_wait
short_description: Wait until guests answer over ssh with the host key that is known of them
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Waits for many guests at once. Each is tried by a TCP connection, and when that succeeds by C(ssh ... true).
  - The host key is verified by ssh against the one in the ledger. Nothing is ever accepted on first use, and no
    known_hosts file is read or written.
  - Guests that do not answer in time are named at the end, each with the reason - no answer, another host key, or a login
    that is refused. A wrong host key ends the waiting for that guest after half a minute.
  - Returns at once in check mode.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.ledger
options:
  guests:
    description:
      - Names of guests, or mappings with C(name), C(address), C(host_key), C(user) and C(port). What is left out comes from
        the ledger and from the guest's variables C(ansible_user), C(ansible_port), C(ansible_ssh_private_key_file) and
        C(ansible_ssh_extra_args).
    type: list
    elements: raw
    required: true
  wait_timeout:
    description: Seconds for all of them together.
    type: int
    default: 600
  wait_sleep:
    description: Seconds between two tries of one guest.
    type: float
    default: 1
  parallel:
    description: How many ssh connections are made at the same time.
    type: int
    default: 16
  missing_ok:
    description: Whether guests that do not answer are listed in RV(missing) instead of failing the task.
    type: bool
    default: false
requirements:
  - OpenSSH 8.5 or newer (on the controller)
seealso:
  - module: oscarv.virt.guest
"""

EXAMPLES = r"""
- name: Wait for two guests
  oscarv.virt.guest_wait:
    guests: [wn001, wn002]
    wait_timeout: 300
  run_once: true
"""

RETURN = r"""
guests:
  description: For each guest C(reached), C(seconds), C(attempts) and C(msg), and C(problem) if it was not reached.
  returned: always
  type: dict
  sample:
    wn001: {name: wn001, reached: true, seconds: 31.4, attempts: 17, msg: "answers on 10.0.4.21 with its host key"}
missing:
  description: Guests that did not answer, with the reason.
  returned: always
  type: dict
reached:
  description: The names of those that answered.
  returned: always
  type: list
  elements: str
"""
