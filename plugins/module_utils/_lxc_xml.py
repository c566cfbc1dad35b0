# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain XML for libvirt's LXC driver: a system container with a root of its own, limits, and veth NICs on bridges.

A disk is a <filesystem> of a file that libvirt mounts through a loop device: the root at /, another one at /mnt/NAME.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._driver import Mark
from ._kvm_mark import mark_element
from ._kvm_xml import element, memory_of
from ._lxc_parse import PERIOD, mount_of
from ._spec import GuestSpec, NicSpec

INIT = "/sbin/init"


def disk_element(name: str, path: str) -> ET.Element:
    return element(
        "filesystem",
        element("driver", type_="loop", format="raw"),
        element("source", file=path),
        element("target", dir=mount_of(name)),
        type_="file",
        accessmode="passthrough",
    )


def nic_element(nic: NicSpec) -> ET.Element:
    """One end of a veth in the container, by the spec's name; libvirt puts the other one on the bridge."""
    made = element("interface", element("mac", address=nic.mac), element("source", bridge=nic.bridge), type_="bridge")
    if nic.mtu is not None:
        made.append(element("mtu", size=str(nic.mtu)))
    made.append(element("guest", dev=nic.name))
    return made


def set_processors(domain: ET.Element, vcpus: int) -> None:
    """<vcpu> says how many, which LXC does not enforce; the quota of processor time is what does."""
    tune = domain.find("cputune")
    if tune is None:
        tune = ET.SubElement(domain, "cputune")
    for tag, value in (("period", PERIOD), ("quota", PERIOD * vcpus)):
        found = tune.find(tag)
        if found is None:
            found = ET.SubElement(tune, tag)
        found.text = str(value)


def domain(spec: GuestSpec, *, disks: t.Mapping[str, str], mark: Mark) -> ET.Element:
    """A new domain. `disks`: name -> path, in the spec's order, the root first."""
    kib = str(memory_of(spec.memory) // 1024)
    root = element(
        "domain",
        element("name", spec.name),
        element("uuid", spec.uuid),
        element("metadata", mark_element(mark)),
        element("memory", kib, unit="KiB"),
        element("currentMemory", kib, unit="KiB"),
        element("vcpu", str(spec.vcpus), placement="static"),
        element("os", element("type", "exe", arch="x86_64"), element("init", INIT)),
        element("clock", offset="utc"),
        type_="lxc",
    )
    set_processors(root, spec.vcpus)
    root.extend(
        element(f"on_{event}", action)
        for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy"))
    )
    devices = element("devices")
    devices.extend(disk_element(name, path) for name, path in disks.items())
    devices.extend(nic_element(nic) for nic in spec.nics)
    devices.append(element("console", element("target", type_="lxc", port="0"), type_="pty"))
    root.append(devices)
    return root
