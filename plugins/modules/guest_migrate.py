#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves guests away from the HostOS on which it runs. What it does stands in module_utils/_kvm_move*.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_migrate
short_description: Move guests from this HostOS to others and prove that each runs exactly once
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Runs on the HostOS that guests leave. It reaches the targets through libvirt over TLS; it needs no shell there.
  - The playbooks C(oscarv.virt.migrate) and C(oscarv.virt.evacuate) record the intent in the ledger, call this module and
    record the outcome. Use them, unless you do that yourself.
  - Everything that speaks against a move is looked for on both sides first. A move that is refused has changed nothing.
  - Before a move acts it leaves a tombstone here, so that a stale run of M(oscarv.virt.guest) cannot start a second copy.
  - A live move copies memory and local disks while the guest runs, both encrypted. Of an overlay only what differs from
    the build is copied; the build must be on the target. Disks on shared pools are not copied.
  - A cold move copies the disks of a stopped guest with their holes, encrypted. Copies that are not yet durable on the
    target leave the originals in place; RV(moves[].pending) says what must follow with O(settle), first there, then here.
  - A move is proved on both sides - the guest is on the target, persistent, with the new epoch, and neither its domain nor its QEMU
    process is here - before any of its files here is removed.
  - One move that fails does not stop the others. The module fails at the end and names each.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.hypervisor
attributes:
  check_mode:
    support: full
    details:
      - All refusals are found; nothing is moved.
  diff_mode:
    support: full
    details:
      - Shows host and epoch of each guest before and after.
  idempotent:
    support: full
    details:
      - A guest that is on the target with the epoch of the move, and not here, is reported as moved already.
