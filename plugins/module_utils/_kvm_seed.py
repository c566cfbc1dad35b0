# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed of a guest that exists: once the guest was reached, it is ejected and deleted. It holds a private key."""

from __future__ import annotations

import functools
import os
import pathlib
import typing as t

from . import _kvm_edit as edit
from ._dialect import find_seed
from ._driver import Seen
from ._files import remove
from ._kvm_connection import require_libvirt, told
from ._kvm_domain import running_xml, text_of
from ._kvm_power import lookup
from ._kvm_world import Phase, Plan
from ._paths import seed_path


def plan_seed(plan: Plan) -> None:
    """Eject where the controller says that it has reached the guest; delete what an interrupted run left."""
    seen, spec = t.cast(Seen, plan.seen), plan.spec
    mark = plan.mark
    expected = seed_path(plan.root_pool, mark.cluster, mark.guest)
    reached = spec.first_contact or spec.name in plan.world.options.contacted
    if seen.seed is not None and seen.seed == expected and reached:
        plan.difference.compare("seed", seen.seed, None)
        plan.edits.append(functools.partial(edit.put_seed, path=None))
        if plan.active and plan.native.live and plan.native.live.drive and plan.native.live.drive.path:
            plan.add(Phase.LIVE, "eject seed", functools.partial(_eject, plan))
        _plan_deletion(plan, expected)
    elif seen.seed is None and os.path.exists(expected) and not _claimed(plan, expected):
        plan.difference.compare("seed", expected, None)
        _plan_deletion(plan, expected)


def _claimed(plan: Plan, path: str) -> bool:
    return plan.claim is not None and plan.claim.seed == path


def _plan_deletion(plan: Plan, path: str) -> None:
    if plan.world.has_files:
        plan.add(Phase.SETTLE, "delete seed", functools.partial(remove, pathlib.Path(path)))


def _eject(plan: Plan) -> None:
    """By force: a guest may have locked the drive's door, and has no say here. A disk is taken out as a whole."""
    lib = require_libvirt()
    domain = lookup(plan)
    with told(plan.spec.name, "eject its seed"):
        drive = find_seed(running_xml(domain))
        if drive is None:
            return
        if drive.get("device") != "cdrom":
            domain.detachDeviceFlags(text_of(drive), lib.VIR_DOMAIN_AFFECT_LIVE)
            return
        for source in drive.findall("source"):
            drive.remove(source)
        domain.updateDeviceFlags(text_of(drive), lib.VIR_DOMAIN_AFFECT_LIVE | lib.VIR_DOMAIN_DEVICE_MODIFY_FORCE)
