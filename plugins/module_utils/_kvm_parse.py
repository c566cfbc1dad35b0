# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a libvirt domain's XML to plain values: the part of a domain that this collection manages."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t
import xml.etree.ElementTree as ET

from . import _lxc_parse
from ._paths import build_of_kernel

#: How many bytes libvirt's units are ("KB" is decimal there, "K" and "KiB" are not).
_UNITS = {"b": 1, "bytes": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS.update({unit + tail: 2 ** (10 * power) for power, unit in enumerate("KMGT", 1) for tail in ("", "iB")})

#: virtio-blk shows a guest at most so many characters of a serial.
_SERIAL_LENGTH = 20

#: In the running configuration only: keys whose change waits for a restart. A restart forgets it by itself.
PENDING_NAMESPACE = "urn:oscarv:virt:pending:1"
PENDING_PREFIX = "oscarvpending"
_PENDING = f"metadata/{{{PENDING_NAMESPACE}}}pending"


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk or CD-ROM drive of a domain. `name` is our name for it; None where it is not ours."""

    target: str  #: vda, sda, ...
    device: str  #: disk | cdrom | floppy | lun
    path: str | None  #: file; None for an empty drive and for what is not a file
    serial: str | None
    readonly: bool
    shareable: bool


@dataclasses.dataclass(frozen=True)
class Nic:
    mac: str
    bridge: str | None
    model: str | None
    mtu: int | None


class Boot(t.NamedTuple):
    """A build's kernel that a guest boots from outside its disk."""

    kernel: str  #: path
    initrd: str  #: path
    command_line: str


@dataclasses.dataclass(frozen=True)
class View:
    """What we manage of one configuration (persistent or running) of a domain. Sizes in bytes."""

    name: str
    uuid: str
    domain_type: str  #: kvm | qemu | test | xen
    vcpus: int
    vcpus_max: int
    memory: int  #: what the balloon leaves to the guest
    memory_max: int
    firmware: str  #: bios | uefi
    cpu: str  #: default | host-model | host-passthrough | maximum | a model name
    cpu_features: tuple[tuple[str, str], ...]
    machine: str
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    pending: tuple[str, ...]
    os_type: str = ""  #: hvm | linux, xen (Xen's PV) | xenpvh
    variables: str | None = None  #: file of its UEFI variables, once libvirt has chosen one
    console_log: str | None = None  #: file that its serial console is logged to
    boot: Boot | None = None  #: None: it boots its disk, or something that somebody else put there

    def disk(self, name: str) -> Disk | None:
        """Our disk of this name; the serial tells, so that an external snapshot does not hide it."""
        wanted = serial_of(name)
        ours = (disk for disk in self.disks if disk.device == "disk" and disk is not self.drive)
        return next((disk for disk in ours if disk.serial == wanted), None)

    def nic(self, mac: str) -> Nic | None:
        return next((nic for nic in self.nics if nic.mac == mac), None)

    @property
    def drive(self) -> Disk | None:
        """The CD-ROM drive that holds the seed, or held it; under Xen a read-only disk."""
        wanted = serial_of("seed")
        found = (disk for disk in self.disks if disk.serial == wanted and (disk.device == "cdrom" or disk.readonly))
        return next(found, None)


def serial_of(name: str) -> str:
    """A disk's serial: inside a Linux guest it is /dev/disk/by-id/virtio-SERIAL."""
    if len(name) <= _SERIAL_LENGTH:
        return name
    return name[: _SERIAL_LENGTH - 7] + "-" + hashlib.sha256(name.encode()).hexdigest()[:6]


def parse(text: str) -> ET.Element:
    return ET.fromstring(text)


def view(domain: ET.Element) -> View:
    """What `domain` (a parsed domain XML of libvirt's making) says."""
    memory_max = size_of(domain.find("memory"))
    current = domain.find("currentMemory")
    vcpu = domain.find("vcpu")
    vcpus_max = int((vcpu.text or "1") if vcpu is not None else 1)
    cpu, features = _cpu(domain.find("cpu"))
    os_type = domain.find("os/type")
    contained = domain.get("type") == "lxc"
    processors = _lxc_parse.processors(domain)
    pending = domain.find(_PENDING)
    return View(
        name=domain.findtext("name", ""),
        uuid=domain.findtext("uuid", ""),
        domain_type=domain.get("type", ""),
        vcpus=(processors if contained else None)
        or (int(vcpu.get("current", vcpus_max)) if vcpu is not None else vcpus_max),
        vcpus_max=_lxc_parse.MOST_VCPUS if contained else vcpus_max,
        memory=size_of(current) if current is not None else memory_max,
        memory_max=memory_max,
        firmware=_firmware(domain),
        cpu=cpu,
        cpu_features=features,
        machine=(os_type.get("machine", "") if os_type is not None else ""),
        disks=tuple(
            [_disk(element) for element in domain.findall("devices/disk")]
            + [_filesystem(element) for element in domain.findall("devices/filesystem[@type='file']")]
        ),
        nics=tuple(nic for nic in map(_nic, domain.findall("devices/interface")) if nic.mac),
        pending=tuple(pending.get("keys", "").split()) if pending is not None else (),
        os_type=((os_type.text or "") if os_type is not None else ""),
        variables=domain.findtext("os/nvram") or None,
        console_log=_console_log(domain),
        boot=boot_of(domain),
    )


def boot_of(domain: ET.Element) -> Boot | None:
    """The build's kernel that a domain boots; another kernel (pvgrub, one of somebody's own) is none."""
    kernel = domain.findtext("os/kernel")
    if kernel is None or build_of_kernel(kernel) is None:
        return None
    return Boot(kernel, domain.findtext("os/initrd", ""), domain.findtext("os/cmdline", ""))


def restart_required(config: View, live: View) -> bool:
    """Whether what runs differs from the persistent configuration in something that only a restart brings.

    Memory counts only where the balloon cannot reach it: how far a guest follows its balloon is the guest's affair.
    """
    return (
        bool(live.pending)
        or config.vcpus != live.vcpus
        or config.memory > live.memory_max
        or {nic.mac: (nic.bridge, nic.mtu) for nic in config.nics}
        != {nic.mac: (nic.bridge, nic.mtu) for nic in live.nics}
        or {disk.target: disk.path for disk in config.disks} != {disk.target: disk.path for disk in live.disks}
    )


def size_of(element: ET.Element | None) -> int:
    """Bytes of a libvirt size element (KiB where it has no unit)."""
    if element is None:
        return 0
    return int(element.text or 0) * _UNITS[element.get("unit", "KiB")]


def _console_log(domain: ET.Element) -> str | None:
    log = domain.find("devices/serial/log")
    return log.get("file") if log is not None else None


def _firmware(domain: ET.Element) -> str:
    os_element = domain.find("os")
    loader = domain.find("os/loader")
    if os_element is not None and os_element.get("firmware") == "efi":
        return "uefi"
    return "uefi" if loader is not None and loader.get("type") == "pflash" else "bios"


def _cpu(element: ET.Element | None) -> tuple[str, tuple[tuple[str, str], ...]]:
    if element is None:
        return "default", ()
    features = tuple(
        sorted((feature.get("name", ""), feature.get("policy", "require")) for feature in element.findall("feature"))
    )
    mode = element.get("mode", "custom")
    return (element.findtext("model") or "default", features) if mode == "custom" else (mode, features)


def _disk(element: ET.Element) -> Disk:
    source = element.find("source")
    target = element.find("target")
    return Disk(
        target=target.get("dev", "") if target is not None else "",
        device=element.get("device", "disk"),
        path=source.get("file") if source is not None else None,
        serial=element.findtext("serial"),
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
    )


def _filesystem(element: ET.Element) -> Disk:
    """A container's disk: a file that is mounted. Its place tells which."""
    source, target = element.find("source"), element.find("target")
    mount = target.get("dir", "") if target is not None else ""
    name = _lxc_parse.name_of(mount)
    return Disk(
        target=mount,
        device="disk",
        path=source.get("file") if source is not None else None,
        serial=serial_of(name) if name else None,
        readonly=element.find("readonly") is not None,
        shareable=False,
    )


def _nic(element: ET.Element) -> Nic:
    values: dict[str, t.Any] = {}
    for tag in ("mac", "source", "model", "mtu"):
        child = element.find(tag)
        values[tag] = dict(child.attrib) if child is not None else {}
    mtu = values["mtu"].get("size")
    return Nic(
        mac=values["mac"].get("address", "").lower(),
        bridge=values["source"].get("bridge"),
        model=values["model"].get("type"),
        mtu=int(mtu) if mtu else None,
    )
