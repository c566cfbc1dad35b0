# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that was renamed in the definition keeps everything; its domain and files get the new name while it is off.

Files get their new name as a second one (a hard link) before the domain is changed, and lose the old one afterwards: at
no moment does the domain name a file that is not there.
"""

from __future__ import annotations

import functools
import glob
import os
import pathlib

from . import _kvm_edit as edit
from ._claims import Claim
from ._difference import LIVE, RESTART
from ._driver import Seen
from ._files import sync_directory
from ._kvm_connection import told
from ._kvm_files import remove_unused
from ._kvm_power import lookup
from ._kvm_world import Phase, Plan
from ._kvm_xml import console_log
from ._paths import disk_name_of, kind_of

#: Stands for the UEFI variables among the names of disks, none of which has a slash.
_VARIABLES = "os/nvram"


def plan_name(plan: Plan, seen: Seen) -> None:
    """The name of the domain, and with it the names of the files of our making."""
    spec, old = plan.spec, plan.mark.guest
    if seen.name == spec.name and old == spec.name:
        return
    plan.difference.compare("name", old, spec.name, effect=RESTART if plan.active else LIVE)
    _refuse(plan, seen)
    if not plan.world.platform.simulator and not plan.world.platform.dialect.renames:
        raise plan.error(
            f"name: libvirt cannot rename a {plan.world.platform.hypervisor} guest: take `renamed_from` back, or"
            f" move its disk by hand (virsh dumpxml {seen.name})"
        )
    if plan.active:
        return
    renamed = _renamed_files(plan)
    if renamed:
        claim = Claim(spec.uuid, spec.cluster, old, plan.root_pool, doomed=tuple(path for path, _new, _name in renamed))
        plan.add(Phase.PREPARE, "", claim.write)
    for path, new, _name in renamed:
        plan.add(Phase.PREPARE, f"rename {path}", functools.partial(_link, path, new))
        plan.add(Phase.SETTLE, "", functools.partial(remove_unused, plan, path))
    if renamed:
        plan.add(Phase.SETTLE, "", claim.discard)
    if seen.name != spec.name:
        plan.add(Phase.PREPARE, f"rename {seen.name} to {spec.name}", functools.partial(_rename, plan))
    plan.edits.extend(functools.partial(_point, name=name, path=new) for _path, new, name in renamed)
    _plan_log(plan)


def _plan_log(plan: Plan) -> None:
    """The next guest of the old name would log to the same file, which virtlogd refuses: it would not start."""
    old, new = console_log(plan.mark.guest), console_log(plan.spec.name)
    if old == new or plan.native.config.console_log != old:
        return
    plan.edits.append(functools.partial(edit.set_console_log, old=old, new=new))
    if plan.world.has_files and not any(seen.console_log == old for seen in plan.world.others(plan.spec.uuid)):
        plan.add(Phase.SETTLE, "", functools.partial(_move_logs, old, new))


def _move_logs(old: str, new: str) -> None:
    """With those that virtlogd has rotated; what an earlier guest of the new name has left goes."""
    for path in glob.glob(glob.escape(old) + "*"):
        os.replace(path, new + path[len(old) :])


def _refuse(plan: Plan, seen: Seen) -> None:
    kept = [path for claim in plan.world.claims_of(seen.uuid) for path in claim.kept.values()]
    if kept:
        raise plan.error(f"it has detached disks under its old name: {', '.join(kept)}; attach or remove them first")
    for path, new, _name in _renamed_files(plan):
        if os.path.lexists(new) and not (os.path.exists(path) and os.path.samefile(path, new)):
            raise plan.error(f"cannot rename {path}: {new} is there already; move it away")


def _renamed_files(plan: Plan) -> list[tuple[str, str, str]]:
    """(path, new path, name of the disk) of every file of our making that the persistent configuration names.

    The UEFI variables' file is of libvirt's making, and named by it after the domain.
    """
    mark, spec = plan.mark, plan.spec
    found: list[tuple[str, str, str]] = []
    if mark.guest == spec.name:
        return found
    for disk in plan.native.config.disks:
        name = disk_name_of(disk.path, mark.cluster, mark.guest)
        if disk.path and disk.path.endswith(f"/{mark.guest}-seed.iso"):
            found.append((disk.path, str(pathlib.Path(disk.path).with_name(f"{spec.name}-seed.iso")), "seed"))
        elif disk.path and name is not None:
            found.append(
                (disk.path, str(pathlib.Path(disk.path).with_name(f"{spec.name}-{name}.{kind_of(disk.path)}")), name)
            )
    variables = plan.native.config.variables
    if variables and pathlib.Path(variables).name.startswith(f"{mark.guest}_VARS."):
        ending = pathlib.Path(variables).name[len(mark.guest) :]
        found.append((variables, str(pathlib.Path(variables).with_name(spec.name + ending)), _VARIABLES))
    return found


def _point(domain: edit.ET.Element, name: str, path: str) -> None:
    if name == _VARIABLES:
        edit.set_variables(domain, path)
    elif name == "seed":
        edit.put_seed(domain, path)
    else:
        edit.put_disk(domain, name, path)


def _link(path: str, new: str) -> None:
    if os.path.exists(path) and not os.path.exists(new):
        os.link(path, new)
        sync_directory(pathlib.Path(new).parent)


def _rename(plan: Plan) -> None:
    with told(plan.spec.name, "rename it"):
        lookup(plan).rename(plan.spec.name)
