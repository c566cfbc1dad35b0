# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What KVM can do on this HostOS, and the CPU that all of several HostOSes can give."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._driver import CAPABILITIES, Capability
from ._kvm_connection import require_libvirt, told
from ._kvm_domain import text_of
from ._kvm_parse import parse
from ._kvm_platform import Platform
from ._kvm_xml import ARCH, MACHINE

#: What libvirt's simulator does not have.
_REAL_ONLY = (
    "live_nic",
    "live_disk",
    "live_disk_growth",
    "cold_move",
    "live_move",
    "live_move_local_disk",
    "overlay",
    "rebuild",
)


def capabilities(platform: Platform, missing: t.Mapping[str, str] | None = None) -> dict[str, Capability]:
    """One entry for each of CAPABILITIES. `missing`: what one guest lacks; None: what guests lack by default."""
    missing = platform.missing if missing is None and not platform.simulator else missing or {}
    found = {name: Capability(True) for name in CAPABILITIES}
    if platform.simulator:
        reason = "libvirt's simulator has neither files nor processes"
        found.update({name: Capability(False, reason) for name in (*_REAL_ONLY, "uefi")})
    elif platform.acceleration.kind == "none":
        found = {name: Capability(False, platform.acceleration.reason) for name in CAPABILITIES}
    elif missing:
        found.update({name: Capability(False, reason) for name, reason in missing.items()})
    elif not platform.has_uefi:
        found["uefi"] = Capability(False, "no UEFI firmware for guests is installed (Debian: ovmf; EL: edk2-ovmf)")
    return found


def host_cpu(platform: Platform) -> dict[str, t.Any]:
    """{model, features, xml} of the CPU that a guest gets as `host-model`; `xml` is the input of `baseline`."""
    mode = None if platform.simulator else platform.host_cpu()
    if mode is None:
        return {"model": None, "features": {}, "xml": None}
    cpu = ET.Element("cpu", {"mode": "custom", "match": "exact"})
    cpu.extend(mode)
    return {**_plain(cpu), "xml": text_of(cpu)}


def baseline(connection: t.Any, platform: Platform, cpus: t.Sequence[str]) -> dict[str, t.Any]:
    """{model, features} of the richest CPU that all HostOSes of these `xml` can give a guest that shall move alive."""
    lib = require_libvirt()
    with told("(any)", "find the CPU that all HostOSes have"):
        text = connection.baselineHypervisorCPU(
            None, ARCH, MACHINE, platform.domain_type, list(cpus), lib.VIR_CONNECT_BASELINE_CPU_MIGRATABLE
        )
    return _plain(parse(text))


def _plain(cpu: ET.Element) -> dict[str, t.Any]:
    features = {feature.get("name", ""): feature.get("policy", "require") for feature in cpu.findall("feature")}
    return {"model": cpu.findtext("model"), "features": dict(sorted(features.items()))}
