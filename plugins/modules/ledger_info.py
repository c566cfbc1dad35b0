#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_info
short_description: Read the ledger of a virtual cluster
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Reads what was decided and what was seen. Creates nothing; where there is no ledger yet, everything is empty.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.ledger
options:
  subset:
    description: What to read.
    type: list
    elements: str
    choices: [guests, hosts, moves, builds, history]
    default: [guests, hosts, moves, builds]
  subject:
    description: Only history of this guest or HostOS, and of these only the rows, moves included.
    type: str
  what:
    description: Only history of this kind, for example V(assign), V(commit) or V(release).
    type: str
  limit:
    description: At most this many rows of history, the newest ones.
    type: int
    default: 100
  all_moves:
    description: Moves that are over too, not only those in flight.
    type: bool
    default: false
seealso:
  - module: oscarv.virt.ledger
"""

EXAMPLES = r"""
- name: Read who did what to a guest
  oscarv.virt.ledger_info:
    subset: [history]
    subject: wn001
    limit: 20
  register: history
  run_once: true

- name: Read which moves are in flight
  oscarv.virt.ledger_info:
    subset: [moves]
  register: ledger
  run_once: true
"""

RETURN = r"""
url:
  description: Where the ledger is; never with a password.
  returned: always
  type: str
  sample: sqlite:////srv/clusters/tcd/.oscarv/ledger.sqlite
exists:
  description: Whether there is a ledger.
  returned: always
  type: bool
revision:
  description: Grows by one with every transaction that changed something.
  returned: always
  type: int
guests:
  description: Every guest with its row, its C(nics), its C(host_key) and its C(move) in flight. Released guests included.
  returned: if in O(subset)
  type: list
  elements: dict
hosts:
  description: Every HostOS with what was measured, C(maintenance), C(fenced) and the C(builds) that lie there.
  returned: if in O(subset)
  type: list
  elements: dict
moves:
  description: Moves in flight, or all, oldest first.
  returned: if in O(subset)
  type: list
  elements: dict
builds:
  description: Every build that was recorded.
  returned: if in O(subset)
  type: list
  elements: dict
history:
  description: Newest first, each with C(at), C(who), C(job), C(what), C(subject) and C(why).
  returned: if in O(subset)
  type: list
  elements: dict
  sample:
    - at: "2026-11-20T23:42:29+00:00"
      who: alice
      job: null
      what: commit
      subject: wn001
      why: node01 to node02, move 0d1c9a3e-52ab-4b7e-8b43-2b8b3f1b8a55
"""
