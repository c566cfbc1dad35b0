# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root of a container that never ran: where its files can be reached, and with vzctl 7 how the build gets there.

Legacy unpacks our template itself, and a private area is its container's root. vzctl 7 makes containers of EZ
templates only, in a disk image: such a container is made of the node's own template (DEF_OSTEMPLATE), mounted, emptied,
and filled with the build. UNTESTED, from the reference: nobody has done so on a vzctl 7.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import typing as t

from . import _vz_argv as argv
from ._vz_world import Plan

#: Arguments: template, mounted root. Nothing of another file system is touched.
_REPLACE = """
find "$2" -xdev -mindepth 1 -delete
tar --numeric-owner --xattrs --xattrs-include='*' --same-permissions -xf "$1" -C "$2"
sync -f "$2"
"""


def carrier(plan: Plan) -> str:
    """The EZ template of which vzctl 7 makes a container before it gets its build."""
    name = plan.world.options.default_template
    if not name:
        raise plan.error(
            "vzctl 7 makes containers of EZ templates: name one that this node has as DEF_OSTEMPLATE in /etc/vz/vz.conf"
            " (`vzpkg list -O`); its files are replaced by those of the build"
        )
    return name


@contextlib.contextmanager
def root_of(plan: Plan) -> t.Iterator[pathlib.Path]:
    """The root of the plan's container, which does not run."""
    options = plan.world.options
    if plan.world.tools.dialect.legacy:
        yield options.path(plan.native.private) if plan.seen else options.private(plan.ctid)
        return
    plan.run(argv.mount(plan.ctid))
    try:
        root = options.mount_point(plan.ctid)
        if not os.path.ismount(root):
            raise plan.error(
                f"`vzctl mount` returned 0, but nothing is mounted on {root}: see VE_ROOT in /etc/vz/vz.conf"
            )
        yield root
    finally:
        plan.run(argv.umount(plan.ctid))


def fill(plan: Plan, template: pathlib.Path) -> None:
    """Replace everything in a container's root by a template's files."""
    with root_of(plan) as root:
        words = ["bash", "-euo", "pipefail", "-c", _REPLACE, "fill", str(template), str(root)]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise plan.error(f"cannot fill its root from {template}: {done.stderr.strip()[-300:]}")
