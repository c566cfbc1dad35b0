#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: assign
short_description: Decide and record which guest runs where and with which addresses
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Loads the definition and the ledger, decides about every guest that is new, was renamed, came back or left, records the
    decisions in one transaction and returns what each HostOS has to be told.
  - Always decides about the whole definition. C(--limit) and O(select) narrow what is done afterwards, never what is decided.
  - What is recorded is never decided again. A guest keeps its UUID, HostOS, build, MACs and addresses until it is moved,
    rebuilt or released.
  - A new guest gets a random UUID, the HostOS that the planner chose, the newest build of its image, and for each NIC a MAC
    (C(52) and five bytes of a hash of cluster, guest and network) and the lowest free address of each family.
  - A guest that no HostOS can take within the rules keeps its addresses and is listed in C(stays) of RV(plan) with the reason for
    each HostOS. That is no failure of this action; the playbook C(oscarv.virt.deploy) fails at its end.
  - A guest that left the definition becomes C(leaving). Nothing of it is given to others before its HostOS has proved its
    absence, see M(oscarv.virt.ledger).
  - Run it once, in the play of the HostOSes.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.ledger
attributes:
  check_mode:
    support: full
    details:
      - HostOSes, MACs and addresses are exactly those that a run right afterwards records. Only UUIDs are random.
  diff_mode:
    support: full
    details:
      - Shows each guest that changes, before and after.
  idempotent:
    support: full
options:
  select:
    description:
      - Which guests something will be done to. A list of names, ranges (C(wn[001:010])), globs (C(wn0*)) and partitions;
        an item that starts with C(!) takes away again.
      - Narrows nothing that is decided, except O(rebuild) and O(recreate).
    type: list
    elements: str
  confirm:
    description:
      - The name of the cluster, as consent to O(teardown) or to more guests leaving at once than C(max_release) allows.
    type: str
  fenced:
    description:
      - HostOSes that the operator says are off and will stay off. It is recorded, until V(unfence) of M(oscarv.virt.ledger).
      - Their guests with all disks on shared pools are placed elsewhere, with a new epoch.
    type: list
    elements: str
    default: []
  recreate:
    description:
      - Consent to make guests of fenced HostOSes again elsewhere, empty, when they have disks on local pools.
    type: bool
    default: false
  rebuild:
    description:
      - Give the guests of O(select) the newest build of their image, and their specs the consent to replace the root disk.
      - They keep UUID, HostOS, MACs, addresses and data disks.
    type: bool
    default: false
  teardown:
    description: All guests leave. The returned specs say that they are to be absent.
    type: bool
    default: false
  need_builds:
    description: Whether an image without a build is refused. With V(false) it is noted, which is enough to show a plan.
    type: bool
    default: true
  observed:
    description:
      - What HostOSes showed, results of M(oscarv.virt.guest_info) by HostOS. V(null) for one that could not be reached.
      - With it RV(prunable) also names stale copies, and addresses of NICs that were taken from a guest begin to rest.
    type: dict
seealso:
  - module: oscarv.virt.placement
  - module: oscarv.virt.guest
"""

EXAMPLES = r"""
- name: Decide and record
  oscarv.virt.assign:
  register: decided
  run_once: true

- name: Bring this HostOS's guests into their wished state
  oscarv.virt.guest:
    cluster: "{{ oscarv_cluster }}"
    specs: "{{ decided.specs[inventory_hostname] }}"

- name: Show what would be decided, without recording anything
  oscarv.virt.assign:
    need_builds: false
  check_mode: true
  register: decided
  run_once: true
"""

RETURN = r"""
specs:
  description:
    - For each HostOS the specs of all its guests, see M(oscarv.virt.guest). Vaulted values of C(cloud_init) stay encrypted
      in them; M(oscarv.virt.guest) opens them.
  returned: success
  type: dict
builds:
  description: For each HostOS the builds that must lie there before its guests are made.
  returned: success
  type: dict
  sample:
    node01:
      - build_id: 5e2ac4...
        image: debian-worker
        kernel: {}
        path: /var/lib/oscarv/builds/5e2ac4....qcow2
        pool: local
        size: 230686720
        url: http://192.0.2.1:8080/5e2ac4....qcow2
        verified: false
prunable:
  description: For each HostOS the guests that may be removed there, with C(name), C(uuid) and C(epoch).
  returned: success
  type: dict
selected:
  description: The names that O(select) selects; V(null) without it.
  returned: success
  type: list
  elements: str
plan:
  description:
    - What the planner answered. C(places) of new guests, C(moves) (none here), C(stays) with reasons, C(notes).
  returned: success
  type: dict
report:
  description: The plan as lines of text, with the cluster before and after.
  returned: success
  type: list
  elements: str
guests:
  description:
    - Every guest that was not released, by name, with C(uuid), C(partition), C(host), C(state), C(wanted), C(address),
      C(host_key), C(first_contact) and C(build_id).
  returned: success
  type: dict
revision:
  description: The ledger's revision; it grows by one with every transaction that changed something.
  returned: success
  type: int
"""
