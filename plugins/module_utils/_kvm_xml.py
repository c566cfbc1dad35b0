# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain XML: the elements that we manage, and a whole new domain.

A guest that exists is never rendered again: its XML is edited (`_kvm_edit`), so that what others added stays.
"""

from __future__ import annotations

import string
import typing as t
import xml.etree.ElementTree as ET

from ._driver import Mark
from ._kvm_mark import mark_element
from ._kvm_parse import Boot, serial_of
from ._paths import format_of
from ._spec import GuestSpec, NicSpec

MIB = 2**20

#: libvirt turns this alias into the newest version of the machine when it defines a guest, and keeps that version.
MACHINE = "q35"
ARCH = "x86_64"

#: PCI Express slots beyond what a guest is made with: each NIC or disk that is added while it runs takes one.
SPARE_SLOTS = 8
#: Devices of every guest that take a slot: virtio-serial, random numbers, balloon, the seed's controller.
_OWN_SLOTS = 4
#: q35 without an interrupt remapper addresses no more.
MOST_VCPUS = 255

#: libvirt's own directory for what QEMU writes; sVirt lets consoles be logged there.
CONSOLE_LOGS = "/var/log/libvirt/qemu"
LOG_ENDING = "-serial.log"

Children = t.Union[str, ET.Element]


def element(tag: str, *children: Children, **attributes: str) -> ET.Element:
    """An element with text and children; a trailing `_` of an attribute's name is dropped (`type_`)."""
    made = ET.Element(tag, {key.rstrip("_"): value for key, value in attributes.items()})
    for child in children:
        if isinstance(child, str):
            made.text = child
        else:
            made.append(child)
    return made


def vcpus_max(vcpus: int) -> int:
    """How many vCPUs a running guest can be given without a restart.

    A CPU that is not plugged costs a guest a few hundred KiB of kernel memory and the HostOS nothing, so everybody
    gets room to double, and small guests room up to 8.
    """
    return min(MOST_VCPUS, max(8, 2 * vcpus))


