# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cold moves that libvirt does not make by itself: to another hypervisor, and between Xen HostOSes.

Disks, seed, MACs, uuid and mark go over; the domain is defined on the target and then undefined here. Between two
hypervisors it is made anew for the other one, from the spec: a domain's own XML means nothing there.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from . import _kvm_xml, _xen_xml
from ._dialect import DIALECTS, dialect_of
from ._driver import DriverError, Mark, MoveRequest
from ._kvm_connection import require_libvirt, told
from ._kvm_domain import persistent_xml, text_of
from ._kvm_mark import replace_mark
from ._kvm_move_target import Target
from ._kvm_parse import Boot
from ._qcow2 import ZSTD, read_header
from ._spec import GuestSpec

if t.TYPE_CHECKING:
    from ._kvm_move_plan import MovePlan


def crosses(hypervisor: str, request: MoveRequest) -> bool:
    """Whether a guest of this hypervisor is to go to another one."""
    return bool(request.hypervisor) and request.hypervisor != hypervisor


#: Between these a guest's disks mean the same.
_MACHINES = ("kvm", "xen")


def pair_refusal(hypervisor: str, request: MoveRequest) -> str | None:
    """Why nothing goes from this hypervisor to the target's; to be asked before the target is."""
    there = request.hypervisor
    if not crosses(hypervisor, request) or (hypervisor in _MACHINES and there in _MACHINES):
        return None
    return (
        f"it runs under {hypervisor} and {request.target} has {there}: machines and containers have other disks, so"
        " guests go between kvm and xen only: choose another target"
    )


def refusals(
    hypervisor: str, request: MoveRequest, live: bool, target: Target, builds: t.Iterable[str | None]
) -> list[str]:
    """Why a guest cannot go to another hypervisor. `builds`: paths of what its disks stand on."""
    there, spec = request.hypervisor, request.spec
    reasons = []
    if live:
        reasons.append(
            f"it runs under {hypervisor} and {request.target} has {there}: memory means nothing to another hypervisor;"
            " it can be shut down here and started there (mode: cold)"
        )
    if there == "xen":
        if spec.firmware == "uefi":
            reasons.append(f"its firmware is uefi, and {request.target} has xen, which lacks capability uefi")
        if spec.cpu.model != "default":
            reasons.append(
                f"its cpu_model is {spec.cpu.model!r}; under Xen guests see the HostOS's own CPU: use default"
            )
        reasons += [refusal for path in builds if (refusal := unreadable(path))]
        if not guest_kinds(target.connection) & {"xen", "xenpvh", "hvm"}:
            reasons.append(f"libvirt on {request.target} offers no kind of Xen guest: run oscarv.virt.hostos there")
    return reasons


def kernel_refusals(plan: MovePlan) -> list[str]:
    """Why a guest that boots a build's kernel from outside its disk cannot do so on the other hypervisor."""
    if plan.config.boot is None or plan.request.hypervisor != "xen" or plan.request.spec.xen_type != "hvm":
        return []
    return [
        "it boots its build's kernel from outside its disk, which xen_type: hvm cannot: use pvh or pv, or boot: disk"
    ]


def boot_there(plan: MovePlan) -> Boot | None:
    """What it boots now, in the words of the other hypervisor; what the definition wants since, `guest` brings."""
    boot = plan.config.boot
    if boot is None:
        return None
    here, there = dialect_of(plan.config.domain_type), DIALECTS[plan.request.hypervisor]
    added = here.command_line("")
    text = boot.command_line.removesuffix(added) if added else boot.command_line
    return boot._replace(command_line=there.command_line(text))


def unreadable(path: str | None) -> str:
    """Why Xen's QEMU cannot read a build; empty if it can."""
    header = read_header(path) if path else None
    if header is None or header.compression != ZSTD:
        return ""
    return (
        f"build {path} is compressed with zstd, which the QEMU of Xen (Debian's qemu-system-xen) cannot read: say"
        " compression: zlib for the image in the definition, then run oscarv.virt.image and oscarv.virt.rebuild"
    )


def guest_kinds(connection: t.Any) -> set[str]:
    """Kinds of guests (<os_type>) that the libvirt of this connection offers: hvm, xen (PV), xenpvh."""
    capabilities = ET.fromstring(connection.getCapabilities())
    return {found.text or "" for found in capabilities.findall("guest/os_type")}


def travel(plan: MovePlan, target: Target, mark: Mark) -> None:
    """Define the domain there, then undefine it here. An error may leave it on both sides, off: settle tells."""
    lib, domain = require_libvirt(), plan.domain
    if plan.crosses:
        xml = _rendered(plan, target, mark)
    else:
        xml = persistent_xml(domain)
        replace_mark(xml, mark)
    with told(plan.guest, f"define it on {target.host}"):
        target.connection.defineXML(text_of(xml))
    source = dialect_of(plan.config.domain_type)
    with told(plan.guest, "undefine it here"):
        domain.undefineFlags(source.undefine_flags(lib))


def _rendered(plan: MovePlan, target: Target, mark: Mark) -> ET.Element:
    """The domain as the target's own driver would make it."""
    boot = boot_there(plan)
    spec, disks = plan.request.spec, {disk.name: disk.path for disk in plan.disks}
    if plan.request.hypervisor == "xen":
        xen_type = spec.xen_type or ("pvh" if "xenpvh" in guest_kinds(target.connection) else "pv")
        return _xen_xml.domain(spec, xen_type=xen_type, disks=disks, seed=plan.seen.seed, mark=mark, boot=boot)
    if plan.request.hypervisor in DIALECTS:
        return _for_kvm(spec, plan.request.acceleration, disks, plan.seen.seed, mark, boot)
    raise DriverError(f"guest {plan.guest}: no guest can be moved to {plan.request.hypervisor!r}")


def _for_kvm(
    spec: GuestSpec, acceleration: str, disks: t.Mapping[str, str], seed: str | None, mark: Mark, boot: Boot | None
) -> ET.Element:
    """`acceleration`: what the target's hostos_info has found; /dev/kvm, which libvirt goes by, proves nothing."""
    works = acceleration == "kvm"
    model = spec.cpu.model
    if model == "default":
        model = "host-model" if works else "qemu64"
    cpu = (model, tuple(sorted(spec.cpu.features.items())))
    return _kvm_xml.domain(
        spec, domain_type="kvm" if works else "qemu", cpu=cpu, disks=disks, seed=seed, mark=mark, boot=boot
    )
