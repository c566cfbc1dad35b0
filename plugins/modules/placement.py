#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: placement
short_description: Ask where guests could go
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Asks the planner a question about the cluster as definition and ledger have it. Changes nothing and records nothing.
  - The playbook C(oscarv.virt.evacuate) carries the answer out.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.ledger
options:
  verb:
    description:
      - The question. Its answer is a plan; nothing is done.
      - V(place) finds HostOSes for guests that have none. Nobody else is moved, unless O(make_room=true).
      - V(evacuate) finds for every guest of O(hosts) another HostOS, or a reason why it stays.
      - V(relieve) brings HostOSes under O(threshold) with the fewest moves.
      - V(balance) evens the load out with at most O(moves) moves.
      - V(consolidate) finds the fewest HostOSes that hold everybody.
      - V(move) says for each guest of O(select) whether it can go to O(to) within the rules.
      - V(what_if) answers O(lose), O(add) and O(fit).
      - V(explain) says for each guest of O(select) and each HostOS which rule keeps it away, or which choice it would be.
    type: str
    required: true
    choices: [place, evacuate, relieve, balance, consolidate, move, what_if, explain]
  hosts:
    description:
      - HostOSes, by name, range, glob, host partition or enclosure.
      - Needed for O(verb=evacuate). Narrows O(verb=relieve) and O(verb=consolidate).
    type: list
    elements: str
  select:
    description: Guests, as for M(oscarv.virt.assign). Needed for O(verb=explain) and O(verb=move).
    type: list
    elements: str
  to:
    description: A HostOS. Needed for O(verb=move).
    type: str
  threshold:
    description:
      - How full a HostOS may be, in percent of the fullest of vCPUs, memory and disk. Needed for O(verb=relieve).
    type: int
  moves:
    description: At most so many moves, with O(verb=balance).
    type: int
    default: 20
  make_room:
    description: With O(verb=place), whether others may be moved for a guest that has no place; the fewest are.
    type: bool
    default: false
  lose:
    description: With O(verb=what_if), HostOSes that are lost, named as in O(hosts).
    type: list
    elements: str
  add:
    description: With O(verb=what_if), HostOSes that come in addition.
    type: dict
    suboptions:
      count:
        description: How many.
        type: int
        required: true
      like:
        description: The HostOS that they are like.
        type: str
        required: true
  fit:
    description: With O(verb=what_if), how many more guests of this partition find a place.
    type: str
  moves_per_host:
    description: How many moves of one wave may have the same HostOS as source or target.
    type: int
    default: 2
  moves_total:
    description: How many moves one wave may have. No limit if not set.
    type: int
  engine:
    description:
      - With O(verb=consolidate), V(highspy) uses this Python library on the controller and is refused without it, V(pure) is
        Python alone. V(auto) takes the library if it is there.
      - The answer tells which engine gave it.
    type: str
    choices: [auto, pure, highspy]
    default: auto
seealso:
  - module: oscarv.virt.assign
  - module: oscarv.virt.guest_migrate
"""

EXAMPLES = r"""
- name: Find new places for the guests of a rack
  oscarv.virt.placement:
    verb: evacuate
    hosts: [rack1]
  register: answer
  run_once: true

- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ answer.report }}"
  run_once: true

- name: Ask why a guest is where it is
  oscarv.virt.placement:
    verb: explain
    select: [wn001]
  run_once: true
"""

RETURN = r"""
plan:
  description:
    - The answer. C(moves) with C(guest), C(source), C(target), C(wave) and C(reason); moves of one wave may run at the same
      time, waves run one after the other. C(stays) with the reason for each HostOS. C(notes).
  returned: success
  type: dict
  sample:
    engine: first-fit
    moves:
      - {guest: wn001, source: node01, target: node02, wave: 1, reason: "emptiest that fits, then 12 % full"}
    notes: []
    places: []
    stays: []
hosts:
  description: The HostOSes that O(hosts) names, in the order of the definition.
  returned: success
  type: list
  elements: str
before:
  description: The cluster in a few numbers as it is.
  returned: success
  type: dict
after:
  description: The same after the plan is carried out.
  returned: success
  type: dict
report:
  description: The answer as lines of text.
  returned: success
  type: list
  elements: str
"""
