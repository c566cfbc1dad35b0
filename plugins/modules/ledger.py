#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger
short_description: Record in the ledger of a virtual cluster what was seen and done
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - The ledger holds what was decided and what was seen - guests, their NICs, HostOSes, builds, host keys, moves in flight
    and the history of all changes.
  - M(oscarv.virt.assign) records what it decides by itself; this action records the rest. The playbooks of this
    collection call it where it is needed.
  - Every operation is decided inside one exclusive transaction and recorded as a whole, or not at all. Any number of runs
    may work on one ledger at the same time.
  - In check mode nothing is written and no file is created; the result is what a real run would give.
  - SQLite is refused under AWX, where every job would have a ledger of its own; use PostgreSQL there.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.ledger
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the rows that change, before and after, with only the fields that differ.
  idempotent:
    support: partial
    details:
      - O(operation=begin_moves) refuses to begin a move of a guest that has one in flight.
      - All other operations change nothing the second time.
options:
  operation:
    description:
      - What to do.
      - V(observe) records the state of guests as HostOSes answered, and their host keys. A guest that left the definition
        (C(leaving)) becomes C(released) when the HostOS where the ledger has it proves its absence, that is by its
        complete list without the guest, or by having removed it. Its addresses then rest for C(quarantine).
        Any other guest that is not where it should be becomes C(absent) and keeps its addresses.
      - V(record_host) records what M(oscarv.virt.hostos_info) measured.
      - V(record_build) records a finished image. V(record_host_build) records on which HostOSes builds lie verified.
      - V(first_contact) records that guests were reached with their host keys verified.
      - V(begin_moves) records the intent to move guests, all or none, and gives each move its id and epoch.
        V(end_move) records what became of moves.
      - V(settle) decides from observations of all HostOSes what became of moves that nobody finished, and records it.
      - V(fence) records the operator's word that a HostOS is off and stays off until V(unfence).
      - V(maintenance) closes a HostOS for new guests, with O(reason), or opens it again, without.
      - V(release) releases leaving guests of fenced HostOSes and those that never had a HostOS.
      - V(export) and V(import) write and read the whole ledger of the cluster as one JSON document.
      - V(upgrade) brings the tables of an older version of this collection to this one. Make a backup first.
      - V(rebuild) makes a lost ledger again from the marks that the guests carry.
    type: str
    required: true
    choices:
      - observe
      - record_host
      - record_build
      - record_host_build
      - first_contact
      - begin_moves
      - end_move
      - settle
      - fence
      - unfence
      - maintenance
      - release
      - rebuild
      - export
      - import
      - upgrade
  host:
    description:
      - The HostOS. For O(operation=observe), O(operation=record_host), O(operation=record_host_build),
        O(operation=fence), O(operation=unfence) and O(operation=maintenance).
    type: str
  guests:
    description:
      - For O(operation=observe) with O(host), RV(oscarv.virt.guest#module:guests) or
        RV(oscarv.virt.guest_info#module:guests).
      - For O(operation=first_contact) and O(operation=release), a list of names. O(operation=release) without it releases
        every guest that can be.
    type: raw
  complete:
    description:
      - For O(operation=observe) with O(host), whether O(guests) is everything of ours on the HostOS, so that a guest which
        is not in it is not there.
      - If not set, a list by UUID, as M(oscarv.virt.guest_info) gives it, is complete unless it is empty, and one by name,
        as M(oscarv.virt.guest) gives it, is not.
    type: bool
  pruned:
    description: For O(operation=observe) with O(host), RV(oscarv.virt.guest#module:pruned).
    type: list
    elements: dict
  foreign:
    description:
      - Accepted so that the whole result of M(oscarv.virt.guest_info) may be passed. What foreign guests use is recorded by
        O(operation=record_host).
    type: list
    elements: dict
  observations:
    description:
      - For O(operation=observe), O(operation=settle) and O(operation=rebuild), the whole results of
        M(oscarv.virt.guest_info) (or for V(observe) of M(oscarv.virt.guest)) by HostOS. V(null) for a HostOS that could
        not be reached.
    type: dict
  info:
    description: For O(operation=record_host), the result of M(oscarv.virt.hostos_info) on O(host).
    type: dict
  infos:
    description: For O(operation=record_host), results of M(oscarv.virt.hostos_info) by HostOS.
    type: dict
  build:
    description:
      - For O(operation=record_build), the build with the keys C(build_id), C(image), C(recipe_id), C(size), C(virtual_size)
        (bytes), and optionally C(url), C(created) and C(manifest).
    type: dict
  build_ids:
    description: For O(operation=record_host_build), what lies verified on O(host).
    type: list
    elements: str
  host_builds:
    description: For O(operation=record_host_build), lists of build_ids by HostOS.
    type: dict
  exact:
    description: For O(operation=record_host_build), nothing but what is given lies there; other builds are forgotten.
    type: bool
    default: false
  moves:
    description:
      - For O(operation=begin_moves), a list of mappings with C(guest), C(target), and optionally C(mode) (V(live) or
        V(cold), by default V(live)) and C(source), where the guest is believed to be.
      - For O(operation=end_move), a list of mappings with C(id), C(outcome) and optionally C(message), to end several.
    type: list
    elements: dict
  id:
    description: For O(operation=end_move), the move.
    type: str
  outcome:
    description:
      - For O(operation=end_move). V(committed) puts the guest on the target with the move's epoch, V(aborted) leaves it
        where it was; the epoch is used up either way.
    type: str
    choices: [committed, aborted]
  message:
    description: For O(operation=end_move), a word for the history.
    type: str
  resolve:
    description:
      - For O(operation=settle), the operator's word on moves that cannot be decided, a mapping from guest to the HostOS
        whose copy is the right one. Refused while the other copy runs.
    type: dict
  record:
    description:
      - With V(false) nothing is recorded and the task never reports a change. For O(operation=settle), to clean up on the
        HostOSes before the ledger is told.
    type: bool
    default: true
  reason:
    description: For O(operation=maintenance), why; without it the maintenance is over.
    type: str
  fenced:
    description: For O(operation=rebuild), HostOSes that cannot answer because they are off for good.
    type: list
    elements: str
  path:
    description: For O(operation=export) and O(operation=import), a file on the controller, relative to the playbook.
    type: path
  document:
    description: For O(operation=import), the document itself instead of O(path).
    type: dict
  replace:
    description:
      - For O(operation=import), overwrite the rows that the ledger has of this cluster. History is added to, never
        replaced.
    type: bool
    default: false
seealso:
  - module: oscarv.virt.ledger_info
  - module: oscarv.virt.assign
"""

EXAMPLES = r"""
- name: Record what all HostOSes show, in one task
  oscarv.virt.ledger:
    operation: observe
    observations: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'guest_info_result'))) }}"
  run_once: true