def memory_of(size: int) -> int:
    """Bytes, rounded up to MiB as QEMU does."""
    return -(-size // MIB) * MIB


def console_log(guest: str) -> str:
    return f"{CONSOLE_LOGS}/{guest}{LOG_ENDING}"


def cpu_element(model: str, features: t.Iterable[tuple[str, str]]) -> ET.Element | None:
    """<cpu> of a mode or model; None where libvirt's own default is meant."""
    if model == "default":
        return None
    if model in ("host-model", "host-passthrough", "maximum"):
        return element("cpu", mode=model)
    cpu = element("cpu", element("model", model, fallback="forbid"), mode="custom", match="exact")
    if model == "qemu64":  # emulated: libvirt would compare it with the host's CPU, which has no part in it
        cpu.set("check", "none")
    cpu.extend(element("feature", name=name, policy=policy) for name, policy in features)
    return cpu


def nic_element(nic: NicSpec) -> ET.Element:
    made = element(
        "interface",
        element("mac", address=nic.mac),
        element("source", bridge=nic.bridge),
        element("model", type_="virtio"),
        type_="bridge",
    )
    if nic.mtu is not None:
        made.append(element("mtu", size=str(nic.mtu)))
    return made


def disk_element(name: str, path: str, target: str) -> ET.Element:
    """A disk file as a virtio disk whose serial is its name."""
    return element(
        "disk",
        element("driver", name="qemu", type_=format_of(path), discard="unmap"),
        element("source", file=path),
        element("target", dev=target, bus="virtio"),
        element("serial", serial_of(name)),
        type_="file",
        device="disk",
    )


def drive_element(path: str | None) -> ET.Element:
    """The CD-ROM drive for the seed; stays, empty, when the seed is gone.

    On a virtio controller: kernels made for clouds (Debian's linux-image-cloud-amd64) have no driver for q35's SATA.
    """
    drive = element(
        "disk",
        element("driver", name="qemu", type_="raw"),
        element("target", dev="sda", bus="scsi"),
        element("readonly"),
        element("serial", serial_of("seed")),
        type_="file",
        device="cdrom",
    )
    if path is not None:
        drive.insert(1, element("source", file=path))
    return drive


def drive_controller() -> ET.Element:
    """What `drive_element` hangs on."""
    return element("controller", type_="scsi", index="0", model="virtio-scsi")


def free_target(used: t.Container[str], prefix: str = "vd") -> str:
    """The first target that is not used: vda ... vdz, vdaa ..."""
    letters = string.ascii_lowercase
    suffixes = [*letters, *(first + second for first in letters for second in letters)]
    return next(f"{prefix}{suffix}" for suffix in suffixes if f"{prefix}{suffix}" not in used)


def domain(
    spec: GuestSpec,
    *,
    domain_type: str,
    cpu: tuple[str, t.Iterable[tuple[str, str]]],
    disks: t.Mapping[str, str],
    seed: str | None,
    mark: Mark,
    boot: Boot | None = None,
) -> ET.Element:
    """A new domain. `disks`: name -> path, in the spec's order; `cpu` as Platform.effective_cpu gives it."""
    kib = str(memory_of(spec.memory) // 1024)
    root = element(
        "domain",
        element("name", spec.name),
        element("uuid", spec.uuid),
        element("metadata", mark_element(mark)),
        element("memory", kib, unit="KiB"),
        element("currentMemory", kib, unit="KiB"),
        element("vcpu", str(vcpus_max(spec.vcpus)), placement="static", current=str(spec.vcpus)),
        _os(spec, domain_type, boot),
        _features(),
        _clock(),
        element("on_poweroff", "destroy"),
        element("on_reboot", "restart"),
        element("on_crash", "destroy"),
        _power_management(),
        type_=domain_type,
    )
    made_cpu = cpu_element(*cpu)
    if made_cpu is not None:
        root.append(made_cpu)
    root.append(_devices(spec, disks, seed))
    return root


def firmware_elements(firmware: str) -> tuple[dict[str, str], list[ET.Element]]:
    """Attributes and children of <os> that choose the firmware; libvirt picks the files (no Secure Boot)."""
    if firmware == "bios":
        return {}, []
    features = [element("feature", enabled="no", name=name) for name in ("enrolled-keys", "secure-boot")]
    return {"firmware": "efi"}, [element("firmware", *features)]


def boot_elements(boot: Boot) -> list[ET.Element]:
    """Children of <os> for a kernel from outside the disk; the firmware starts it in place of the disk."""
    parts = (("kernel", boot.kernel), ("initrd", boot.initrd), ("cmdline", boot.command_line))
    return [element(tag, text) for tag, text in parts]


def _os(spec: GuestSpec, domain_type: str, boot: Boot | None) -> ET.Element:
    made = element("os", element("type", "hvm"))
    if domain_type != "test":  # the simulator has a machine of its own
        made[0].attrib.update({"arch": ARCH, "machine": MACHINE})
        attributes, children = firmware_elements(spec.firmware)
        made.attrib.update(attributes)
        made.extend(children)
    if boot is not None:
        made.extend(boot_elements(boot))
    made.append(element("boot", dev="hd"))
    return made


def _features() -> ET.Element:
    return element("features", element("acpi"), element("apic"))


def _clock() -> ET.Element:
    return element(
        "clock",
        element("timer", name="rtc", tickpolicy="catchup"),
        element("timer", name="pit", tickpolicy="delay"),
        element("timer", name="hpet", present="no"),
        offset="utc",
    )


def _power_management() -> ET.Element:
    return element(
        "pm",
        element("suspend-to-mem", enabled="no"),
        element("suspend-to-disk", enabled="no"),
    )


def _devices(spec: GuestSpec, disks: t.Mapping[str, str], seed: str | None) -> ET.Element:
    devices = element("devices")
    used: set[str] = set()
    for name, path in disks.items():
        target = free_target(used)
        used.add(target)
        devices.append(disk_element(name, path, target))
    devices.append(drive_element(seed))
    devices.append(drive_controller())
    devices.append(element("controller", type_="usb", index="0", model="none"))
    devices.append(element("controller", type_="pci", index="0", model="pcie-root"))
    slots = len(disks) + len(spec.nics) + _OWN_SLOTS + SPARE_SLOTS
    for index in range(1, slots + 1):
        devices.append(element("controller", type_="pci", index=str(index), model="pcie-root-port"))
    devices.extend(nic_element(nic) for nic in spec.nics)
    devices.extend(_console(spec.name))
    channel = element("channel", element("target", type_="virtio", name="org.qemu.guest_agent.0"), type_="unix")
    devices.append(channel)
    devices.append(element("memballoon", element("stats", period="10"), model="virtio"))
    devices.append(element("rng", element("backend", "/dev/urandom", model="random"), model="virtio"))
    return devices


def _console(guest: str) -> list[ET.Element]:
    log = element("log", file=console_log(guest), append="on")
    serial = element("serial", log, element("target", type_="isa-serial", port="0"), type_="pty")
    console = element("console", element("target", type_="serial", port="0"), type_="pty")
    return [serial, console]
