# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs. A NIC is its MAC; one that neither spec nor mark knows was added by somebody, and stays."""

from __future__ import annotations

import functools
import os

from . import _kvm_edit as edit
from ._dialect import dialect_of
from ._difference import LIVE, RESTART
from ._driver import DriverError
from ._kvm_connection import require_libvirt, told
from ._kvm_domain import running_xml, text_of
from ._kvm_parse import Nic
from ._kvm_power import lookup
from ._kvm_world import Phase, Plan
from ._spec import NicSpec

_DEVICES = "/sys/class/net"


def refuse_nics(plan: Plan) -> None:
    """DriverError for a bridge that is not there, or a MAC that another domain has."""
    world = plan.world
    for nic in plan.spec.nics:
        if world.has_files and not os.path.isdir(f"{_DEVICES}/{nic.bridge}/bridge"):
            raise DriverError(
                f"guest {plan.spec.name}: nics.{nic.name}.bridge: found {nic.bridge!r}, which is no bridge of this"
                " HostOS; run oscarv.virt.hostos"
            )
        for seen in world.others(plan.spec.uuid):
            if any(other["mac"] == nic.mac for other in seen.nics):
                raise DriverError(
                    f"guest {plan.spec.name}: nics.{nic.name}.mac: {nic.mac} belongs to {seen.name} (uuid {seen.uuid})"
                    " on this HostOS: give one of them another"
                )


def plan_nics(plan: Plan) -> None:
    config = plan.native.config
    for nic in plan.spec.nics:
        _plan_nic(plan, nic, config.nic(nic.mac))
    wanted = {nic.mac for nic in plan.spec.nics}
    mark = plan.mark
    for mac in [str(nic["mac"]) for nic in mark.nics if nic["mac"] not in wanted]:
        _plan_removal(plan, mac, config.nic(mac))


def _plan_nic(plan: Plan, nic: NicSpec, before: Nic | None) -> None:
    after = {"bridge": nic.bridge, "mtu": nic.mtu}
    then = {"bridge": before.bridge, "mtu": before.mtu} if before else None
    waits = plan.active and before is not None and before.mtu != nic.mtu  # an MTU is set when a NIC is made
    if not plan.difference.compare(f"nics.{nic.mac}", then, after, effect=RESTART if waits else LIVE):
        return
    plan.edits.append(functools.partial(edit.put_nic, nic=nic))
    live = plan.native.live.nic(nic.mac) if plan.active and plan.native.live else None
    if not plan.active:
        return
    if live is None:
        plan.add(Phase.LIVE, f"plug NIC {nic.mac} into {nic.bridge}", functools.partial(_plug, plan, nic))
    elif live.bridge != nic.bridge:
        plan.add(Phase.LIVE, f"connect NIC {nic.mac} to {nic.bridge}", functools.partial(_connect, plan, nic))


def _plan_removal(plan: Plan, mac: str, before: Nic | None) -> None:
    then = {"bridge": before.bridge, "mtu": before.mtu} if before else None
    if not plan.difference.compare(f"nics.{mac}", then, None):
        return
    plan.edits.append(functools.partial(edit.remove_nic, mac=mac))
    if plan.active and plan.native.live and plan.native.live.nic(mac):
        plan.add(Phase.LIVE, f"unplug NIC {mac}", functools.partial(_unplug, plan, mac))


def _plug(plan: Plan, nic: NicSpec) -> None:
    dialect = dialect_of(plan.native.config.domain_type)
    with told(plan.spec.name, f"plug NIC {nic.mac} into {nic.bridge}"):
        lookup(plan).attachDeviceFlags(text_of(dialect.nic(nic)), require_libvirt().VIR_DOMAIN_AFFECT_LIVE)


def _connect(plan: Plan, nic: NicSpec) -> None:
    """libvirt wants the NIC as it is, with the new bridge: what else it has must be said again."""
    if not dialect_of(plan.native.config.domain_type).reconnects:
        _unplug(plan, nic.mac)
        _plug(plan, nic)
        return
    domain = lookup(plan)
    with told(plan.spec.name, f"connect NIC {nic.mac} to {nic.bridge}"):
        interface = edit.find_nic(running_xml(domain), nic.mac)
        if interface is not None:
            edit.connect_nic(interface, nic)
            domain.updateDeviceFlags(text_of(interface), require_libvirt().VIR_DOMAIN_AFFECT_LIVE)


def _unplug(plan: Plan, mac: str) -> None:
    """The guest has to let go of it; libvirt waits 5 s. Where it does not, a restart is required."""
    domain = lookup(plan)
    with told(plan.spec.name, f"unplug NIC {mac}"):
        interface = edit.find_nic(running_xml(domain), mac)
        if interface is not None:
            domain.detachDeviceFlags(text_of(interface), require_libvirt().VIR_DOMAIN_AFFECT_LIVE)
