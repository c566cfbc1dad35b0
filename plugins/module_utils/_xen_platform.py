# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xen on this HostOS can run: which types of guests, and what its build of the hypervisor leaves out."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shutil
import subprocess
import typing as t
import xml.etree.ElementTree as ET

from . import _xen_xml
from ._dialect import XEN
from ._driver import DriverError, Mark, Unsupported
from ._hostos import Acceleration
from ._kvm_move_across import unreadable
from ._kvm_parse import Boot, View, boot_of
from ._kvm_platform import Platform
from ._spec import GuestSpec

HYPERVISOR_TYPE = "/sys/hypervisor/type"
#: Why Debian's Xen cannot track which pages of a PV guest are written.
NO_SHADOW = (
    "Xen here is built without shadow paging (Debian's is), so it cannot log which pages of a PV guest change; `cold`"
    " works, and so does xen_type: pvh"
)


@dataclasses.dataclass(frozen=True)
class XenInfo:
    """What `xl info` says, as far as it matters here. Memory in bytes."""

    caps: frozenset[str]  #: virt_caps: pv hvm hap shadow ...
    processors: int
    memory: int


def parse_info(text: str) -> XenInfo:
    """From the output of `xl info`: lines of `key : value`."""
    pairs = (line.partition(":") for line in text.splitlines())
    found = {key.strip(): value.strip() for key, _colon, value in pairs}
    return XenInfo(
        caps=frozenset(found.get("virt_caps", "").split()),
        processors=int(found.get("nr_cpus") or 1),
        memory=int(found.get("total_memory") or 0) * 2**20,
    )


