# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of domains this HostOS can run: KVM or emulation, firmware, CPU models."""

from __future__ import annotations

import functools
import platform
import typing as t
import xml.etree.ElementTree as ET

from ._dialect import KVM, Dialect
from ._driver import DriverError, Mark, Unsupported
from ._hostos import Acceleration, acceleration
from ._kvm_connection import is_simulator, told
from ._kvm_parse import Boot, View, parse
from ._kvm_xml import ARCH, MACHINE, MOST_VCPUS
from ._kvm_xml import domain as domain_xml
from ._kvm_xml import vcpus_max as room_for_vcpus
from ._spec import CpuSpec, GuestSpec


class Platform:
    """One HostOS. What costs a call to libvirt is asked when it is first needed, and once."""

    hypervisor = "kvm"
    dialect: Dialect = KVM
    #: What a difference between kinds of domains is called.
    type_key = "acceleration"
    most_vcpus = MOST_VCPUS
    #: The first boot is told by files in the root disk, not by a seed of its own.
    seed_inside = False

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

    @property
    def most_live_vcpus(self) -> int:
        """How many vCPUs a running guest can be given at all."""
        return self.most_vcpus

    @property
    def missing(self) -> t.Mapping[str, str]:
        """Capability -> why this hypervisor has it not here, whatever is installed."""
        return {}

    def type_for(self, spec: GuestSpec) -> str:
        """The kind of domain that `spec` gets."""
        return self.domain_type

    def type_of(self, config: View) -> str:
        """The kind of domain that is there."""
        return config.domain_type

    def set_type(self, domain: ET.Element, wanted: str) -> None:
        """Make a domain's configuration one of this kind."""
        domain.set("type", wanted)

    def vcpus_max(self, vcpus: int) -> int:
        """How many vCPUs a guest can be given while it runs."""
        return min(self.most_vcpus, room_for_vcpus(vcpus))

    def render(
        self,
        spec: GuestSpec,
        *,
        disks: t.Mapping[str, str],
        seed: str | None,
        mark: Mark,
        boot: Boot | None = None,
    ) -> ET.Element:
        """A new domain. `disks`: name -> path, in the spec's order."""
        cpu = self.effective_cpu(spec.cpu)
        return domain_xml(spec, domain_type=self.domain_type, cpu=cpu, disks=disks, seed=seed, mark=mark, boot=boot)

    def refuse_live(self, capability: str, guest: str, action: str) -> None:
        """Unsupported where a running guest cannot have this."""
        if capability in self.missing:
            raise Unsupported(
                f"guest {guest}: cannot {action} while it runs: capability {capability} is missing on this HostOS"
                f" ({self.missing[capability]}): stop it first (state: stopped)"
            )

    def refuse_build(self, guest: str, path: str) -> None:
        """DriverError for a build that this hypervisor cannot read."""

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
        self._refuse_hypervisor(spec)
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

    def _refuse_hypervisor(self, spec: GuestSpec) -> None:
        if spec.hypervisor != self.hypervisor:
            raise Unsupported(
                f"guest {spec.name}: hypervisor {spec.hypervisor!r} was asked of the {self.hypervisor} driver; place it"
                f" on a HostOS of a partition with hypervisor: {spec.hypervisor}"
            )

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
