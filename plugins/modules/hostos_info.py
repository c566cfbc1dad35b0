#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a HostOS is and can."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hostos_info
short_description: Tell what a HostOS is and what it can
version_added: 1.0.0
description:
  - Measures a HostOS. Hypervisor and versions, what there is for guests, whether hardware acceleration really works,
    the CPU that its guests can have, and what it can do with guests.
  - Works on a machine without a hypervisor too, and then says what is missing.
  - A F(/dev/kvm) that is there proves nothing. The CPU's flags are looked at, and inside another hypervisor a guest is
    started to see whether it runs (for at most 15 seconds, once per boot).
options:
  cluster:
    description: Count the guests of other clusters as foreign. Without it only those without our mark are.
    type: str
  baseline_of:
    description:
      - CPUs of HostOSes, each as C(cpu.xml) of RV(hostos). The richest CPU that all of them can give a guest is returned as RV(baseline).
    type: list
    elements: str
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
  - oscarv.virt.attributes.info_module
  - oscarv.virt.hypervisor
seealso:
  - module: oscarv.virt.guest_info
author:
  - The oscarv.virt authors (@oscarv)
"""

EXAMPLES = r"""
- name: Measure the HostOS
  oscarv.virt.hostos_info:
    cluster: demo
  register: measured

- name: Refuse a machine that can only emulate
  ansible.builtin.assert:
    that: measured.hostos.acceleration == 'kvm'
    fail_msg: "{{ measured.hostos.acceleration_reason }}"
"""

RETURN = r"""
hostos:
  description: The HostOS.
  returned: always
  type: dict
  contains:
    hypervisor:
      description: V(kvm), V(xen), V(lxc) or V(openvz), or null where no hypervisor answers.
      type: str
    hypervisor_reason:
      description: Why no hypervisor answers.
      type: str
    versions:
      description: Versions of C(os), C(kernel) and, where there is a hypervisor, of C(libvirt) and of C(qemu), C(xen) or C(lxc).
      type: dict
    capacity:
      description: Logical processors (C(vcpus)), bytes of memory (C(memory)), and bytes that guests may have on local pools (C(disk)).
      type: dict
      sample: {vcpus: 32, memory: 67108864000, disk: 1099511627776}
    acceleration:
      description: V(kvm) works, V(xen) is Xen, V(lxc) and V(openvz) run containers, V(tcg) emulates, V(none) means that there is nothing to run guests.
      type: str
    acceleration_reason:
      description: How that was found out.
      type: str
    cpu:
      description: Model, features and libvirt's XML of the CPU that guests can have.
      type: dict
    capabilities:
      description: For each capability whether it is there (C(supported)) and if not, why (C(reason)).
      type: dict
      sample: {live_move: {supported: true, reason: ''}}
    pools:
      description: Directory of each active storage pool, by name.
      type: dict
    foreign:
      description: What guests that are not ours take (C(guests), C(vcpus), C(memory) and C(disk) in bytes).
      type: dict
      sample: {guests: 1, vcpus: 2, memory: 2147483648, disk: 21474836480}
baseline:
  description: Model and features of the CPU that all HostOSes of O(baseline_of) can give a guest.
  returned: when O(baseline_of) is given
  type: dict
  sample: {model: Skylake-Server, features: {pdpe1gb: disable}}
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _hostos
from ..module_utils._driver import CAPABILITIES, Capability, DriverError
from ..module_utils._hypervisor import ARGUMENTS, open_driver
from ..module_utils._kvm import KvmDriver
from ..module_utils._kvm_capabilities import baseline, host_cpu
from ..module_utils._openvz import OpenVzDriver
from ..module_utils._report import foreign_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "cluster": {"type": "str"}, "baseline_of": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    try:
        driver = open_driver(module.params)
    except DriverError as error:
        if module.params["baseline_of"]:
            module.fail_json(msg=f"baseline_of needs a hypervisor: {error}")
        module.exit_json(changed=False, hostos=without_hypervisor(module.params["state_dir"], str(error)))
    try:
        found: dict[str, t.Any] = {"hostos": with_hypervisor(driver, module.params["cluster"])}
        if module.params["baseline_of"]:
            if not isinstance(driver, KvmDriver):
                raise DriverError("baseline_of: containers see the HostOS's own CPU; there is no baseline of it")
            found["baseline"] = baseline(driver.connection, driver.platform, module.params["baseline_of"])
    except DriverError as error:
        module.fail_json(msg=str(error))
    finally:
        driver.close()
    module.exit_json(changed=False, **found)


def without_hypervisor(state_dir: str, reason: str) -> dict[str, t.Any]:
    """What the machine says by itself."""
    acceleration = _hostos.acceleration(state_dir)
    return {
        "hypervisor": None,
        "hypervisor_reason": reason,
        "versions": _hostos.versions(),
        "capacity": {"vcpus": _hostos.processors(), "memory": _hostos.memory(), "disk": 0},
        "acceleration": acceleration.kind,
        "acceleration_reason": acceleration.reason,
        "cpu": {"model": None, "features": {}, "xml": None},
        "capabilities": {name: dataclasses.asdict(Capability(False, reason)) for name in CAPABILITIES},
        "pools": {},
        "foreign": {"guests": 0, "vcpus": 0, "memory": 0, "disk": 0},
    }


def with_hypervisor(driver: KvmDriver | OpenVzDriver, cluster: str | None) -> dict[str, t.Any]:
    foreign = foreign_of(driver.observe_all(), cluster)
    found = without_hypervisor(driver.options.state_dir, "")
    found.update(
        hypervisor=driver.hypervisor,
        acceleration=driver.acceleration.kind,
        acceleration_reason=driver.acceleration.reason,
        capabilities={name: dataclasses.asdict(one) for name, one in driver.capabilities().items()},
        pools=dict(driver.pools),
        foreign={
            "guests": len(foreign),
            **{key: sum(int(one[key]) for one in foreign) for key in ("vcpus", "memory", "disk")},
        },
    )
    if isinstance(driver, KvmDriver):
        found["cpu"] = host_cpu(driver.platform)
    found["versions"].update(driver.versions())
    found["capacity"].update(driver.capacity())
    found["capacity"]["disk"] = _hostos.disk_capacity(driver.pools.values())
    return found


if __name__ == "__main__":
    main()
