#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read back all guests of one HostOS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_info
short_description: Read back all guests of a HostOS
version_added: 1.0.0
description:
  - Reads all guests of one HostOS in bulk over one connection. It waits for nothing and asks no guest anything.
options:
  cluster:
    description: Show only the guests of this cluster as ours; those of other clusters are listed as foreign.
    type: str
  consoles:
    description:
      - Names of guests of which to return what they said last on their consoles.
      - Only O(hypervisor=kvm) keeps a log of them.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.hypervisor
seealso:
  - module: oscarv.virt.guest
author:
  - The oscarv.virt authors (@oscarv)
"""

EXAMPLES = r"""
- name: What runs here
  oscarv.virt.guest_info:
    cluster: demo
  register: here

- name: Show it
  ansible.builtin.debug:
    msg: "{{ here.guests | dict2items | map(attribute='value.name') | list }}"
"""

RETURN = r"""
guests:
  description: The guests with our mark, by UUID.
  returned: always
  type: dict
  contains:
    name:
      description: Name of the guest.
      type: str
    uuid:
      description: UUID of the guest.
      type: str
    cluster:
      description: Its cluster.
      type: str
    partition:
      description: Its partition.
      type: str
    epoch:
      description: The epoch in its mark, raised by every move.
      type: int
    build_id:
      description: The build under its root disk.
      type: str
    host_key:
      description: Its public ed25519 host key.
      type: str
    state:
      description: One of V(running), V(paused), V(stopped), V(saved), V(crashed) and V(moving).
      type: str
    vcpus:
      description: vCPUs in its persistent configuration.
      type: int
    vcpus_live:
      description: vCPUs that it has now; null when it does not run.
      type: int
    memory:
      description: Bytes of memory in its persistent configuration.
      type: int
    memory_live:
      description: Bytes that its balloon leaves it now; null when it does not run.
      type: int
    autostart:
      description: Whether it starts with its HostOS.
      type: bool
    persistent:
      description: Whether it is still there after it stopped.
      type: bool
    restart_required:
      description: Whether something of its persistent configuration is not in effect until it restarts.
      type: bool
    disks:
      description: Name, target, path, pool, size in bytes and backing file of each disk.
      type: list
      elements: dict
    nics:
      description: MAC, bridge, MTU, and for ours name, network and addresses.
      type: list
      elements: dict
    seed:
      description: Path of the seed that is still attached.
      type: str
    jobs:
      description: Jobs of the hypervisor that work on it now, for example V(migration_out).
      type: list
      elements: str
foreign:
  description: Guests that are not ours (name, uuid, state, vcpus, memory and disk in bytes, cluster).
  returned: always
  type: list
  elements: dict
consoles:
  description: The last ten lines of the logs of O(consoles), by guest; guests that have none here are left out.
  returned: always
  type: dict
  sample:
    wn1: ["Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"]
tombstones:
  description: What guests left behind that moved away from this HostOS, by UUID.
  returned: always
  type: dict
  contains:
    epoch:
      description: The epoch of the copy that left.
      type: int
    state:
      description: V(moving) or V(moved), or V(unreadable) for a damaged file.
      type: str
    guest:
      description: Name of the guest.
      type: str
    target:
      description: The HostOS that it left for.
      type: str
    move:
      description: Id of the move in the ledger.
      type: str
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._console import last_lines
from ..module_utils._driver import DriverError
from ..module_utils._hypervisor import ARGUMENTS, open_driver
from ..module_utils._report import foreign_of, seen_plain

#: Lines of a console: what a panic needs to be known.
LINES = 10


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "cluster": {"type": "str"},
            "consoles": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    cluster = module.params["cluster"]
    try:
        driver = open_driver(module.params)
        try:
            observation = driver.observe_all()
            stones = driver.tombstones.all()
        finally:
            driver.close()
    except DriverError as error:
        module.fail_json(msg=str(error))
    ours = {
        uuid: seen
        for uuid, seen in observation.guests.items()
        if seen.mark is not None and cluster in (None, seen.mark.cluster)
    }
    wanted = set(module.params["consoles"])
    logs = {seen.name: seen.console_log for seen in ours.values() if seen.console_log and seen.name in wanted}
    said = {name: last_lines(path, LINES) for name, path in sorted(logs.items())}
    module.exit_json(
        changed=False,
        guests={uuid: seen_plain(seen) for uuid, seen in ours.items()},
        consoles={name: lines for name, lines in said.items() if lines},
        foreign=foreign_of(observation, cluster),
        tombstones={uuid: dataclasses.asdict(stone) for uuid, stone in stones.items()},
    )


if __name__ == "__main__":
    main()
