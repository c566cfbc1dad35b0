# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that is not on this HostOS: claim its files, make or adopt its disks, make its seed, define it."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import typing as t

from . import _kvm_disks as disks
from . import _lxc_seed
from . import _seed as seeds
from ._difference import redacted
from ._kvm_boot import wanted_boot
from ._kvm_compare import plan_autostart
from ._kvm_domain import define
from ._kvm_files import claim_files, doom, finish, plan_leftovers
from ._kvm_mark import mark_of_spec
from ._kvm_parse import Boot
from ._kvm_power import plan_power
from ._kvm_world import Phase, Plan
from ._kvm_xml import memory_of
from ._paths import disk_name_of, seed_path
from ._qcow2 import read_header
from ._spec import DiskSpec


@dataclasses.dataclass
class New:
    """What a creation decides in `plan` and learns while its steps are taken."""

    paths: dict[str, str]  #: disk -> file, in the spec's order
    build_id: str | None  #: what the root disk stands on
    returns: bool = False  #: with the root disk that `absent` kept, or that it had on another HostOS
    adopted: set[str] = dataclasses.field(default_factory=set)  #: disks that it had elsewhere, see `_was_elsewhere`
    boot: Boot | None = None  #: what it boots in place of its disk
    seed: str | None = None
    host_key: str | None = None


def plan_new(plan: Plan) -> None:
    """Decide everything for a guest that is not there."""
    spec, world = plan.spec, plan.world
    world.platform.require()
    new = New({disk.name: disks.path_of(world, spec, disk) for disk in spec.disks}, spec.root.build_id)
    if world.has_files:
        _refuse_kept_by_others(plan)
        plan_leftovers(plan)
        _refuse_lost_root(plan, new)
        for disk in spec.disks:
            _plan_disk(plan, new, disk)
    if new.build_id == spec.root.build_id:  # a root disk that returns may stand on an older one
        new.boot = wanted_boot(plan)
    _plan_seed(plan, new)
    if world.has_files:
        _plan_claim(plan, new)
    plan.add(Phase.DEFINE, "define", functools.partial(_define, plan, new))
    _record(plan, new)
    plan_autostart(plan)
    plan_power(plan)
    finish(plan, {*new.paths.values(), *([new.seed] if new.seed else [])})


def _record(plan: Plan, new: New) -> None:
    spec = plan.spec
    found: dict[str, t.Any] = {
        "name": spec.name,
        "uuid": spec.uuid,
        "epoch": spec.epoch,
        "vcpus": spec.vcpus,
        "memory": memory_of(spec.memory),
        "cpu": plan.world.platform.effective_cpu(spec.cpu)[0],
        "firmware": spec.firmware,
        "build_id": new.build_id,
        "disks": {disk.name: {"path": new.paths[disk.name], "size": disks.size_wanted(disk)} for disk in spec.disks},
        "nics": {
            nic.mac: {"bridge": nic.bridge, "addresses": list(nic.addresses), "mtu": nic.mtu} for nic in spec.nics
        },
    }
    if new.boot is not None:
        found["boot"] = new.boot._asdict()
    for key, value in found.items():
        plan.difference.compare(key, None, value)
    inside = new.paths["root"] if plan.world.platform.seed_inside and not new.returns else None
    if (new.seed or inside) and spec.seed is not None:
        secret = redacted(dict(spec.seed.cloud_init))
        content = {"hostname": spec.seed.hostname, "path": new.seed or inside, "cloud_init": secret}
        plan.difference.compare("seed", None, content)


def _refuse_kept_by_others(plan: Plan) -> None:
    """DriverError where kept disks would be forgotten, or taken for this guest's."""
    spec, world = plan.spec, plan.world
    for claim in world.claims_of(spec.uuid):
        if claim.guest != spec.name and claim.kept:
            raise plan.error(
                f"its disks were kept under its earlier name {claim.guest!r} ({', '.join(claim.kept.values())}); bring"
                f" it back as {claim.guest!r} before renaming it, or remove them (state: absent, remove_disks: true)"
            )
    for (uuid, name), claim in world.claims.items():
        if name == spec.name and uuid != spec.uuid and claim.kept and uuid not in world.leaving:
            raise plan.error(
                f"disks of an earlier guest of this name (uuid {uuid}) were kept: {', '.join(claim.kept.values())}."
                " Remove them (prune that guest with remove_disks: true) or move them away"
            )


def _refuse_lost_root(plan: Plan, new: New) -> None:
    """A guest that has lived is not made again, empty, without consent: its disk may be on another HostOS."""
    spec = plan.spec
    root = new.paths["root"]
    if spec.first_contact and not spec.recreate and not os.path.exists(root):
        raise plan.error(
            f"it was reached before, but neither it nor its root disk {root} is on this HostOS. Find it"
            " (oscarv.virt.status); if it is lost, consent to an empty one with recreate: true"
        )


def _plan_disk(plan: Plan, new: New, disk: DiskSpec) -> None:
    path = new.paths[disk.name]
    disks.refuse_in_use(plan.world, plan.spec, disk, path)
    if plan.claim is not None and not plan.claim.fresh:
        disks.refuse_format(plan, disk, plan.claim.files.get(disk.name))
    if os.path.lexists(path) and _adopt(plan, new, disk):
        return
    disks.plan_creation(plan, disk, path)


