#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Compare definition, ledger and what HostOSes show
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Gives a row for every HostOS and every guest, and for each guest what is not as it should be.
  - The playbook C(oscarv.virt.status) asks all HostOSes and prints the answer.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.ledger
options:
  observed:
    description: Results of M(oscarv.virt.guest_info) by HostOS. V(null) for one that could not be reached.
    type: dict
    required: true
  select:
    description: Only these guests, as for M(oscarv.virt.assign).
    type: list
    elements: str
seealso:
  - module: oscarv.virt.guest_info
"""

EXAMPLES = r"""
- name: Ask every HostOS
  oscarv.virt.guest_info:
    cluster: "{{ oscarv_cluster }}"
  register: seen
  ignore_unreachable: true

- name: Compare
  oscarv.virt.status_info:
    observed: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'seen'))) }}"
  register: status
  run_once: true
"""

RETURN = r"""
hosts:
  description: For each HostOS its C(state), number of C(guests) and C(foreign) guests, what is C(used), and C(notes).
  returned: success
  type: list
  elements: dict
guests:
  description: For each guest C(host), C(state) as it was seen, C(address), C(epoch) and C(drift), a list of words.
  returned: success
  type: list
  elements: dict
  sample:
    - guest: wn001
      partition: workers
      host: node01
      state: stopped
      address: 10.0.4.21
      epoch: 3
      drift: ["is stopped, wanted running"]
drifting:
  description: How many guests and HostOSes there is something to say about.
  returned: success
  type: int
report:
  description: The same as lines of text.
  returned: success
  type: list
  elements: str
"""
