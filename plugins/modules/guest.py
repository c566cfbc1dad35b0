#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile the guests of one HostOS to their specs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest
short_description: Make the guests of a HostOS what their specs say
version_added: 1.0.0
description:
  - Reconciles all guests of one HostOS in one call over one connection. It defines, starts, pauses, stops, changes and
    removes guests, makes their disks (overlays on a build) and their seeds, and changes running guests where the
    hypervisor can.
  - Everything is validated and planned before anything is changed. One bad guest does not stop the others; each has its
    own result, and the module fails at the end naming each that failed.
  - A guest that exists is edited, not made again. What others added to it stays.
  - Guests without the collection's mark, and those of other clusters, are foreign. They are counted and left alone.
options:
  cluster:
    description: The cluster whose guests these are.
    type: str
    required: true
  specs:
    description:
      - The full list of the guests of this HostOS, as M(oscarv.virt.assign) returns it. A key that is not known is refused.
      - Never logged, because C(cloud_init) in it may hold secrets.
    type: list
    elements: dict
    required: true
  select:
    description:
      - Names of the guests to be changed; O(specs) still is the full list. Left out, all are.
      - While something is selected, nothing is pruned.
    type: list
    elements: str
  prune:
    description:
      - What to do with guests of the cluster on this HostOS that no spec names.
      - V(report) lists them, V(remove) removes those that O(prunable) covers, V(off) says nothing.
      - An empty O(specs) with V(remove) is refused unless O(prunable) covers every guest of the cluster on this HostOS.
    type: str
    choices: [report, remove, 'off']
    default: report
  prunable:
    description:
      - The guests that the ledger calls released, leaving or committed elsewhere. Nothing else is ever pruned.
      - A guest whose mark has a newer epoch than stands here is kept.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the guest.
        type: str
        required: true
      uuid:
        description: Its UUID.
        type: str
        required: true
      epoch:
        description: The newest epoch that the ledger knows of it.
        type: int
        required: true
  allow_restart:
    description: Restart guests whose change cannot be made while they run, and guests that wait for a restart already.
    type: bool
    default: false
  remove_disks:
    description:
      - Remove the disks of guests that are made absent or are pruned, and disks that left a spec. Without it they are kept,
        and found again when the guest or the disk comes back.
      - Only files that the collection made are removed, never CD-ROMs, shared or read-only disks, backing files or files
        that another guest needs.
    type: bool
    default: false
  force_stop:
    description: Power off guests that did not shut down within O(shutdown_timeout) seconds.
    type: bool
    default: false
  shutdown_timeout:
    description:
      - Seconds that a guest has to shut down after it was asked to.
      - With V(0) it is not asked; together with O(force_stop=true) it is powered off at once.
    type: float
    default: 120
  contacted:
    description: Names of guests that were reached with their host key verified. Their seeds are ejected and deleted.
    type: list
    elements: str
    default: []
  builds_expected:
    description:
      - Builds that a run would have fetched before this task, see RV(oscarv.virt.host_builds#module:fetched). In check mode
        they are taken to be there; otherwise this is ignored.
    type: list
    elements: str
    default: []
  host_keys_private:
    description:
      - Private ed25519 host keys (OpenSSH format) by name of the guest, for guests that are made anew and shall keep theirs.
    type: dict
    default: {}
  lock_timeout:
    description: Seconds to wait for another job that changes guests on this HostOS.
    type: float
    default: 60
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.hypervisor
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - One entry for each guest that changes. Secrets appear as hashes.
  idempotent:
    support: full
seealso:
  - module: oscarv.virt.guest_info
  - module: oscarv.virt.guest_migrate
  - module: oscarv.virt.assign
author:
  - The oscarv.virt authors (@oscarv)
"""

EXAMPLES = r"""
- name: Decide what belongs where
  oscarv.virt.assign:
  run_once: true
  register: decision

- name: Make the guests of every HostOS what their specs say
  oscarv.virt.guest:
    cluster: "{{ oscarv_cluster }}"
    specs: "{{ decision.specs[inventory_hostname] | default([]) }}"
    prunable: "{{ decision.prunable[inventory_hostname] | default([]) }}"

- name: Change the memory of one guest, with a restart if it must be
  oscarv.virt.guest:
    cluster: "{{ oscarv_cluster }}"
    specs: "{{ decision.specs[inventory_hostname] | default([]) }}"
    select: [wn001]
    allow_restart: true

- name: Remove what left the definition, disks too
  oscarv.virt.guest:
    cluster: "{{ oscarv_cluster }}"
    specs: "{{ decision.specs[inventory_hostname] | default([]) }}"
    prunable: "{{ decision.prunable[inventory_hostname] | default([]) }}"
    prune: remove
    remove_disks: true
"""

RETURN = r"""
guests:
  description: What became of each guest, by name. In check mode, what would.
  returned: always
  type: dict
  contains:
    uuid:
      description: UUID of the guest.
      type: str
    changed:
      description: Whether its persistent configuration or its power state changed.
      type: bool
    steps:
      description: What was done, in order.
      type: list
      elements: str
    state:
      description: One of V(running), V(paused), V(stopped), V(saved), V(crashed), V(moving) and V(absent).
      type: str
    epoch:
      description: The epoch in its mark.
      type: int
    restart_required:
      description: Whether something of its persistent configuration is not in effect until it restarts.
      type: bool
    build_outdated:
      description: Whether its root disk stands on another build than its spec names. Its disk is not touched; rebuild it.
      type: bool
    build_id:
      description: The build under its root disk.
      type: str
    failed:
      description: Whether it was refused or a step failed.
      type: bool
    msg:
      description: Why.
      type: str
    host_key:
      description: Its public ed25519 host key.
      type: str
    nics:
      description: Name, network, MAC and addresses of each NIC.
      type: list
      elements: dict
  sample:
    wn001:
      uuid: 6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11
      changed: true
      steps: [create disk root, make seed, define, switch autostart on, start]
      state: running
      epoch: 1
      restart_required: false
      build_outdated: false
      build_id: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
      failed: false
      msg: ""
      host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0p
      nics:
        - {name: eth0, network: compute, mac: "52:54:00:00:00:01", addresses: [10.0.4.21/22]}
foreign:
  description: Guests that are not the cluster's (name, uuid, state, vcpus, memory and disk in bytes, cluster).
  returned: always
  type: list
  elements: dict
prunable_found:
  description: Guests of the cluster that no spec names and that O(prunable) covers.
  returned: always
  type: list
  elements: dict
unnamed_kept:
  description: Guests of the cluster that no spec names and that O(prunable) does not cover, with the reason.
  returned: always
  type: list
  elements: dict
pruned:
  description: Guests that were removed by O(prune=remove).
  returned: always
  type: list
  elements: dict
prune_failed:
  description: Guests that O(prune=remove) could not remove (name, uuid), and why (msg).
  returned: always
  type: list
  elements: dict
restart_required:
  description: Names of the guests that wait for a restart.
  returned: always
  type: list
  elements: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._driver import DriverError
from ..module_utils._hypervisor import ARGUMENTS, open_driver
from ..module_utils._lock import hold
from ..module_utils._reconcile import Result, Wish, reconcile
from ..module_utils._report import diffs, result_plain

_PRUNABLE = {
    "name": {"type": "str", "required": True},
    "uuid": {"type": "str", "required": True},
    "epoch": {"type": "int", "required": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "cluster": {"type": "str", "required": True},
            "specs": {"type": "list", "elements": "dict", "required": True, "no_log": True},
            "select": {"type": "list", "elements": "str"},
            "prune": {"type": "str", "choices": ["report", "remove", "off"], "default": "report"},
            "prunable": {"type": "list", "elements": "dict", "default": [], "options": _PRUNABLE},
            "allow_restart": {"type": "bool", "default": False},
            "remove_disks": {"type": "bool", "default": False},
            "force_stop": {"type": "bool", "default": False},
            "shutdown_timeout": {"type": "float", "default": 120.0},
            "contacted": {"type": "list", "elements": "str", "default": []},
            "builds_expected": {"type": "list", "elements": "str", "default": []},
            "host_keys_private": {"type": "dict", "default": {}, "no_log": True},
            "lock_timeout": {"type": "float", "default": 60.0, "no_log": False},
        },
        supports_check_mode=True,
    )
    # `no_log` keeps specs out of the system's log. Their names and addresses may be shown, and are in every result; what
    # may not is never put into one. Only the keys are secret as a whole.
    module.no_log_values = {str(key) for key in module.params["host_keys_private"].values()}
    shown = {key: value for key, value in module.params.items() if key not in ("specs", "host_keys_private")}
    invocation = {"module_args": {**shown, "specs": f"{len(module.params['specs'])} guests"}}
    try:
        result = run(module.params, module.check_mode)
    except DriverError as error:
        module.fail_json(msg=str(error), invocation=invocation)
    plain = result_plain(result, module.params["cluster"], check=module.check_mode, prune=module.params["prune"])
    plain["invocation"] = invocation
    if module._diff:
        plain["diff"] = diffs(result)
    failed = [outcome for outcome in result.outcomes if outcome.error is not None]
    if failed:
        reasons = "; ".join(str(outcome.error) for outcome in failed)
        module.fail_json(msg=f"{len(failed)} of {len(result.outcomes)} guests failed: {reasons}", **plain)
    module.exit_json(**plain)


def run(params: t.Mapping[str, t.Any], check: bool) -> Result:
    """One reconciliation; holds the HostOS's lock unless it only looks."""
    wish = Wish(params["cluster"], params["specs"], params["select"], params["prune"], params["prunable"])
    driver = open_driver(
        params,
        allow_restart=params["allow_restart"],
        remove_disks=params["remove_disks"],
        force_stop=params["force_stop"],
        shutdown_timeout=params["shutdown_timeout"],
        contacted=frozenset(params["contacted"]),
        builds_expected=frozenset(params["builds_expected"] if check else ()),
        host_keys_private=params["host_keys_private"],
    )
    try:
        if check:
            return reconcile(driver, wish, check=True)
        with hold(params["state_dir"], "guest", params["lock_timeout"]):
            return reconcile(driver, wish, check=False)
    finally:
        driver.close()


if __name__ == "__main__":
    main()
