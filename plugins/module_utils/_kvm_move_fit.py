# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the target run this guest as it is: machine, accelerator, CPU; and can it be sent there encrypted?"""

from __future__ import annotations

import pathlib
import re
import typing as t
import xml.etree.ElementTree as ET

from ._driver import MoveRequest
from ._kvm_connection import require_libvirt
from ._kvm_domain import text_of
from ._kvm_move_across import guest_kinds
from ._kvm_move_target import Target

QEMU_CONF = "/etc/libvirt/qemu.conf"
#: Where QEMU's certificates are unless qemu.conf says otherwise.
QEMU_PKI = "/etc/pki/qemu"
#: qemu.conf's keys for that directory, the first one that is set counts.
_PKI_KEYS = ("migrate_tls_x509_cert_dir", "default_tls_x509_cert_dir")


def platform_refusals(source: t.Any, target: Target, xml: ET.Element, *, live: bool) -> list[str]:
    """Why the target's QEMU cannot run this domain. `xml`: what runs; of a stopped domain its configuration."""
    lib = require_libvirt()
    kind = xml.get("type", "")
    if kind == "lxc":
        if "exe" in guest_kinds(target.connection):
            return []
        return [f"libvirt on {target.host} runs no containers: run oscarv.virt.hostos there"]
    if kind == "xen":
        wanted = xml.findtext("os/type", "").replace("linux", "xen")
        if wanted in guest_kinds(target.connection):
            return []
        return [f"libvirt on {target.host} does not offer guests of type {wanted}: is virtualisation on there?"]
    machine_type = xml.find("os/type")
    attributes = machine_type.attrib if machine_type is not None else {}
    arch, machine = attributes.get("arch"), attributes.get("machine")
    try:
        target.connection.getDomainCapabilities(None, arch, machine, kind, 0)
    except lib.libvirtError as error:
        return [f"{target.host} cannot run its kind of domain ({kind}, {arch}, {machine}): {error}"]
    cpu = xml.find("cpu")
    if cpu is None or (cpu.get("mode", "custom") != "custom" and not live):
        return []  # the target gives it a CPU of its own when it starts
    if cpu.get("mode") in ("host-passthrough", "maximum"):
        cpu = _own_cpu(source, arch, machine, kind)
        if cpu is None:
            return []

    def fits(connection: t.Any) -> bool:
        found = connection.compareHypervisorCPU(None, arch, machine, kind, text_of(cpu), 0)
        return bool(found != lib.VIR_CPU_COMPARE_INCOMPATIBLE)

    # An emulated CPU may lack features of its model on every HostOS, also on this one, where the guest runs.
    if fits(target.connection) or not fits(source):
        return []
    model = cpu.findtext("model") or cpu.get("mode", "")
    return [
        f"the CPU of {target.host} cannot do what the guest's has ({model}): use cpu_model: baseline, or another target"
    ]


def _own_cpu(source: t.Any, arch: str | None, machine: str | None, kind: str) -> ET.Element | None:
    """This HostOS's CPU as libvirt describes it to guests."""
    capabilities = ET.fromstring(source.getDomainCapabilities(None, arch, machine, kind, 0))
    mode = capabilities.find("cpu/mode[@name='host-model']")
    if mode is None or mode.get("supported") != "yes":
        return None
    cpu = ET.Element("cpu", mode="custom", match="exact")
    cpu.extend(mode)
    return cpu


def tls_refusals(request: MoveRequest, live: bool) -> list[str]:
    """A live move needs QEMU's certificates; that libvirt's are there, the connection has proved."""
    if request.plaintext or not live:
        return []
    folder = qemu_pki(QEMU_CONF)
    missing = [name for name in ("ca-cert.pem", "client-cert.pem", "client-key.pem") if not (folder / name).is_file()]
    if not missing:
        return []
    return [
        f"memory and disks cannot be encrypted: {folder} lacks {', '.join(missing)}; run oscarv.virt.hostos, or"
        " consent to plaintext: true"
    ]


def qemu_pki(config: str) -> pathlib.Path:
    """The directory of QEMU's migration certificates as `config` (qemu.conf) has it."""
    path = pathlib.Path(config)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for key in _PKI_KEYS:
        found = re.findall(rf'^\s*{key}\s*=\s*"([^"]+)"', text, re.MULTILINE)
        if found:
            return pathlib.Path(found[-1])
    return pathlib.Path(QEMU_PKI)