requirements:
  - libvirt on the targets listening for TLS, with certificates of one authority, as P(oscarv.virt.hostos_kvm#role) sets it up
options:
  source:
    description: The inventory name of this HostOS, for messages and for RV(moves[].pending).
    type: str
    default: ""
  moves:
    description: The moves to make.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The id of the move in the ledger.
        type: str
        required: true
      spec:
        description: The guest's spec as M(oscarv.virt.assign) gives it. Its C(seed) is not looked at and may be left out.
        type: dict
        required: true
      epoch:
        description: The epoch that the ledger gave to this move. If not set, that of O(moves[].spec).
        type: int
      guest:
        description: The guest's name. If set, O(moves[].spec) must be of that guest.
        type: str
      target:
        description: The inventory name of the target HostOS.
        type: str
        required: true
      target_hypervisor:
        description:
          - The hypervisor of the target. If not set, it is the same as O(hypervisor).
          - To another one a guest is only moved with O(moves[].mode=cold); its disks, seed, MACs and uuid go over, and its domain is
            made anew.
        type: str
        choices: [kvm, xen, lxc, openvz]
      target_acceleration:
        description: What M(oscarv.virt.hostos_info) has found on a target with another hypervisor (RV(oscarv.virt.hostos_info#module:hostos.acceleration)).
        type: str
      target_address:
        description: Address or name under which this HostOS reaches the target. It must stand in the target's certificate.
        type: str
        required: true
      coming:
        description:
          - Ids of builds that a run would have brought to the target before this task. In check mode their absence is no reason to
            refuse; otherwise this is ignored.
        type: list
        elements: str
        default: []
      mode:
        description:
          - V(live) moves a running guest while it runs. A guest that does not run is moved cold, and the result says so.
          - V(cold) shuts a running guest down, moves it and starts it on the target.
          - V(auto) is V(live) without the remark.
        type: str
        choices: [live, cold, auto]
        default: auto
      bandwidth:
        description: At most so many bytes per second, for memory and disks. A live move rounds it up to MiB per second.
        type: int
      timeout:
        description: Seconds for the whole move. When they are over the move is given up and the guest goes on where it was.
        type: int
      plaintext:
        description:
          - Consent to send memory and disks unencrypted. They are then, even where TLS could be had.
          - The connection to the target's libvirt still uses TLS where it can.
        type: bool
        default: false
  settle:
    description:
      - What this HostOS has to do after it was decided what became of moves, in this order, before any of O(moves).
      - Comes from RV(oscarv.virt.ledger#module:cleanup) and RV(moves[].pending).
    type: list
    elements: dict
    default: []
    suboptions:
      action:
        description:
          - V(accept) makes files that came with a cold move durable, and forgets that they were on their way.
          - V(write_tombstone) notes that the guest has left.
          - V(undefine) removes a copy that does not run. Its files stay.
          - V(remove_leftovers) removes the guest's files that a move made or left behind here, while no copy is defined here.
            On the source of a move it asks the target first whether it really has the guest.
          - V(drop_tombstone) notes that the guest has not left.
          - V(forget) removes the tombstone of a guest that was given up on every HostOS.
        type: str
        required: true
        choices: [accept, write_tombstone, undefine, remove_leftovers, drop_tombstone, forget]
      uuid:
        description: The guest's UUID.
        type: str
        required: true
      guest:
        description: The guest's name.
        type: str
        required: true
      epoch:
        description: The epoch of the copy that is meant. A copy, a note or a file of another epoch is left alone.
        type: int
        required: true
      move:
        description: The id of the move in the ledger.
        type: str
      host:
        description: The HostOS that is meant; not looked at.
        type: str
  cluster:
    description: The name of the cluster. Required with O(settle).
    type: str
  parallel:
    description: How many guests are moved at the same time.
    type: int
    default: 1
  shutdown_timeout:
    description: Seconds that a guest gets to shut down for a cold move.
    type: float
    default: 120.0
  lock_timeout:
    description: Seconds to wait for whoever else changes guests on this HostOS.
    type: float
    default: 60.0
seealso:
  - module: oscarv.virt.guest
  - module: oscarv.virt.ledger
"""

EXAMPLES = r"""
- name: Move guests as the ledger has recorded it
  oscarv.virt.guest_migrate:
    source: "{{ inventory_hostname }}"
    moves:
      - id: "{{ begun.moves[0].id }}"
        spec: "{{ assigned.specs[inventory_hostname][0] }}"
        epoch: "{{ begun.moves[0].epoch_to }}"
        target: node02
        target_address: 10.0.0.2
        bandwidth: 104857600
        timeout: 600
  register: moved

- name: Do what was decided about a move that was interrupted
  oscarv.virt.guest_migrate:
    cluster: tcd
    settle: "{{ settled.cleanup | selectattr('host', 'eq', inventory_hostname) }}"
"""

RETURN = r"""
moves:
  description: What became of each move, in the order of O(moves).
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The id of the move.
      type: str
    outcome:
      description:
        - V(committed) - it is proved that the guest is on the target and not here. V(aborted) - it is certain that it is here, as it was.
        - V(unknown) - it is not certain; C(oscarv.virt.settle) finds out. V(planned) - check mode.
      type: str
    message:
      description: The same as RV(moves[].msg), for the ledger.
      type: str
    guest:
      description: The guest's name.
      type: str
    uuid:
      description: The guest's UUID.
      type: str
    target:
      description: The inventory name of the target.
      type: str
    changed:
      description: Whether the guest was (in check mode, would be) moved.
      type: bool
    moved:
      description: Whether it is proved that the guest is on the target and not here. False in check mode, unless it was there before.
      type: bool
    failed:
      description: Whether something went wrong.
      type: bool
    msg:
      description: What was done, would be done, or went wrong, in a sentence.
      type: str
    refused:
      description: Each reason why the move was not begun. Empty if it was.
      type: list
      elements: str
    mode:
      description: V(live) or V(cold), as it was (would be) done.
      type: str
    state:
      description: The guest's state on the target.
      type: str
    seconds:
      description: How long it took.
      type: float
    downtime_ms:
      description: How long the guest stood still during a live move, as QEMU has measured it.
      type: int
    memory_bytes:
      description: Bytes of memory that a live move has sent.
      type: int
    disks:
      description: Name, pool, path, whether it was copied, and the bytes that the file has on the target.
      type: list
      elements: dict
    removed:
      description: Files that were removed from this HostOS.
      type: list
      elements: str
    pending:
      description: What must still be done, in this order, and where. For O(settle).
      type: list
      elements: dict
    warnings:
      description: What should be known of this move.
      type: list
      elements: str
settled:
  description: What was (in check mode, would be) done for each entry of O(settle).
  returned: always
  type: list
  elements: dict
  contains:
    guest:
      description: The guest's name.
      type: str
    action:
      description: The action.
      type: str
    changed:
      description: Whether there was anything to do.
      type: bool
    steps:
      description: What was done, in words.
      type: list
      elements: str
    failed:
      description: Whether it was refused or went wrong.
      type: bool
    msg:
      description: Why.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._driver import DriverError
from ..module_utils._hypervisor import ARGUMENTS
from ..module_utils._kvm_move_batch import run


def main() -> None:
    move = {
        "id": {"type": "str", "required": True},
        "spec": {"type": "dict", "required": True},
        "guest": {"type": "str"},
        "epoch": {"type": "int"},
        "target": {"type": "str", "required": True},
        "target_address": {"type": "str", "required": True},
        "mode": {"type": "str", "choices": ["live", "cold", "auto"], "default": "auto"},
        "bandwidth": {"type": "int"},
        "timeout": {"type": "int"},
        "plaintext": {"type": "bool", "default": False},
        "target_hypervisor": {"type": "str", "choices": ["kvm", "xen", "lxc", "openvz"]},
        "target_acceleration": {"type": "str"},
        "coming": {"type": "list", "elements": "str", "default": []},
    }
    actions = ["accept", "write_tombstone", "undefine", "remove_leftovers", "drop_tombstone", "forget"]
    settle = {
        "action": {"type": "str", "required": True, "choices": actions},
        "uuid": {"type": "str", "required": True},
        "guest": {"type": "str", "required": True},
        "epoch": {"type": "int", "required": True},
        "move": {"type": "str"},
        "host": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "source": {"type": "str", "default": ""},
            "moves": {"type": "list", "elements": "dict", "default": [], "options": move},
            "settle": {"type": "list", "elements": "dict", "default": [], "options": settle},
            "cluster": {"type": "str"},
            "parallel": {"type": "int", "default": 1},
            "shutdown_timeout": {"type": "float", "default": 120.0},
            "lock_timeout": {"type": "float", "default": 60.0, "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, check=module.check_mode)
    except DriverError as error:
        module.fail_json(msg=str(error), changed=False, moves=[], settled=[])
    if not module._diff:
        del result["diff"]
    for text in result.pop("warnings"):
        module.warn(text)
    if result["failed"]:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
