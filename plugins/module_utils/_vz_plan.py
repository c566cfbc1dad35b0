# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a spec and what was seen to a plan. Everything is decided, and refused, here; nothing is changed."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from . import _vz_argv as argv
from ._difference import Difference
from ._driver import Seen, Unsupported, refuse_beside_saved
from ._files import remove, whole
from ._spec import DiskSpec, GuestSpec
from ._tombstone import refusal
from ._vz_argv import Settings
from ._vz_mark import describe
from ._vz_new import (
    bring_back,
    configure_with,
    delete_seed,
    kept_mark,
    kept_path,
    mark_of,
    not_filled,
    plan_fill,
    plan_new,
    plan_seed,
    seed_of,
    shape_of,
)
from ._vz_power import plan_power, plan_stop, state_of
from ._vz_settings import difference, refuse, refuse_shrinking
from ._vz_status import read_status
from ._vz_world import Phase, Plan, World


def plan_guest(world: World, spec: GuestSpec, seen: Seen | None) -> Plan:
    """The plan for one guest; DriverError names the guest and why it cannot be."""
    plan = Plan(spec=spec, seen=seen, difference=Difference(spec.name), world=world)
    _refuse_stale(plan)
    if spec.state == "absent":
        _plan_absent(plan)
        return plan
    _refuse_foreign(plan)
    refuse(spec)
    if seen is None:
        plan_new(plan)
    else:
        _compare(plan, seen)
    plan_power(plan)
    return plan


def plan_removal(world: World, name: str, uuid: str, epoch: int, seen: Seen | None) -> Plan:
    """Remove a guest that has no spec any more. `epoch`: the newest that the ledger knows of it."""
    mark = seen.mark if seen else None
    spec = GuestSpec(
        cluster=mark.cluster if mark else "",
        name=mark.guest if mark else name,
        uuid=uuid,
        partition=mark.partition if mark else "",
        epoch=epoch,
        hypervisor="openvz",
        state="absent",
        vcpus=1,
        memory=0,
        disks=(DiskSpec(name="root", size=0, pool=""),),
    )
    return plan_guest(world, spec, seen)


def _refuse_stale(plan: Plan) -> None:
    spec, seen = plan.spec, plan.seen
    if spec.state == "absent" and seen is None:
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


def _refuse_foreign(plan: Plan) -> None:
    for other in plan.world.everybody:
        if other.uuid == plan.spec.uuid and other.mark is not None or other.uuid in plan.world.leaving:
            continue
        if other.native.ctid == plan.ctid:
            raise plan.error(f"container {plan.ctid} ({other.name}) is here, and is not this guest: it is not touched")
        if other.name == plan.spec.name:
            raise plan.error(f"container {other.native.ctid} has its name, and is not this guest: it is not touched")


def _compare(plan: Plan, seen: Seen) -> None:
    spec, mark = plan.spec, plan.mark
    unfilled = not_filled(plan.world.tools.dialect, mark)
    if unfilled:
        _refuse_running(plan)
    else:
        _refuse_rebuild(plan)
        refuse_shrinking(spec, plan.native.shape)
    plan.build_outdated = spec.root.build_id is not None and mark.build_id != spec.root.build_id
    want = difference(plan.difference, plan.native.shape, shape_of(plan, mark))
    new_mark = mark_of(spec, build_id=mark.build_id, host_key=mark.host_key)
    new_mark = dataclasses.replace(new_mark, image=mark.image)
    for key in ("partition", "epoch"):
        plan.difference.compare(key, getattr(mark, key), getattr(new_mark, key))
    plan.difference.compare("addresses", _addresses(mark.nics), _addresses(new_mark.nics))
    if new_mark != mark:
        want = dataclasses.replace(want, description=describe(new_mark, plan.ctid))
    if want != Settings():
        plan.add(Phase.DEFINE, "configure", functools.partial(_set, plan, want))
    never_ran = mark.host_key is None and not spec.first_contact and not plan.native.active
    if unfilled:
        plan.difference.compare("build_id", None, spec.root.build_id)
        plan_fill(plan)  # its creation was interrupted
    seed = seed_of(_root(plan))
    reached = spec.first_contact or spec.name in plan.world.options.contacted
    if reached and seed is not None:
        plan.difference.compare("seed", str(seed), None)
        plan.add(Phase.PREPARE, "delete seed", functools.partial(delete_seed, seed))
    elif never_ran or unfilled:
        plan_seed(plan, mark.build_id or spec.root.build_id)  # its creation was interrupted
    if seen.state == "saved":
        refuse_beside_saved(plan)


