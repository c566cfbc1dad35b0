# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of a domain's persistent XML: each changes what we manage and leaves everything else as it is."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._dialect import Dialect, dialect_of
from ._kvm_xml import cpu_element, firmware_elements, free_target, memory_of
from ._spec import NicSpec


def set_vcpus(domain: ET.Element, vcpus: int, most: int) -> None:
    """`most` is the highest number that the guest can be given while it runs."""
    vcpu = _child(domain, "vcpu")
    vcpu.text = str(most)
    _dialect(domain).set_vcpus(domain, vcpus)
    _drop(domain, "vcpus")  # the state of each vCPU; libvirt writes it anew


def set_memory(domain: ET.Element, size: int) -> None:
    for tag in ("memory", "currentMemory"):
        found = _child(domain, tag)
        found.set("unit", "KiB")
        found.text = str(memory_of(size) // 1024)


def set_cpu(domain: ET.Element, model: str, features: t.Iterable[tuple[str, str]]) -> None:
    """Mode, model and features; topology, NUMA cells and cache stay."""
    old = domain.find("cpu")
    new = cpu_element(model, features)
    if old is not None:
        if new is not None:
            new.extend(child for child in old if child.tag not in ("model", "feature", "vendor"))
        domain.remove(old)
    if new is not None:
        domain.append(new)


def set_firmware(domain: ET.Element, firmware: str) -> None:
    system = _child(domain, "os")
    for tag in ("firmware", "loader", "nvram"):
        _drop(system, tag)
    system.attrib.pop("firmware", None)
    attributes, children = firmware_elements(firmware)
    system.attrib.update(attributes)
    system.extend(children)


def set_variables(domain: ET.Element, path: str) -> None:
    """Point the firmware to a file of UEFI variables; a domain that names none stays so."""
    found = domain.find("os/nvram")
    if found is not None and found.text:
        found.text = path


def set_console_log(domain: ET.Element, old: str, new: str) -> None:
    """Let consoles that are logged to `old` be logged to `new`."""
    for log in domain.findall("devices/*/log"):
        if log.get("file") == old:
            log.set("file", new)


def put_nic(domain: ET.Element, nic: NicSpec) -> None:
    """Add a NIC, or change the one that has its MAC."""
    found = find_nic(domain, nic.mac)
    if found is None:
        _devices(domain).append(_dialect(domain).nic(nic))
    else:
        connect_nic(found, nic)
        _drop(found, "mtu")
        if nic.mtu is not None:
            ET.SubElement(found, "mtu", {"size": str(nic.mtu)})


def connect_nic(interface: ET.Element, nic: NicSpec) -> None:
    """Point an <interface> to the spec's bridge; nothing else of it changes."""
    interface.set("type", "bridge")
    source = _child(interface, "source")
    source.attrib.clear()
    source.set("bridge", nic.bridge)


def remove_nic(domain: ET.Element, mac: str) -> None:
    found = find_nic(domain, mac)
    if found is not None:
        _devices(domain).remove(found)


def put_disk(domain: ET.Element, name: str, path: str) -> str:
    """Add a disk, or point ours of that name to `path`; return its target."""
    found = find_disk(domain, name)
    if found is None:
        dialect = _dialect(domain)
        target = free_target(_targets(domain), dialect.prefix)
        _devices(domain).append(dialect.disk(name, path, target))
        return target
    _child(found, "source").set("file", path)
    target_element = _child(found, "target")
    return target_element.get("dev", "")


def remove_disk(domain: ET.Element, name: str) -> None:
    found = find_disk(domain, name)
    if found is not None:
        _devices(domain).remove(found)


def put_seed(domain: ET.Element, path: str | None) -> None:
    """Insert a seed into the place for it, or (None) take it out."""
    _dialect(domain).put_seed(domain, path)


def find_nic(domain: ET.Element, mac: str) -> ET.Element | None:
    for interface in domain.findall("devices/interface"):
        found = interface.find("mac")
        if found is not None and found.get("address", "").lower() == mac:
            return interface
    return None


def find_disk(domain: ET.Element, name: str) -> ET.Element | None:
    """A disk by its name."""
    return _dialect(domain).find_disk(domain, name)


def _dialect(domain: ET.Element) -> Dialect:
    return dialect_of(domain.get("type", ""))


def _devices(domain: ET.Element) -> ET.Element:
    return _child(domain, "devices")


def _targets(domain: ET.Element) -> set[str]:
    return {target.get("dev", "") for target in domain.findall("devices/disk/target")}


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return found if found is not None else ET.SubElement(parent, tag)


def _drop(parent: ET.Element, tag: str) -> None:
    for found in parent.findall(tag):
        parent.remove(found)