class XenPlatform(Platform):
    """One Xen HostOS."""

    hypervisor = "xen"
    dialect = XEN
    type_key = "xen_type"
    most_vcpus = _xen_xml.MOST_VCPUS
    simulator = False

    def __init__(self, connection: t.Any, state_dir: str, emulation: str = "auto") -> None:
        super().__init__(connection, state_dir, emulation)
        self.simulator = False

    @functools.cached_property
    def info(self) -> XenInfo:
        """DriverError where the toolstack does not answer."""
        try:
            done = subprocess.run(["xl", "info"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise DriverError("xl is missing on this HostOS: install xen-utils; oscarv.virt.hostos does it") from None
        if done.returncode:
            raise DriverError(f"Xen does not answer (xl info: {done.stderr.strip()}): did this HostOS boot into Xen?")
        return parse_info(done.stdout)

    @functools.cached_property
    def acceleration(self) -> Acceleration:
        path = pathlib.Path(HYPERVISOR_TYPE)
        if not path.exists() or path.read_text(encoding="ascii").strip() != "xen":
            return Acceleration("none", "this machine did not boot into Xen: run oscarv.virt.hostos")
        return Acceleration("xen", f"this is dom0 of Xen with {' '.join(sorted(self.info.caps))}")

    @property
    def domain_type(self) -> str:
        return "xen"

    @property
    def has_uefi(self) -> bool:
        return False

    @property
    def default_type(self) -> str:
        """PVH where the CPU pages for guests (HAP), else PV, which needs nothing of the CPU."""
        return "pvh" if "hap" in self.info.caps else "pv"

    def type_for(self, spec: GuestSpec) -> str:
        return spec.xen_type or self.default_type

    def type_of(self, config: View) -> str:
        return {"xenpvh": "pvh", "hvm": "hvm"}.get(config.os_type, "pv")

    def set_type(self, domain: ET.Element, wanted: str) -> None:
        """Another type: its <os> and <features>, and nothing that only the old one had."""
        boot = boot_of(domain)
        for tag in ("os", "features", "bootloader", "bootloader_args"):
            for found in domain.findall(tag):
                domain.remove(found)
        for place, made in enumerate((_xen_xml.os_element(wanted, boot), _xen_xml.features_element(wanted))):
            if made is not None:
                domain.insert(3 + place, made)

    def effective_cpu(self, cpu: t.Any) -> tuple[str, tuple[tuple[str, str], ...]]:
        return "default", ()

    def render(
        self,
        spec: GuestSpec,
        *,
        disks: t.Mapping[str, str],
        seed: str | None,
        mark: Mark,
        boot: Boot | None = None,
    ) -> ET.Element:
        return _xen_xml.domain(spec, xen_type=self.type_for(spec), disks=disks, seed=seed, mark=mark, boot=boot)

    def refuse(self, spec: GuestSpec) -> None:
        """Unsupported if this HostOS cannot run a guest like `spec`."""
        self._refuse_hypervisor(spec)
        who = f"guest {spec.name}"
        if spec.firmware == "uefi":
            raise Unsupported(
                f"{who}: firmware: found 'uefi'; Xen guests here boot by pvgrub or hvmloader (capability 'uefi' is"
                " missing; kvm has it): use firmware: bios"
            )
        if spec.cpu.model != "default":
            raise Unsupported(
                f"{who}: cpu.model: found {spec.cpu.model!r}; under Xen a guest sees the HostOS's own CPU: use default"
            )
        wanted = self.type_for(spec)
        needs = {"pv": {"pv"}, "pvh": {"hvm"}, "hvm": {"hvm"}}[wanted]
        if not needs <= self.info.caps or (wanted != "pv" and not self.info.caps & {"hap", "shadow"}):
            raise Unsupported(
                f"{who}: xen_type: found {wanted!r}; Xen here has {' '.join(sorted(self.info.caps))}, and it needs"
                " hvm with hap or shadow: switch virtualisation on in the firmware, or use xen_type: pv"
            )
        grub = _xen_xml.GRUB.get(wanted)
        if spec.command_line is not None:
            self._refuse_kernel(who, wanted)
        elif grub and not pathlib.Path(grub).exists():
            raise Unsupported(f"{who}: {grub} is missing: install grub-xen-host; oscarv.virt.hostos does it")

    @staticmethod
    def _refuse_kernel(who: str, wanted: str) -> None:
        if wanted == "hvm":
            raise Unsupported(
                f"{who}: xen_type: found 'hvm', and its image says boot: kernel; hvmloader boots the guest's disk here"
                " (pv, pvh and kvm have it): use xen_type: pvh or pv, or boot: disk for the image"
            )

    def refuse_build(self, guest: str, path: str) -> None:
        """DriverError for a build that Xen's QEMU cannot read: Debian builds it without zstd."""
        why = unreadable(path)
        if why:
            raise DriverError(f"guest {guest}: {why}")

    def host_cpu(self) -> ET.Element | None:
        return None

    @property
    def most_live_vcpus(self) -> int:
        """libvirt gives a running guest no more than the machine has, though one may be started with more."""
        return self.info.processors

    @property
    def missing(self) -> t.Mapping[str, str]:
        """Capability -> why a guest of the default type has it not here."""
        return missing_for(self.default_type, self.info.caps)


def missing_for(xen_type: str, caps: t.Collection[str]) -> dict[str, str]:
    """Capability -> why a guest of this type has it not on a hypervisor with these `virt_caps`."""
    found = {
        "live_disk_growth": "libvirt's libxl driver does not resize the disk of a running guest",
        "live_move_local_disk": "libxl copies no disks: use a shared pool, or move the guest cold",
        "uefi": "guests boot by pvgrub or hvmloader",
    }
    if xen_type == "pv" and "shadow" not in caps:
        found["live_move"] = NO_SHADOW
    return found


def running_uuids() -> set[str]:
    """Of every domain that Xen itself knows, whoever made it, dying ones included."""
    if shutil.which("xl") is None:
        return set()
    done = subprocess.run(["xl", "vm-list"], capture_output=True, text=True, check=False)
    return {line.split()[0].lower() for line in done.stdout.splitlines()[1:] if line.strip()}