def _refuse_running(plan: Plan) -> None:
    if plan.native.active:
        raise plan.error(
            f"its making was interrupted, and container {plan.ctid} runs with the files of the node's own template:"
            f" look at it, then `vzctl stop {plan.ctid}`; the next run replaces them by the build's"
        )


def _root(plan: Plan) -> pathlib.Path:
    """Where its files are now; with vzctl 7 they are nowhere while it is off."""
    legacy, options = plan.world.tools.dialect.legacy, plan.world.options
    return options.path(plan.native.private) if legacy else options.mount_point(plan.ctid)


NO_REBUILD = "the driver openvz makes no root anew: move the container to a HostOS with lxc and rebuild it there"


def _refuse_rebuild(plan: Plan) -> None:
    """Consent (`recreate`) and need, as in the other drivers, but nobody to do it: no mark must call it done."""
    spec, mark = plan.spec, plan.mark
    if spec.recreate and spec.root.build_id and (mark.build_id != spec.root.build_id or mark.epoch < spec.epoch):
        raise Unsupported(f"guest {spec.name}: recreate: {NO_REBUILD} (capability 'rebuild' is missing)")


def _addresses(nics: tuple[dict[str, object], ...]) -> dict[str, object]:
    return {str(nic["mac"]): {"name": nic["name"], "addresses": nic["addresses"]} for nic in nics}


def _set(plan: Plan, want: Settings) -> None:
    """`set` on a container that is not there would return 0 and leave an orphan: so it is looked for first."""
    state = state_of(plan)
    if state == "absent":
        raise plan.error(f"container {plan.ctid} went away meanwhile: read the HostOS again")
    configure_with(plan, want, running=state in ("running", "paused"))


def _plan_absent(plan: Plan) -> None:
    """`destroy` deletes the private area: without consent the configuration is taken away, and the data stay."""
    seen = plan.seen
    if seen is None:
        if plan.world.options.remove_disks and kept_mark(plan) is not None:
            plan.difference.compare("private", "kept", None)
            plan.add(Phase.DEFINE, "", functools.partial(bring_back, plan))
            plan.add(Phase.DEFINE, "destroy", functools.partial(_destroy, plan))
        return
    if not plan.world.tools.dialect.legacy and not plan.world.options.remove_disks:
        raise plan.error(
            "state: found 'absent'; how vzctl 7 forgets a container and keeps its files was never seen: say"
            " remove_disks: true, or take it away by hand (`vzctl unregister`)"
        )
    plan.difference.compare("guest", {"name": seen.name, "uuid": seen.uuid, "state": seen.state}, None)
    # A dump that stayed beside kept files would wake up under whatever it comes back with.
    if plan.native.active or (seen.state == "saved" and not plan.world.options.remove_disks):
        plan_stop(plan)
    if plan.world.options.remove_disks:
        plan.difference.compare("private", plan.native.private, None)
        plan.add(Phase.DEFINE, "destroy", functools.partial(_destroy, plan))
    else:
        plan.add(Phase.DEFINE, "unregister", functools.partial(_unregister, plan))


def _destroy(plan: Plan) -> None:
    _umount(plan)
    plan.run(argv.destroy(plan.ctid))


def _umount(plan: Plan) -> None:
    """Also one with a dump, whose state is another word."""
    if read_status(plan.run(argv.status(plan.ctid))).mounted:
        plan.run(argv.umount(plan.ctid))


def _unregister(plan: Plan) -> None:
    _umount(plan)
    kept = kept_path(plan)
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    conf = plan.world.options.conf_dir / f"{plan.ctid}.conf"
    names = conf.parent.parent / "names"
    with whole(kept, 0o600) as partial:  # the only copy, once the next lines are done
        partial.write_bytes(conf.read_bytes())
    for name in names.iterdir() if names.is_dir() else ():
        if name.is_symlink() and pathlib.PurePosixPath(name.readlink()).name == conf.name:
            name.unlink()
    remove(conf)
