# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a spec and what was seen to a plan. Everything is decided, and refused, here; nothing is changed."""

from __future__ import annotations

import functools
import typing as t

from ._difference import Difference
from ._driver import Seen, refuse_beside_saved
from ._kvm_boot import plan_boot
from ._kvm_compare import (
    plan_autostart,
    plan_cpu,
    plan_firmware,
    plan_mark,
    plan_memory,
    plan_type,
    plan_vcpus,
)
from ._kvm_create import plan_new
from ._kvm_domain import define, edit, mark_running, note_pending, running_xml
from ._kvm_files import finish, plan_leftovers
from ._kvm_mark import replace_mark
from ._kvm_nics import plan_nics, refuse_nics
from ._kvm_observe import Native
from ._kvm_power import lookup, plan_power
from ._kvm_rebuild import plan_build, wants_rebuild
from ._kvm_remove import plan_absent
from ._kvm_rename import plan_name
from ._kvm_seed import plan_seed
from ._kvm_storage import plan_disks
from ._kvm_world import Phase, Plan, World
from ._spec import DiskSpec, GuestSpec
from ._tombstone import refusal


def plan_guest(world: World, spec: GuestSpec, seen: Seen | None) -> Plan:
    """The plan for one guest; DriverError names the guest and why it cannot be."""
    plan = _begin(world, spec, seen)
    _refuse_stale(plan)
    if spec.state == "absent":
        plan_absent(plan)
        return plan
    _refuse_foreign(plan)
    world.platform.refuse(spec)
    refuse_nics(plan)
    if seen is None:
        plan_new(plan)
        return plan
    plan.offline = _goes_offline(plan, seen)
    _compare(plan, seen)
    if plan.active and plan.restart_required and world.options.allow_restart and spec.state != "saved":
        plan = _begin(world, spec, seen)
        plan.offline = True
        plan.difference.compare("running_configuration", "waits for a restart", "the persistent one")
        _compare(plan, seen)
    return plan


def plan_removal(world: World, name: str, uuid: str, epoch: int, seen: Seen | None) -> Plan:
    """Remove a guest that has no spec any more. `epoch`: the newest that the ledger knows of it."""
    spec = _spec_for_removal(world, name, uuid, epoch, seen)
    plan = _begin(world, spec, seen)
    _refuse_stale(plan)
    plan_absent(plan, stale=seen is not None and plan.mark.epoch < epoch)
    return plan


def _spec_for_removal(world: World, name: str, uuid: str, epoch: int, seen: Seen | None) -> GuestSpec:
    """As much of a spec as a removal needs: who it is, and in which pool its root disk lies."""
    mark = seen.mark if seen else None
    claims = world.claims_of(uuid)
    cluster = mark.cluster if mark else (claims[0].cluster if claims else "")
    guest = mark.guest if mark else (claims[0].guest if claims else name)
    root = next((disk for disk in (seen.disks if seen else ()) if disk["name"] == "root" and disk["pool"]), None)
    kept = [pool for pool, directory in world.pools.items() if claims and claims[0].pool == directory]
    pool = root["pool"] if root else next(iter([*kept, *world.pools]), "")
    return GuestSpec(
        cluster=cluster,
        name=guest,
        uuid=uuid,
        partition=mark.partition if mark else "",
        epoch=epoch,
        hypervisor="kvm",
        state="absent",
        vcpus=1,
        memory=0,
        disks=(DiskSpec(name="root", size=0, pool=pool),),
    )


def _begin(world: World, spec: GuestSpec, seen: Seen | None) -> Plan:
    claim = world.claims.get((spec.uuid, spec.name))
    return Plan(spec=spec, seen=seen, difference=Difference(spec.name), world=world, claim=claim)


