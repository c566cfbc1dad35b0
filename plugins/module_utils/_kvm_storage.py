# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a guest that exists: growing, adding and detaching them, and what its root disk stands on."""

from __future__ import annotations

import functools
import os
import typing as t
import xml.etree.ElementTree as ET

from . import _kvm_disks as disks
from . import _kvm_edit as edit
from ._dialect import dialect_of
from ._kvm_connection import require_libvirt, told
from ._kvm_domain import running_xml, text_of
from ._kvm_files import claim_files, doom
from ._kvm_observe import pool_of
from ._kvm_parse import Disk
from ._kvm_power import lookup
from ._kvm_world import Phase, Plan
from ._kvm_xml import free_target
from ._paths import disk_name_of
from ._qcow2 import read_header
from ._spec import DiskSpec


def plan_disks(plan: Plan) -> None:
    """Everything but a rebuild of the root disk. Call after `plan_rebuild` has had its say."""
    world, config = plan.world, plan.native.config
    for disk in plan.spec.disks:
        there = config.disk(disk.name)
        if there is None:
            _plan_addition(plan, disk)
        elif world.has_files and f"disks.{disk.name}" not in plan.difference:
            _plan_existing(plan, disk, there)
    wanted = {disk.name for disk in plan.spec.disks}
    mark = plan.mark
    for there in config.disks:
        name = disk_name_of(there.path, mark.cluster, mark.guest)
        if name is not None and name not in wanted and _is_ours(there):
            _plan_detach(plan, name, there)


def _is_ours(disk: Disk) -> bool:
    """A file by our name is ours only as an ordinary disk; what is shared or read-only somebody else attached."""
    return disk.device == "disk" and not disk.readonly and not disk.shareable


def _plan_existing(plan: Plan, disk: DiskSpec, there: Disk) -> None:
    pool = pool_of(there.path, plan.world.pools)
    if pool != disk.pool:
        raise plan.error(
            f"disks.{disk.name}.pool: found {disk.pool!r}, but {there.path} lies in pool {pool or 'none'}: a disk does"
            " not change its pool; move the file and the domain's XML by hand, or put the definition back"
        )
    disks.refuse_format(plan, disk, there.path)
    header = read_header(there.path or "")
    if header is None:
        raise plan.error(
            f"disk {disk.name}: {there.path} is missing or no disk: restore it, or make the guest again, empty, with"
            " oscarv.virt.rebuild"
        )
    wanted = disks.size_wanted(disk)
    disks.refuse_shrink(plan, disk, header.size)
    if plan.difference.compare(f"disks.{disk.name}", {"size": header.size}, {"size": wanted}):
        words = f"grow disk {disk.name}: {header.size} -> {wanted} bytes"
        if plan.active:
            plan.world.platform.refuse_live("live_disk_growth", plan.spec.name, f"grow disk {disk.name}")
            plan.add(Phase.LIVE, words, functools.partial(_grow_running, plan, disk, there))
        else:
            run = functools.partial(disks.grow, t.cast(str, there.path), wanted, plan.spec.name)
            plan.add(Phase.PREPARE, words, run)


def _grow_running(plan: Plan, disk: DiskSpec, there: Disk) -> None:
    lib = require_libvirt()
    with told(plan.spec.name, f"grow disk {disk.name}"):
        lookup(plan).blockResize(there.target, disks.size_wanted(disk), lib.VIR_DOMAIN_BLOCK_RESIZE_BYTES)


def _plan_addition(plan: Plan, disk: DiskSpec) -> None:
    """A data disk that the spec has and the domain has not. A file that was detached earlier is taken up again."""
    spec, world = plan.spec, plan.world
    if disk.name == "root":
        raise plan.error("its domain has no root disk any more (serial 'root'): put it back with `virsh edit`")
    path = disks.path_of(world, spec, disk)
    plan.difference.compare(f"disks.{disk.name}", None, {"path": path, "size": disks.size_wanted(disk)})
    live = plan.native.live.disk(disk.name) if plan.active and plan.native.live else None
    if world.has_files:
        _plan_file(plan, disk, path, attached=live is not None and live.path == path)
    plan.edits.append(functools.partial(_put_disk, name=disk.name, path=path))
    if plan.active and live is None:
        world.platform.refuse_live("live_disk", spec.name, f"attach disk {disk.name}")
        plan.add(Phase.LIVE, f"attach disk {disk.name}", functools.partial(_attach, plan, disk.name, path))


def _put_disk(domain: ET.Element, name: str, path: str) -> None:
    edit.put_disk(domain, name, path)


def _plan_file(plan: Plan, disk: DiskSpec, path: str, attached: bool) -> None:
    """`attached`: an interrupted run got as far as the running guest."""
    disks.refuse_in_use(plan.world, plan.spec, disk, path)
    if plan.claim is not None:
        disks.refuse_format(plan, disk, plan.claim.files.get(disk.name))
    if attached:
        return
    if not os.path.lexists(path) or (plan.claim is not None and path in plan.claim.doomed):
        claim_files(plan, {disk.name: path})
        disks.plan_creation(plan, disk, path)
    elif plan.claim is not None and plan.claim.files.get(disk.name) == path:
        disks.plan_reuse(plan, disk, path)
    else:
        raise disks.unknown(plan, disk, path)


def _attach(plan: Plan, name: str, path: str) -> None:
    """Under the target that the persistent configuration will have, where the running one has it free."""
    domain = lookup(plan)
    with told(plan.spec.name, f"attach disk {name}"):
        used = {target.get("dev", "") for target in running_xml(domain).findall("devices/disk/target")}
        used |= {disk.target for disk in plan.native.config.disks}
        dialect = dialect_of(plan.native.config.domain_type)
        device = dialect.disk(name, path, free_target(used, dialect.prefix))
        domain.attachDeviceFlags(text_of(device), require_libvirt().VIR_DOMAIN_AFFECT_LIVE)


def _plan_detach(plan: Plan, name: str, there: Disk) -> None:
    path = t.cast(str, there.path)
    plan.difference.compare(f"disks.{name}", {"path": path}, None)
    if plan.world.has_files:
        if plan.world.options.remove_disks:
            doom(plan, f"disk {name}", path)
        else:
            claim_files(plan, {name: path})
    plan.edits.append(functools.partial(edit.remove_disk, name=name))
    if plan.active and plan.native.live and plan.native.live.disk(name):
        plan.world.platform.refuse_live("live_disk", plan.spec.name, f"detach disk {name}")
        plan.add(Phase.LIVE, f"detach disk {name}", functools.partial(_detach, plan, name))


def _detach(plan: Plan, name: str) -> None:
    """The guest has to let go of it; libvirt waits 5 s. Where it does not, a restart is required."""
    domain = lookup(plan)
    with told(plan.spec.name, f"detach disk {name}"):
        disk = edit.find_disk(running_xml(domain), name)
        if disk is not None:
            domain.detachDeviceFlags(text_of(disk), require_libvirt().VIR_DOMAIN_AFFECT_LIVE)
