# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest boots: its disk, or the kernel and initramfs of the disk's build from outside it."""

from __future__ import annotations

import functools
import os
import typing as t
import xml.etree.ElementTree as ET

from ._dialect import boot_for, dialect_of
from ._difference import LIVE, RESTART
from ._driver import DriverError
from ._kvm_parse import Boot
from ._kvm_world import Plan


def wanted_boot(plan: Plan) -> Boot | None:
    """What the spec asks for; None for the disk. DriverError where the kernel is not on this HostOS."""
    spec, world = plan.spec, plan.world
    if spec.command_line is None or not world.has_files:
        return None
    boot = boot_for(world.platform.hypervisor, spec, world.pool_directory(spec, spec.root))
    if boot is not None and spec.root.build_id not in world.options.builds_expected:
        _refuse_missing(plan, boot)
    return boot


def _refuse_missing(plan: Plan, boot: Boot) -> None:
    for path in (boot.kernel, boot.initrd):
        if not os.path.isfile(path):
            raise DriverError(
                f"guest {plan.spec.name}: its image says boot: kernel, and {path} is not on this HostOS: run"
                " oscarv.virt.deploy, which brings it"
            )


def plan_boot(plan: Plan) -> None:
    """Call after `plan_build`. A disk on an older build keeps that one's kernel, whose modules are on it.

    A kernel that is not a build's somebody else put there: it stays, unless a build's is asked for.
    """
    config = plan.native.config
    if plan.build_outdated or not plan.world.has_files:
        return
    wanted = wanted_boot(plan)
    effect = RESTART if plan.active else LIVE
    if plan.difference.compare("boot", _plain(config.boot), _plain(wanted), effect=effect):
        plan.edits.append(functools.partial(_put_boot, boot=wanted))


def _plain(boot: Boot | None) -> t.Any:
    return "disk" if boot is None else boot._asdict()


def _put_boot(domain: ET.Element, boot: Boot | None) -> None:
    dialect_of(domain.get("type", "")).put_boot(domain, boot)
