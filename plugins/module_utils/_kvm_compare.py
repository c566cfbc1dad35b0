# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a guest that exists with its spec: identity, processors, memory, firmware, autostart."""

from __future__ import annotations

import dataclasses
import functools

from . import _kvm_edit as edit
from ._difference import LIVE, RESTART
from ._kvm_connection import require_libvirt, told
from ._kvm_mark import mark_of_spec
from ._kvm_power import lookup
from ._kvm_world import Phase, Plan
from ._kvm_xml import memory_of


def plan_mark(plan: Plan) -> None:
    """Epoch, partition, name and addresses; build and host key change with a rebuild only."""
    old = plan.mark
    new = mark_of_spec(plan.spec, build_id=old.build_id, host_key=old.host_key)
    new = dataclasses.replace(new, image=old.image)
    for key in ("epoch", "partition", "nics"):
        plan.difference.compare(f"mark.{key}", getattr(old, key), getattr(new, key))
    if new != old:
        plan.new_mark = new


def plan_type(plan: Plan) -> None:
    """A guest that was made under emulation gets KVM when the HostOS has learned it, and the other way round."""
    platform, config = plan.world.platform, plan.native.config
    wanted = platform.type_for(plan.spec)
    if plan.difference.compare(platform.type_key, platform.type_of(config), wanted, effect=_restart(plan)):
        plan.edits.append(functools.partial(platform.set_type, wanted=wanted))


def plan_vcpus(plan: Plan) -> None:
    wanted, config, live = plan.spec.vcpus, plan.native.config, plan.native.live
    if wanted > plan.world.platform.most_vcpus:
        raise plan.error(f"vcpus: found {wanted}; allowed: at most {plan.world.platform.most_vcpus}")
    reach = plan.world.platform.most_live_vcpus
    floor = 1 if plan.world.platform.dialect.unplugs else live.vcpus if live else 0
    pluggable = live is not None and floor <= wanted <= min(live.vcpus_max, reach)
    effect = LIVE if pluggable else _restart(plan)  # vCPUs that a machine booted with cannot be taken away
    if not plan.difference.compare("vcpus", config.vcpus, wanted, effect=effect):
        return
    platform = plan.world.platform
    most = (
        config.vcpus_max if wanted <= config.vcpus_max and not platform.dialect.unplugs else platform.vcpus_max(wanted)
    )
    plan.edits.append(functools.partial(edit.set_vcpus, vcpus=wanted, most=most))
    if plan.active and pluggable and live is not None and live.vcpus != wanted:
        words = f"plug vCPUs: {live.vcpus} -> {wanted}"
        plan.add(Phase.LIVE, words, functools.partial(_set_vcpus, plan, wanted))


def plan_memory(plan: Plan) -> None:
    """Maximum and balloon both become the spec's; a guest that runs is ballooned within the maximum that it has."""
    wanted, config, live = memory_of(plan.spec.memory), plan.native.config, plan.native.live
    before = config.memory_max if config.memory == config.memory_max else config.memory
    reachable = live is not None and wanted <= live.memory_max
    if not plan.difference.compare("memory", before, wanted, effect=LIVE if reachable else _restart(plan)):
        return
    plan.edits.append(functools.partial(edit.set_memory, size=wanted))
    if plan.active and reachable and live is not None and live.memory != wanted:
        words = f"balloon: {live.memory >> 20} -> {wanted >> 20} MiB"
        plan.add(Phase.LIVE, words, functools.partial(_set_memory, plan, wanted))


def plan_cpu(plan: Plan) -> None:
    config = plan.native.config
    model, features = plan.world.platform.effective_cpu(plan.spec.cpu)
    before = {"model": config.cpu, "features": dict(config.cpu_features)}
    if plan.difference.compare("cpu", before, {"model": model, "features": dict(features)}, effect=_restart(plan)):
        plan.edits.append(functools.partial(edit.set_cpu, model=model, features=features))


def plan_firmware(plan: Plan) -> None:
    before = plan.native.config.firmware
    if plan.world.platform.simulator:
        return
    if plan.difference.compare("firmware", before, plan.spec.firmware, effect=_restart(plan)):
        plan.edits.append(functools.partial(edit.set_firmware, firmware=plan.spec.firmware))


def plan_autostart(plan: Plan) -> None:
    wanted = plan.spec.starts_with_host
    before = plan.seen.autostart if plan.seen else None
    if plan.difference.compare("autostart", before, wanted) and (before is not None or wanted):
        words = "switch autostart on" if wanted else "switch autostart off"
        plan.add(Phase.SETTLE, words, functools.partial(_set_autostart, plan, wanted))


def _restart(plan: Plan) -> str:
    """The effect of a change that only a start brings: for a guest that is off there is nothing to wait for."""
    return RESTART if plan.active else LIVE


def _set_vcpus(plan: Plan, number: int) -> None:
    with told(plan.spec.name, f"give it {number} vCPUs while it runs"):
        plan.world.platform.dialect.plug(lookup(plan), number, require_libvirt())


def _set_memory(plan: Plan, size: int) -> None:
    with told(plan.spec.name, f"set its balloon to {size >> 20} MiB"):
        lookup(plan).setMemoryFlags(size // 1024, require_libvirt().VIR_DOMAIN_AFFECT_LIVE)


def _set_autostart(plan: Plan, wanted: bool) -> None:
    with told(plan.spec.name, "set its autostart"):
        lookup(plan).setAutostart(1 if wanted else 0)
