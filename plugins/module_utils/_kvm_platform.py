# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of domains this HostOS can run: KVM or emulation, firmware, CPU models."""

from __future__ import annotations

import functools
import platform
import typing as t
import xml.etree.ElementTree as ET

from ._driver import DriverError, Unsupported
from ._hostos import Acceleration, acceleration
from ._kvm_connection import is_simulator, told
from ._kvm_parse import parse
from ._spec import CpuSpec, GuestSpec

#: libvirt turns this alias into the newest version of the machine when it defines a guest, and keeps that version.
MACHINE = "q35"
ARCH = "x86_64"


class Platform:
    """One HostOS. What costs a call to libvirt is asked when it is first needed, and once."""

    def __init__(self, connection: t.Any, state_dir: str, emulation: str = "auto") -> None:
        """`emulation`: `auto` emulates where KVM does not work, `refuse` does not."""
        self._connection = connection
        self.simulator = is_simulator(connection)
        self._state_dir = state_dir
        self._emulation = emulation

    @functools.cached_property
    def acceleration(self) -> Acceleration:
        if self.simulator:
            return Acceleration("none", "this is libvirt's simulator: its guests do not run anything")
        return acceleration(self._state_dir)

    @property
    def domain_type(self) -> str:
        if self.simulator:
            return "test"
        return "kvm" if self.acceleration.kind == "kvm" else "qemu"

    @functools.cached_property
    def _domain_capabilities(self) -> ET.Element:
        with told("(any)", "ask libvirt what its guests can have"):
            return parse(self._connection.getDomainCapabilities(None, ARCH, MACHINE, self.domain_type, 0))

    @property
    def has_uefi(self) -> bool:
        values = self._domain_capabilities.findall("os/enum[@name='firmware']/value")
        return "efi" in [value.text for value in values]

    def effective_cpu(self, cpu: CpuSpec) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Mode or model, and features, that a domain gets for a spec's CPU.

        `default` is the host's own model under KVM. Under emulation it is qemu64: everything above it is emulated
        instruction by instruction, and guests boot a quarter slower.
        """
        if cpu.model != "default":
            return cpu.model, tuple(sorted(cpu.features.items()))
        if self.simulator:
            return "default", ()
        return ("host-model" if self.domain_type == "kvm" else "qemu64"), ()

    def refuse(self, spec: GuestSpec) -> None:
        """Unsupported if this HostOS cannot run a guest like `spec`."""
        if spec.hypervisor != "kvm":
            raise Unsupported(
                f"guest {spec.name}: hypervisor {spec.hypervisor!r} was asked of the kvm driver; place it on a HostOS"
                f" of a partition with hypervisor: {spec.hypervisor}"
            )
        if self.simulator:
            return
        if platform.machine() != ARCH:
            raise Unsupported(
                f"guest {spec.name}: this HostOS is {platform.machine()}; the kvm driver knows {ARCH} only"
            )
        if self.domain_type == "qemu" and self._emulation == "refuse":
            raise Unsupported(
                f"guest {spec.name}: KVM does not work on this HostOS ({self.acceleration.reason}); use another HostOS,"
                " or allow emulation (emulation: auto)"
            )
        if spec.firmware == "uefi" and not self.has_uefi:
            raise Unsupported(
                f"guest {spec.name}: firmware: found 'uefi'; capability 'uefi' is missing on this HostOS: install its"
                " UEFI firmware for guests (ovmf), or use firmware: bios"
            )
        self._refuse_cpu(spec)

    def _refuse_cpu(self, spec: GuestSpec) -> None:
        model = spec.cpu.model
        if model == "default":
            return
        if model in ("host-model", "host-passthrough"):
            mode = self._domain_capabilities.find(f"cpu/mode[@name='{model}']")
            if mode is None or mode.get("supported") != "yes":
                raise Unsupported(
                    f"guest {spec.name}: cpu.model: found {model!r}, which this HostOS ({self.domain_type}) cannot"
                    " give; use default, baseline or a model's name"
                )
            return
        models = self._domain_capabilities.findall("cpu/mode[@name='custom']/model")
        known = {entry.text: entry.get("usable", "unknown") for entry in models}
        if model not in known:
            raise Unsupported(
                f"guest {spec.name}: cpu.model: found {model!r}, which libvirt on this HostOS does not know"
            )

    def host_cpu(self) -> ET.Element | None:
        """The CPU that libvirt would give a guest as `host-model`; the input of a baseline."""
        mode = self._domain_capabilities.find("cpu/mode[@name='host-model']")
        return mode if mode is not None and mode.get("supported") == "yes" else None

    def require(self) -> None:
        """DriverError if nothing can run here at all."""
        if not self.simulator and self.acceleration.kind == "none":
            raise DriverError(f"no guest can run on this HostOS: {self.acceleration.reason}")
