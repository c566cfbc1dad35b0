# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain XML for libvirt's libxl driver: a whole new domain of each of Xen's three types.

    pv   <type machine='xenpv'>linux</type>    pvgrub for x86_64-xen
    pvh  <type machine='xenpvh'>xenpvh</type>  pvgrub for i386-xen_pvh
    hvm  <type machine='xenfv'>hvm</type>      hvmloader, and the boot loader of the disk

In place of pvgrub PV and PVH guests may be given a build's kernel and initramfs, which libxl starts itself.

pvgrub (Debian: grub-xen-host) is GRUB as a "kernel" from the HostOS: it reads /boot/grub/grub.cfg of the guest's own
disk and starts the kernel that lies there, so a guest updates its kernel itself, as it does under KVM.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._driver import Mark
from ._kvm_mark import mark_element
from ._kvm_parse import Boot, serial_of
from ._kvm_xml import boot_elements, element, free_target, memory_of, vcpus_max
from ._paths import format_of
from ._spec import GuestSpec, NicSpec

PREFIX = "xvd"
#: Beyond the four disks that an HVM guest sees as IDE too: QEMU has no read-only IDE disks.
SEED_TARGET = "xvdz"
#: Where Debian's grub-xen-host has GRUB for guests.
GRUB = {"pv": "/usr/lib/grub-xen/grub-x86_64-xen.bin", "pvh": "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"}
#: Type of guest -> what libvirt calls it: (machine, text of <type>).
OS_TYPES = {"pv": ("xenpv", "linux"), "pvh": ("xenpvh", "xenpvh"), "hvm": ("xenfv", "hvm")}
#: Xen gives PVH and HVM guests at most so many vCPUs.
MOST_VCPUS = 128


def xen_type_of(domain: ET.Element) -> str:
    """pv | pvh | hvm of a domain of libvirt's making ("linux" and "xen" both mean pv)."""
    text = domain.findtext("os/type", "")
    return {"xenpvh": "pvh", "hvm": "hvm"}.get(text, "pv")


#: Added to the command line of a kernel from outside: under Xen /dev/console is what `virsh console` shows.
CONSOLE = " console=hvc0"


def os_element(xen_type: str, boot: Boot | None = None) -> ET.Element:
    """`boot`: see `_dialect.Xen.boot`; None for what the guest's own disk has."""
    machine, text = OS_TYPES[xen_type]
    made = element("os", element("type", text, arch="x86_64", machine=machine))
    if boot is not None and xen_type in GRUB:
        made.extend(boot_elements(boot))
    elif xen_type in GRUB:
        made.append(element("kernel", GRUB[xen_type]))
    else:
        made.append(element("boot", dev="hd"))
    return made


def features_element(xen_type: str) -> ET.Element | None:
    """What hvmloader tells the guest; a PV guest has no firmware tables, a PVH guest gets ACPI from Xen itself."""
    return element("features", element("acpi"), element("apic"), element("pae")) if xen_type == "hvm" else None


def disk_element(name: str, path: str, target: str) -> ET.Element:
    """A disk file as a paravirtual disk; QEMU in dom0 (qdisk) reads it, for Xen itself knows no qcow2.

    Raw ones too: what the dom0 kernel (blkback) would hold open, `_xen_move` could not see.
    """
    return element(
        "disk",
        element("driver", name="qemu", type_=format_of(path)),
        element("source", file=path),
        element("target", dev=target, bus="xen"),
        element("serial", serial_of(name)),
        type_="file",
        device="disk",
    )


def seed_element(path: str) -> ET.Element:
    """The seed as a read-only disk: PV and PVH guests have no CD-ROM whose door could be opened.

    By the dom0 kernel (blkback over a loop device): Debian 12's QEMU refuses a read-only xen-disk ("Block node is
    read-only").
    """
    return element(
        "disk",
        element("driver", name="phy", type_="raw"),
        element("source", file=path),
        element("target", dev=SEED_TARGET, bus="xen"),
        element("readonly"),
        element("serial", serial_of("seed")),
        type_="file",
        device="disk",
    )


def nic_element(nic: NicSpec) -> ET.Element:
    """A paravirtual NIC: libxl calls it netfront, and gives it to every type of guest."""
    made = element("interface", element("mac", address=nic.mac), element("source", bridge=nic.bridge), type_="bridge")
    if nic.mtu is not None:
        made.append(element("mtu", size=str(nic.mtu)))
    made.append(element("model", type_="netfront"))
    return made


def domain(
    spec: GuestSpec,
    *,
    xen_type: str,
    disks: t.Mapping[str, str],
    seed: str | None,
    mark: Mark,
    boot: Boot | None = None,
) -> ET.Element:
    """A new domain. `disks`: name -> path, in the spec's order."""
    kib = str(memory_of(spec.memory) // 1024)
    root = element(
        "domain",
        element("name", spec.name),
        element("uuid", spec.uuid),
        element("metadata", mark_element(mark)),
        element("memory", kib, unit="KiB"),
        element("currentMemory", kib, unit="KiB"),
        element("vcpu", str(min(MOST_VCPUS, vcpus_max(spec.vcpus))), placement="static", current=str(spec.vcpus)),
        os_element(xen_type, boot),
        type_="xen",
    )
    features = features_element(xen_type)
    if features is not None:
        root.append(features)
    root.append(element("clock", offset="utc"))
    root.extend(
        element(f"on_{event}", action)
        for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy"))
    )
    root.append(_devices(spec, disks, seed))
    return root


def _devices(spec: GuestSpec, disks: t.Mapping[str, str], seed: str | None) -> ET.Element:
    devices = element("devices")
    used = {SEED_TARGET}
    for name, path in disks.items():
        used.add(target := free_target(used, PREFIX))
        devices.append(disk_element(name, path, target))
    if seed is not None:
        devices.append(seed_element(seed))
    devices.extend(nic_element(nic) for nic in spec.nics)
    devices.append(element("console", element("target", type_="xen", port="0"), type_="pty"))
    return devices