def _refuse_stale(plan: Plan) -> None:
    """A spec that is older than what was done already starts, changes and removes nothing."""
    spec, seen = plan.spec, plan.seen
    if spec.state == "absent" and seen is None and plan.claim is None:
        return
    why = refusal(spec.epoch, plan.world.tombstones.get(spec.uuid))
    if why:
        raise plan.error(why)
    if seen is None:
        return
    if plan.mark.cluster != spec.cluster:
        raise plan.error(f"uuid {spec.uuid} is a guest of cluster {plan.mark.cluster!r} on this HostOS: not touched")
    if plan.mark.epoch > spec.epoch:
        raise plan.error(
            f"its mark has epoch {plan.mark.epoch}, this spec epoch {spec.epoch}: the spec is stale; plan again"
            " (oscarv.virt.plan) and run oscarv.virt.deploy"
        )
    if seen.state == "moving":
        if t.cast(Native, seen.native).job:
            raise plan.error("a move is active: wait for its end, then run oscarv.virt.settle")
        raise plan.error(
            "it is paused by a migration that nobody runs any more: run oscarv.virt.settle; if no move is in flight,"
            " make sure that it runs nowhere else and `virsh resume` it"
        )


def _refuse_foreign(plan: Plan) -> None:
    """A domain that has the guest's name or uuid and is not that guest is left alone."""
    spec = plan.spec
    for other in plan.world.everybody:
        if other.uuid == spec.uuid and other.mark is None:
            raise plan.error(f"domain {other.name} has its uuid, but not our mark: it is foreign, and not touched")
    for other in plan.world.others(spec.uuid):
        if other.name == spec.name:
            whose = f"of cluster {other.mark.cluster!r}" if other.mark else "foreign"
            raise plan.error(
                f"a domain of this name is here already, uuid {other.uuid}, {whose}: it is not touched. Rename one of"
                " them, or prune it if it is a guest that left"
            )


def _goes_offline(plan: Plan, seen: Seen) -> bool:
    """Whether the wish itself stops the guest, or it is off: then everything is done while it is off."""
    if not plan.native.active:
        return True
    wanted = plan.spec.state
    return wanted == "stopped" or (seen.state == "crashed" and wanted != "present") or wants_rebuild(plan)


def _compare(plan: Plan, seen: Seen) -> None:
    plan_leftovers(plan)
    plan_name(plan, seen)
    plan_mark(plan)
    plan_type(plan)
    plan_vcpus(plan)
    plan_memory(plan)
    plan_cpu(plan)
    plan_firmware(plan)
    plan_build(plan)
    plan_boot(plan)
    plan_disks(plan)
    plan_nics(plan)
    plan_seed(plan)
    plan_autostart(plan)
    plan.difference.compare("persistent", seen.persistent, True)
    if seen.state == "saved" and not wants_rebuild(plan):
        refuse_beside_saved(plan)
    _plan_definition(plan, seen)
    plan_power(plan)
    finish(plan)
    plan.restart_required = plan.active and (seen.restart_required or bool(plan.difference.restart_keys))


def _plan_definition(plan: Plan, seen: Seen) -> None:
    """One definition for all edits; the running guest keeps a note of what it has not seen yet."""
    if not (plan.edits or plan.new_mark is not None or not seen.persistent):
        return
    if plan.active and plan.difference.restart_keys:
        plan.add(Phase.LIVE, "", functools.partial(_note, plan))
    # A transient domain is gone once it stops: it is defined before anything else.
    phase = Phase.DEFINE if seen.persistent else Phase.STOP
    plan.add(phase, "define", functools.partial(_define, plan))


def _note(plan: Plan) -> None:
    live = plan.native.live
    keys = {*plan.difference.restart_keys, *(live.pending if live else ())}
    note_pending(plan.spec.name, lookup(plan), keys)


def _define(plan: Plan) -> None:
    domain, guest = lookup(plan), plan.spec.name
    mark = plan.new_mark
    edits = list(plan.edits)
    if mark is not None:
        edits.append(functools.partial(replace_mark, mark=mark))
    if domain.isPersistent():
        edit(plan.world.connection, guest, domain, edits)
    else:  # somebody started it without defining it, or undefined it while it ran
        xml = running_xml(domain)
        for change in edits:
            change(xml)
        define(plan.world.connection, guest, xml)
    if mark is not None and plan.active:
        mark_running(guest, domain, mark)
