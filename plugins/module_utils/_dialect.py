# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between the hypervisors that libvirt drives. A domain's own XML tells which one it is.

The files `_kvm_*` hold what both share, which is nearly everything; here is where they part.
"""

from __future__ import annotations

import abc
import time
import typing as t
import xml.etree.ElementTree as ET

from . import _kvm_xml, _lxc_xml, _xen_xml
from ._driver import DriverError
from ._kvm_parse import Boot, serial_of
from ._kvm_xml import element
from ._lxc_parse import PERIOD, mount_of
from ._lxc_process import is_heard, power_off_systemd, processes_of
from ._paths import CONTAINER_DISK, kernel_paths
from ._spec import GuestSpec, NicSpec

_BOOT = ("kernel", "initrd", "cmdline")

#: How often a container is started that is gone at once or that libvirt loses sight of, seconds until libvirt has
#: connected to it, and until it has heard that one has ended.
_STARTS, _HEARD, _NEWS = 3, 10.0, 2.0


class Dialect(abc.ABC):
    """One hypervisor's way of saying things to libvirt."""

    hypervisor: t.ClassVar[str]
    scheme: t.ClassVar[str]  #: of libvirt's URIs
    prefix: t.ClassVar[str]  #: of targets of disks
    tells_hypervisor: t.ClassVar[str]  #: what virConnectGetVersion is the version of
    #: Whether a NIC of a running guest can be connected to another bridge, without taking it out.
    reconnects: t.ClassVar[bool]
    #: libvirt moves a stopped domain's definition by itself.
    offline_migration: t.ClassVar[bool]
    #: The memory of a paused guest can be saved as it is.
    saves_paused: t.ClassVar[bool]
    #: A guest can be started so that it is paused from the beginning.
    starts_paused: t.ClassVar[bool] = True
    #: A running guest can be left fewer vCPUs than it has.
    unplugs: t.ClassVar[bool] = False
    renames: t.ClassVar[bool] = True

    @abc.abstractmethod
    def nic(self, nic: NicSpec) -> ET.Element:
        """<interface> of a NIC."""

    @abc.abstractmethod
    def disk(self, name: str, path: str, target: str) -> ET.Element:
        """<disk> of a disk file."""

    @abc.abstractmethod
    def put_seed(self, domain: ET.Element, path: str | None) -> None:
        """Insert a seed, or (None) take it out, in a persistent configuration."""

    @abc.abstractmethod
    def command_line(self, text: str) -> str:
        """The command line of a build's kernel as this hypervisor's guests get it."""

    @abc.abstractmethod
    def put_boot(self, domain: ET.Element, boot: Boot | None) -> None:
        """Boot a build's kernel, or (None) the disk, in a persistent configuration."""

    @abc.abstractmethod
    def shutdown_flags(self, lib: t.Any) -> int:
        """How a guest is asked to shut down."""

    def disk_kind(self, format_: str) -> str:
        """How the name of a disk of this format ends."""
        return format_

    def ask(self, domain: t.Any, lib: t.Any) -> None:
        """Ask a guest to shut down."""
        domain.shutdownFlags(self.shutdown_flags(lib))

    def start(self, domain: t.Any, flags: int) -> None:
        """Start a guest of this HostOS."""
        domain.createWithFlags(flags)

    def has_ended(self, domain: t.Any) -> bool:
        """Whether a guest of this HostOS does not run any more."""
        return not domain.isActive()

    def set_vcpus(self, domain: ET.Element, vcpus: int) -> None:
        """Say in a persistent configuration how many of its vCPUs a guest is given."""
        found = domain.find("vcpu")
        if found is not None:
            found.set("current", str(vcpus))

    def plug(self, domain: t.Any, vcpus: int, lib: t.Any) -> None:
        """Give a running guest so many vCPUs."""
        domain.setVcpusFlags(vcpus, lib.VIR_DOMAIN_AFFECT_LIVE)

    def find_disk(self, domain: ET.Element, name: str) -> ET.Element | None:
        """Our disk of this name; never the seed, which is a disk of that serial under Xen."""
        wanted, seed = serial_of(name), find_seed(domain)
        for disk in domain.findall("devices/disk"):
            if disk is not seed and disk.get("device", "disk") == "disk" and disk.findtext("serial") == wanted:
                return disk
        return None

    @abc.abstractmethod
    def undefine_flags(self, lib: t.Any) -> int:
        """What libvirt shall forget with the domain."""