- name: Say that a HostOS is off for good, so that its guests may come up elsewhere
  oscarv.virt.ledger:
    operation: fence
    host: node07
  run_once: true

- name: Close a HostOS for new guests
  oscarv.virt.ledger:
    operation: maintenance
    host: node03
    reason: memory is exchanged on Monday
  run_once: true

- name: Record the intent to move a guest
  oscarv.virt.ledger:
    operation: begin_moves
    moves:
      - guest: wn001
        target: node02
        mode: live
  register: begun
  run_once: true

- name: Make a backup
  oscarv.virt.ledger:
    operation: export
    path: /var/backups/tcd-ledger.json
  run_once: true
"""

RETURN = r"""
revision:
  description: Of the ledger after the task; grows by one with every transaction that changed something.
  returned: all operations but V(export), V(import) and V(upgrade)
  type: int
  sample: 42
states:
  description: New states of the guests whose state changed.
  returned: operation=observe
  type: dict
  sample: {wn001: running}
released:
  description: Guests whose addresses rest from now on.
  returned: operation=observe or operation=release
  type: list
  elements: str
host_keys:
  description: Guests whose host key is new or has changed.
  returned: operation=observe
  type: list
  elements: str
stale:
  description: Copies of guests that are not what the ledger means, each with RV(ignore:reason).
  returned: operation=observe or operation=rebuild
  type: list
  elements: dict
unknown:
  description: Guests that carry our mark but are not in the ledger.
  returned: operation=observe
  type: list
  elements: dict
hosts:
  description: HostOSes whose row changed.
  returned: operation=record_host
  type: list
  elements: str
moves:
  description: The moves that were begun or ended.
  returned: operation=begin_moves or operation=end_move
  type: list
  elements: dict
  sample:
    - id: 0d1c9a3e-52ab-4b7e-8b43-2b8b3f1b8a55
      guest: wn001
      uuid: 6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11
      source: node01
      target: node02
      mode: live
      epoch_from: 1
      epoch_to: 2
      state: in_flight
decisions:
  description:
    - One per move in flight, with RV(ignore:decision) (V(commit), V(abort), V(wait), V(leave) or V(riddle)),
      RV(ignore:reason) and RV(ignore:cleanup).
  returned: operation=settle
  type: list
  elements: dict
cleanup:
  description:
    - What HostOSes have to clean up, in this order, for O(oscarv.virt.guest_migrate#module:settle). Each has C(host),
      C(action) (V(write_tombstone), V(undefine), V(accept), V(remove_leftovers) or V(drop_tombstone)), C(uuid), C(guest),
      C(epoch) and C(move).
  returned: operation=settle or operation=rebuild
  type: list
  elements: dict
cleanup_rounds:
  description:
    - RV(cleanup) in rounds. All HostOSes may do their share of a round at the same time, one round after the other.
  returned: operation=settle
  type: list
  elements: list
refused:
  description: Guests that must not be touched until their move is decided.
  returned: operation=settle
  type: list
  elements: str
waiting:
  description: Those of RV(refused) that only need time, because a job is active.
  returned: operation=settle
  type: list
  elements: str
riddles:
  description: What an operator has to look at.
  returned: operation=settle
  type: list
  elements: str
guests:
  description: Guests that were added, recorded, or that are on the fenced HostOS.
  returned: operation=rebuild, operation=first_contact or operation=fence
  type: list
  elements: str
known:
  description: Guests that the ledger had already.
  returned: operation=rebuild
  type: list
  elements: str
document:
  description: The whole ledger of the cluster.
  returned: operation=export without O(path)
  type: dict
schema_before:
  description: Version of the tables before; V(null) where there is no ledger yet.
  returned: operation=upgrade
  type: int
schema_after:
  description: Version of the tables after.
  returned: operation=upgrade
  type: int
"""
