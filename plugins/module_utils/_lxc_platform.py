# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt's LXC driver on this HostOS can run."""

from __future__ import annotations

import functools
import os
import platform
import typing as t
import xml.etree.ElementTree as ET

from . import _lxc_disk, _lxc_parse, _lxc_xml
from ._dialect import LXC
from ._driver import DriverError, Mark, Unsupported
from ._hostos import Acceleration
from ._kvm_parse import Boot, View
from ._kvm_platform import Platform
from ._kvm_xml import ARCH
from ._spec import CpuSpec, GuestSpec

#: Through which a HostOS asks for a loop device, one for each disk of each container that runs.
LOOP_CONTROL = "/dev/loop-control"
#: Capability -> why no container has it.
MISSING: dict[str, str] = {
    "save": "libvirt's LXC driver does not save memory",
    "live_disk": "libvirt's LXC driver cannot mount a disk in a container that runs",
    "live_disk_growth": "the file system of a container that runs is not grown",
    "live_move": "libvirt's LXC driver does not move containers that run; `cold` works",
    "live_move_local_disk": "libvirt's LXC driver does not move containers that run; `cold` works",
    "uefi": "a container has no firmware: its HostOS's kernel runs it",
    "overlay": "a container's root is a copy of the build's, not an overlay",
}


class LxcPlatform(Platform):
    """One HostOS with libvirt's LXC driver."""

    hypervisor = "lxc"
    dialect = LXC
    most_vcpus = _lxc_parse.MOST_VCPUS
    seed_inside = True

    @functools.cached_property
    def acceleration(self) -> Acceleration:
        if not os.path.exists(LOOP_CONTROL):
            return Acceleration(
                "none", f"there is no {LOOP_CONTROL}: load the module `loop`; containers' disks need it"
            )
        return Acceleration("lxc", "containers run on the HostOS's own kernel")

    @property
    def domain_type(self) -> str:
        return "lxc"

    @property
    def has_uefi(self) -> bool:
        return False

    def type_of(self, config: View) -> str:
        return config.domain_type

    def effective_cpu(self, cpu: CpuSpec) -> tuple[str, tuple[tuple[str, str], ...]]:
        return "default", ()

    def vcpus_max(self, vcpus: int) -> int:
        """<vcpu> itself: there is no room to be kept."""
        return vcpus

    def render(
        self,
        spec: GuestSpec,
        *,
        disks: t.Mapping[str, str],
        seed: str | None,
        mark: Mark,
        boot: Boot | None = None,
    ) -> ET.Element:
        return _lxc_xml.domain(spec, disks=disks, mark=mark)

    def refuse(self, spec: GuestSpec) -> None:
        """Unsupported if this HostOS cannot run a container like `spec`."""
        self._refuse_hypervisor(spec)
        who = f"guest {spec.name}"
        if platform.machine() != ARCH:
            raise Unsupported(f"{who}: this HostOS is {platform.machine()}; the lxc driver knows {ARCH} only")
        if spec.firmware == "uefi":
            raise Unsupported(
                f"{who}: firmware: found 'uefi'; {MISSING['uefi']} (capability 'uefi' is missing; kvm has it): use"
                " firmware: bios, which containers do not look at"
            )
        if spec.cpu.model != "default":
            raise Unsupported(
                f"{who}: cpu.model: found {spec.cpu.model!r}; a container sees the HostOS's own CPU: use default"
            )
        if spec.command_line is not None:
            raise Unsupported(
                f"{who}: its image says boot: kernel; a container boots none, for its HostOS's kernel runs it (kvm and"
                " xen have it): use an image with boot: disk"
            )
        _lxc_disk.require_tools(spec.name)

    def require(self) -> None:
        if self.acceleration.kind == "none":
            raise DriverError(f"no container can run on this HostOS: {self.acceleration.reason}")

    def host_cpu(self) -> ET.Element | None:
        return None

    @property
    def missing(self) -> t.Mapping[str, str]:
        return MISSING