class Kvm(Dialect):
    hypervisor = "kvm"
    scheme = "qemu"
    prefix = "vd"
    tells_hypervisor = "qemu"
    reconnects = True
    offline_migration = True
    saves_paused = True

    def nic(self, nic: NicSpec) -> ET.Element:
        return _kvm_xml.nic_element(nic)

    def disk(self, name: str, path: str, target: str) -> ET.Element:
        return _kvm_xml.disk_element(name, path, target)

    def put_seed(self, domain: ET.Element, path: str | None) -> None:
        """The drive stays, empty."""
        devices = _devices(domain)
        drive = find_seed(domain)
        if drive is None:
            if path is not None:
                devices.append(_kvm_xml.drive_element(path))
                if devices.find("controller[@type='scsi']") is None:
                    devices.append(_kvm_xml.drive_controller())
            return
        for source in drive.findall("source"):
            drive.remove(source)
        if path is not None:
            drive.insert(1, element("source", file=path))

    def command_line(self, text: str) -> str:
        return text

    def put_boot(self, domain: ET.Element, boot: Boot | None) -> None:
        system = _system(domain)
        if boot is not None:
            system.extend(_kvm_xml.boot_elements(boot))

    def shutdown_flags(self, lib: t.Any) -> int:
        return int(lib.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def undefine_flags(self, lib: t.Any) -> int:
        """Saved memory, snapshots' and checkpoints' descriptions, UEFI variables."""
        kept = ("MANAGED_SAVE", "SNAPSHOTS_METADATA", "NVRAM", "CHECKPOINTS_METADATA")
        return sum(int(getattr(lib, f"VIR_DOMAIN_UNDEFINE_{name}")) for name in kept)


class Xen(Dialect):
    hypervisor = "xen"
    scheme = "xen"
    prefix = _xen_xml.PREFIX
    tells_hypervisor = "xen"
    reconnects = False
    offline_migration = False
    saves_paused = False

    def nic(self, nic: NicSpec) -> ET.Element:
        return _xen_xml.nic_element(nic)

    def disk(self, name: str, path: str, target: str) -> ET.Element:
        return _xen_xml.disk_element(name, path, target)

    def put_seed(self, domain: ET.Element, path: str | None) -> None:
        """A disk that comes and goes."""
        devices, seed = _devices(domain), find_seed(domain)
        if seed is not None:
            devices.remove(seed)
        if path is not None:
            devices.append(_xen_xml.seed_element(path))

    def command_line(self, text: str) -> str:
        """With the console of PV and PVH guests as the last, which is /dev/console."""
        return text + _xen_xml.CONSOLE

    def put_boot(self, domain: ET.Element, boot: Boot | None) -> None:
        """Without a build's kernel pvgrub takes its place."""
        xen_type = _xen_xml.xen_type_of(domain)
        made = _xen_xml.os_element(xen_type, boot)
        system = _system(domain)
        system.extend(child for child in made if child.tag in _BOOT)

    def shutdown_flags(self, lib: t.Any) -> int:
        """Through XenStore, which every Linux guest hears; libxl tries the ACPI button where that fails."""
        return 0

    def undefine_flags(self, lib: t.Any) -> int:
        """libxl refuses flags that it does not know, and knows this one."""
        return int(lib.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


class Lxc(Dialect):
    hypervisor = "lxc"
    scheme = "lxc"
    prefix = ""
    tells_hypervisor = "lxc"
    reconnects = False
    offline_migration = False
    saves_paused = False
    starts_paused = False
    unplugs = True
    renames = False

    def nic(self, nic: NicSpec) -> ET.Element:
        return _lxc_xml.nic_element(nic)

    def disk(self, name: str, path: str, target: str) -> ET.Element:
        return _lxc_xml.disk_element(name, path)

    def put_seed(self, domain: ET.Element, path: str | None) -> None:
        """There is none: the root disk holds what the first boot is told."""

    def command_line(self, text: str) -> str:
        raise NotImplementedError("a container boots no kernel")

    def put_boot(self, domain: ET.Element, boot: Boot | None) -> None:
        """It stays: a container boots no kernel, and `LxcPlatform.refuse` refuses one."""

    def disk_kind(self, format_: str) -> str:
        """A file system for every format: a container has no machine that could read a disk."""
        return CONTAINER_DISK

    def shutdown_flags(self, lib: t.Any) -> int:
        return int(lib.VIR_DOMAIN_SHUTDOWN_INITCTL)

    def ask(self, domain: t.Any, lib: t.Any) -> None:
        """systemd takes a signal for it; another init is asked through its pipe."""
        if not power_off_systemd(domain.UUIDString()):
            domain.shutdownFlags(self.shutdown_flags(lib))

    def start(self, domain: t.Any, flags: int) -> None:
        """Again where it is gone at once, or out of libvirt's sight: nothing has happened in it yet."""
        for _attempt in range(_STARTS):
            domain.createWithFlags(flags)
            # libvirt is ready before the init has its environment, by which it is known.
            _within(_HEARD, lambda: not domain.isActive() or _is_up(domain))
            if domain.isActive() and _is_up(domain):
                return
            if domain.isActive():
                domain.destroy()
        raise DriverError(
            f"guest {domain.name()}: started {_STARTS} times, and each time it ended at once or libvirt lost sight of"
            f" it: see /var/log/libvirt/lxc/{domain.name()}.log; where that tells nothing, restart libvirtd"
        )

    def has_ended(self, domain: t.Any) -> bool:
        """libvirt may not know; it is told then."""
        if not domain.isActive():
            return True
        if processes_of(domain.UUIDString()):
            return False
        if _within(_NEWS, lambda: not domain.isActive()):
            return True
        domain.destroy()
        return True

    def undefine_flags(self, lib: t.Any) -> int:
        """libvirt keeps nothing more of a container, and refuses flags."""
        return 0

    def set_vcpus(self, domain: ET.Element, vcpus: int) -> None:
        _lxc_xml.set_processors(domain, vcpus)

    def plug(self, domain: t.Any, vcpus: int, lib: t.Any) -> None:
        limits = {"vcpu_period": PERIOD, "vcpu_quota": PERIOD * vcpus}
        domain.setSchedulerParametersFlags(limits, lib.VIR_DOMAIN_AFFECT_LIVE)

    def find_disk(self, domain: ET.Element, name: str) -> ET.Element | None:
        for found in domain.findall("devices/filesystem"):
            target = found.find("target")
            if target is not None and target.get("dir") == mount_of(name):
                return found
        return None


KVM: Dialect = Kvm()
LXC: Dialect = Lxc()
XEN: Dialect = Xen()
#: By the word that definitions use.
DIALECTS = {dialect.hypervisor: dialect for dialect in (KVM, XEN, LXC)}


def dialect_of(domain_type: str) -> Dialect:
    """The dialect of a domain whose XML begins <domain type='...'>."""
    return DIALECTS.get(domain_type, KVM)


def _within(seconds: float, condition: t.Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True


def _is_up(domain: t.Any) -> bool:
    """Whether a container has processes, and libvirt would hear of their end."""
    return is_heard(domain.name()) and bool(processes_of(domain.UUIDString()))


def find_seed(domain: ET.Element) -> ET.Element | None:
    """The drive or the read-only disk that holds the seed."""
    for disk in domain.findall("devices/disk"):
        readonly = disk.get("device") == "cdrom" or disk.find("readonly") is not None
        if readonly and disk.findtext("serial") == serial_of("seed"):
            return disk
    return None


def boot_for(hypervisor: str, spec: GuestSpec, directory: str) -> Boot | None:
    """What a guest like `spec` boots in place of its disk. `directory`: of the pool of its root disk."""
    if spec.command_line is None or spec.root.build_id is None:
        return None
    kernel, initrd = kernel_paths(directory, spec.root.build_id)
    return Boot(kernel, initrd, DIALECTS[hypervisor].command_line(spec.command_line))


def _system(domain: ET.Element) -> ET.Element:
    """<os> without what it boots from outside the disk."""
    found = domain.find("os")
    system = found if found is not None else ET.SubElement(domain, "os")
    for child in [child for child in system if child.tag in _BOOT]:
        system.remove(child)
    return system


def _devices(domain: ET.Element) -> ET.Element:
    found = domain.find("devices")
    return found if found is not None else ET.SubElement(domain, "devices")