def _adopt(plan: Plan, new: New, disk: DiskSpec) -> bool:
    """Whether the file that is there already is taken; False: it is made again. DriverError: neither may be done."""
    path, claim = new.paths[disk.name], plan.claim
    if claim is not None and path in claim.doomed:
        return False
    known = claim is not None and claim.files.get(disk.name) == path
    if not known:
        if not _was_elsewhere(plan, disk, path):
            raise disks.unknown(plan, disk, path)
        new.adopted.add(disk.name)
    before = claim.mark.build_id if claim is not None and claim.mark else None
    header, build = read_header(path), disks.build_under(path, (disk.build_id, before))
    if known and claim is not None and claim.fresh:
        return header is not None and header.size <= disks.size_wanted(disk) and build == disk.build_id
    # Consent to an empty guest is not consent to lose a disk that the lost HostOS did not take with it.
    if known and disk.name == "root" and plan.spec.recreate and build != disk.build_id:
        return False
    disks.plan_reuse(plan, disk, path)
    if disk.name == "root":
        new.returns = True
        new.build_id = build
        plan.build_outdated = disk.build_id is not None and build != disk.build_id
    return True


def _was_elsewhere(plan: Plan, disk: DiskSpec, path: str) -> bool:
    """Whether a file without a claim is the guest's own: it lies on a shared pool, and the guest was on another HostOS.

    That HostOS is fenced: its domain named the disk, and nobody could write a claim. The ledger says so by an epoch
    that is not the first, and by having known the guest with a disk: a first contact or a host key. Whether a copy
    runs elsewhere cannot be seen from here; QEMU locks the file where one does.
    """
    spec, claim = plan.spec, plan.claim
    if not disk.shared or spec.epoch <= 1 or (claim is not None and claim.fresh):
        return False
    if not (spec.first_contact or spec.host_key or spec.seed is None):
        return False  # never made: whoever had the name before has left the file
    if os.path.islink(path) or disk_name_of(path, spec.cluster, spec.name) != disk.name:
        return False
    return disks.claimant(plan, path) is None


def _plan_seed(plan: Plan, new: New) -> None:
    """A new guest gets a seed; one that comes back keeps the one it has, and its host key."""
    spec, world, claim = plan.spec, plan.world, plan.claim
    if "root" in new.adopted:
        _plan_old_seed(plan, new)
        return
    if new.returns and claim is not None and claim.mark is not None:
        new.host_key = claim.mark.host_key
        new.seed = claim.seed if claim.seed and os.path.exists(claim.seed) else None
        return
    if spec.seed is None:
        return
    if world.platform.seed_inside:
        seeds.refuse(spec, inside=True)
        plan.add(Phase.PREPARE, "tell the root what it boots as", functools.partial(_tell_root, plan, new))
        return
    new.seed = seed_path(plan.root_pool, spec.cluster, spec.name)
    if world.has_files:
        seeds.refuse(spec)
        plan.add(Phase.PREPARE, "make seed", functools.partial(_make_seed, plan, new))
        plan.written.add(pathlib.Path(new.seed).parent)


def _plan_old_seed(plan: Plan, new: New) -> None:
    """The root has booted, so a new seed's host key would not be the guest's: the old seed, or none after contact."""
    spec, mark = plan.spec, plan.claim.mark if plan.claim is not None else None
    new.host_key = spec.host_key or (mark.host_key if mark else None)
    old = seed_path(plan.root_pool, spec.cluster, spec.name)
    if plan.world.platform.seed_inside or not os.path.exists(old):
        return
    if spec.first_contact:
        plan.difference.compare("seed", old, None)
        doom(plan, "seed", old)
    else:
        new.seed = old


def _make_seed(plan: Plan, new: New) -> None:
    spec, options = plan.spec, plan.world.options
    key = seeds.make_seed(t.cast(str, new.seed), spec, options.seed_work, options.host_keys_private.get(spec.name))
    new.host_key = key.public


def _tell_root(plan: Plan, new: New) -> None:
    spec, options = plan.spec, plan.world.options
    private = options.host_keys_private.get(spec.name)
    new.host_key = _lxc_seed.write(new.paths["root"], spec, options.seed_work, private)


def _plan_claim(plan: Plan, new: New) -> None:
    """Before the first file: whatever happens next, the next run knows whose they are."""
    extra: dict[str, t.Any] = {"seed": new.seed}
    if not new.returns:  # an empty root disk has no past: the next run makes a seed for it, as this one does
        extra["mark"] = None
    elif "root" in new.adopted:  # should this run be interrupted, the next takes it for one that comes back
        extra["mark"] = mark_of_spec(plan.spec, build_id=new.build_id, host_key=new.host_key)
    # An adopted disk is not empty: with a fresh claim the next run might make it again.
    claim_files(plan, new.paths, fresh=not new.adopted, **extra)


def _define(plan: Plan, new: New) -> None:
    spec, platform = plan.spec, plan.world.platform
    mark = mark_of_spec(spec, build_id=new.build_id, host_key=new.host_key)
    xml = platform.render(spec, disks=new.paths, seed=new.seed, mark=mark, boot=new.boot)
    define(plan.world.connection, spec.name, xml)
