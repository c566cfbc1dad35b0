# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new root disk for a guest that exists, by consent (`recreate`). uuid, MACs and data disks stay.

The mark's build_id says when it is done, and is written last, together with the new seed. Until then every run begins
again: guest off, a whole new overlay in the place of the old, a new seed. An interruption leaves either the old guest
untouched, or one that is off, whose disk and mark disagree; that one is not started without the same consent.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import typing as t

from . import _kvm_disks as disks
from . import _kvm_edit as edit
from . import _lxc_seed
from . import _seed as seeds
from ._driver import Seen
from ._kvm_connection import told
from ._kvm_domain import edit as edit_domain
from ._kvm_mark import replace_mark
from ._kvm_observe import snapshots_of
from ._kvm_power import DROP, drop_saved, lookup
from ._kvm_world import Phase, Plan
from ._paths import disk_name_of, seed_path
from ._qcow2 import read_header


def current_build(plan: Plan) -> str | None:
    """The build under the root disk; the mark's where the disk stands on none (any more)."""
    root = plan.native.config.disk("root")
    known = (plan.mark.build_id, plan.spec.root.build_id)
    return (disks.build_under(root.path, known) if root and plan.world.has_files else None) or plan.mark.build_id


def plan_build(plan: Plan) -> None:
    """Make the root disk anew where that is wanted and consented to; without consent, report that it is outdated."""
    spec = plan.spec
    wanted, current = spec.root.build_id, current_build(plan)
    if wanted is None or not plan.world.has_files:
        return
    if wants_rebuild(plan):
        _plan_rebuild(plan)
        return
    if current != plan.mark.build_id:
        raise plan.error(
            f"its root disk stands on build {str(current)[:12]} but its mark says"
            f" {str(plan.mark.build_id)[:12]}: a rebuild was interrupted. Finish it: run oscarv.virt.rebuild"
            " for this guest again"
        )
    plan.build_outdated = current != wanted


def wants_rebuild(plan: Plan) -> bool:
    """Whether there is consent and need for a new root disk; it stops the guest.

    A newer epoch is need enough: every rebuild raises it, so one on the same build is made, and made only once.
    """
    spec = plan.spec
    if spec.root.build_id is None or not spec.recreate or not plan.world.has_files:
        return False
    outdated = plan.mark.build_id != spec.root.build_id or plan.mark.epoch < spec.epoch
    return outdated or _root_is_lost(plan)


def _root_is_lost(plan: Plan) -> bool:
    root = plan.native.config.disk("root")
    return root is None or read_header(root.path or "") is None


def _plan_rebuild(plan: Plan) -> None:
    spec = plan.spec
    path = _root_path(plan)
    if spec.state == "saved":
        raise plan.error("state: found 'saved'; a rebuilt guest has no memory to save: rebuild it with state: running")
    with told(spec.name, "look for its snapshots"):
        snapshots = snapshots_of(plan.native.domain)
    if snapshots:
        raise plan.error(
            f"it has {snapshots} snapshots, which a rebuild would break: delete them first (`virsh snapshot-list`)"
        )
    backing = disks.backing_of(plan.world, spec, spec.root)
    before = {"build_id": current_build(plan)}
    plan.difference.compare(
        "disks.root", before, {"build_id": spec.root.build_id, "size": disks.size_wanted(spec.root)}
    )
    if plan.native.managed_save:
        plan.add(Phase.STOP, DROP, functools.partial(drop_saved, plan))
    if plan.mark.build_id == spec.root.build_id:  # the same build again: the mark must not call it done before it is
        plan.add(Phase.STOP, "", functools.partial(_unmark, plan))
    run = disks.maker(path, disks.size_wanted(spec.root), backing, spec.name)
    plan.add(Phase.PREPARE, "replace disk root", run)
    plan.written.add(pathlib.Path(path).parent)
    plan.new_mark = dataclasses.replace(plan.new_mark or plan.mark, build_id=spec.root.build_id)
    if spec.seed is None:
        return
    inside = plan.world.platform.seed_inside
    seeds.refuse(spec, inside=inside)
    if inside:
        plan.difference.compare("seed", None, {"path": path, "made": "anew"})
        plan.add(Phase.PREPARE, "tell the root what it boots as", functools.partial(_tell_root, plan, path))
        return
    seed = seed_path(plan.root_pool, spec.cluster, spec.name)
    plan.difference.compare("seed", t.cast(Seen, plan.seen).seed, {"path": seed, "made": "anew"})
    plan.add(Phase.PREPARE, "make seed", functools.partial(_make_seed, plan, seed))
    plan.written.add(pathlib.Path(seed).parent)
    plan.edits.append(functools.partial(edit.put_seed, path=seed))


def _root_path(plan: Plan) -> str:
    """Where the root disk lies; only a file of our making is ever replaced."""
    spec = plan.spec
    root = plan.native.config.disk("root")
    if (
        root is None
        or disk_name_of(root.path, plan.mark.cluster, plan.mark.guest) != "root"
        or root.readonly
        or root.shareable
    ):
        raise plan.error(
            f"its root disk is {root.path if root else 'gone'}, which the collection did not make (a snapshot?), and is"
            " not replaced: merge the snapshot (`virsh blockcommit`) or put its XML right"
        )
    disks.refuse_in_use(plan.world, spec, spec.root, t.cast(str, root.path))
    return t.cast(str, root.path)


def _make_seed(plan: Plan, path: str) -> None:
    """The key goes into the mark with the same definition that inserts the seed."""
    spec, options = plan.spec, plan.world.options
    key = seeds.make_seed(path, spec, options.seed_work, options.host_keys_private.get(spec.name))
    plan.new_mark = dataclasses.replace(plan.new_mark or plan.mark, host_key=key.public)


def _tell_root(plan: Plan, path: str) -> None:
    spec, options = plan.spec, plan.world.options
    key = _lxc_seed.write(path, spec, options.seed_work, options.host_keys_private.get(spec.name))
    plan.new_mark = dataclasses.replace(plan.new_mark or plan.mark, host_key=key)


def _unmark(plan: Plan) -> None:
    blank = functools.partial(replace_mark, mark=dataclasses.replace(plan.mark, build_id=None))
    edit_domain(plan.world.connection, plan.spec.name, lookup(plan), [blank])
