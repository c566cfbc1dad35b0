# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing a guest: undefine first, delete after, and delete only what the collection made and nobody else needs."""

from __future__ import annotations

import functools
import glob
import os
import pathlib

from ._driver import Seen
from ._files import remove
from ._hostos import may_be_shared
from ._kvm_connection import require_libvirt, told, unless
from ._kvm_files import claim_files, doom, finish, plan_leftovers
from ._kvm_power import power_off, stop
from ._kvm_world import Phase, Plan
from ._kvm_xml import CONSOLE_LOGS, LOG_ENDING
from ._paths import disk_name_of, seed_path

#: What domains call the folder of their logs; a test's libvirtd has it elsewhere than `CONSOLE_LOGS` says.
_LOGS_NAMED = pathlib.Path(CONSOLE_LOGS)


def plan_absent(plan: Plan, *, stale: bool = False) -> None:
    """`stale`: the ledger knows a newer copy elsewhere. It must not write to a disk that both see, nor lose it."""
    plan_leftovers(plan)
    seen = plan.seen
    if seen is None:
        _plan_kept(plan)
    else:
        plan.difference.compare("guest", {"name": seen.name, "uuid": seen.uuid, "state": seen.state}, None)
        _plan_power_off(plan, seen, stale)
        _plan_files(plan, seen, stale)
        plan.add(Phase.DEFINE, "undefine", functools.partial(_undefine, plan))
        log = pathlib.Path(seen.console_log or "")
        ours = log.parent == _LOGS_NAMED and log.name.endswith(LOG_ENDING)
        if plan.world.has_files and ours and not _shares_log(plan, seen):
            plan.add(Phase.SETTLE, "", functools.partial(_remove_logs, log.name))
    finish(plan)


def _plan_power_off(plan: Plan, seen: Seen, stale: bool) -> None:
    if not plan.native.active:
        return
    if stale or seen.state == "crashed":
        plan.add(Phase.STOP, "power off", functools.partial(power_off, plan))
    else:
        plan.add(Phase.STOP, "shut down", functools.partial(stop, plan))


def _plan_kept(plan: Plan) -> None:
    """No domain: only files that an earlier `absent` kept, and only with consent."""
    claim = plan.claim
    if claim is None or not plan.world.options.remove_disks:
        return
    for name, path in claim.files.items():
        _doom_unless_used(plan, f"disks.{name}", f"disk {name}", path)
    if claim.seed:
        _doom_unless_used(plan, "seed", "seed", claim.seed)


def _plan_files(plan: Plan, seen: Seen, stale: bool) -> None:
    if not plan.world.has_files:
        return
    # A stale copy leaves alone what the newer one runs on.
    ours = {name: path for name, path in own_disks(plan).items() if not (stale and may_be_shared(path))}
    seed = seed_path(plan.root_pool, plan.mark.cluster, plan.mark.guest)
    if not plan.world.options.remove_disks:
        claim_files(plan, ours, seed=seen.seed if seen.seed == seed else None, mark=plan.mark)
        if seen.seed != seed and os.path.lexists(seed):
            doom(plan, "seed", seed)
        return
    if plan.claim is not None and not stale:
        ours = {**plan.claim.files, **ours}
    for name, path in ours.items():
        _doom_unless_used(plan, f"disks.{name}", f"disk {name}", path)
    if not (stale and may_be_shared(seed)):
        _doom_unless_used(plan, "seed", "seed", seed)


def _doom_unless_used(plan: Plan, key: str, what: str, path: str) -> None:
    if os.path.lexists(path) and not plan.world.users(path, plan.spec.uuid, strict=True):
        plan.difference.compare(key, path, None)
        doom(plan, what, path)


def own_disks(plan: Plan) -> dict[str, str]:
    """Disk name -> path of what the collection made: named by our scheme, an ordinary disk, the guest's alone."""
    found = {}
    for disk in plan.native.config.disks:
        name = disk_name_of(disk.path, plan.mark.cluster, plan.mark.guest)
        if name is None or disk.path is None or disk.device != "disk" or disk.readonly or disk.shareable:
            continue
        if any(disk.path.startswith(f"{pool}/{plan.mark.cluster}/") for pool in plan.world.pools.values()):
            found[name] = disk.path
    return found


def _undefine(plan: Plan) -> None:
    """With what libvirt itself keeps of the domain: saved memory, snapshots' descriptions, UEFI variables."""
    lib, platform = require_libvirt(), plan.world.platform
    if platform.simulator:
        flags = lib.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | lib.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    else:
        flags = platform.dialect.undefine_flags(lib)
    with told(plan.spec.name, "undefine it"), unless("VIR_ERR_NO_DOMAIN"):
        plan.native.domain.undefineFlags(flags)


def _shares_log(plan: Plan, seen: Seen) -> bool:
    """A guest that was renamed before logs were, too, may share its log with the next one of its old name."""
    return any(other.console_log == seen.console_log for other in plan.world.others(seen.uuid))


def _remove_logs(name: str) -> None:
    """The log that the domain named, and what virtlogd has rotated of it."""
    for path in glob.glob(f"{CONSOLE_LOGS}/{glob.escape(name)}*"):
        remove(pathlib.Path(path))
