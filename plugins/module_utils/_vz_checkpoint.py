# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the memory of containers can be written down on this HostOS: for `state: saved` and for live moves.

Legacy kernels have modules for it, which show themselves as /proc/cpt and /proc/rst. OpenVZ 7 has CRIU, which is part
of its stack: nothing tells beforehand whether it works.
"""

from __future__ import annotations

import typing as t

from ._vz_dialect import Dialect

if t.TYPE_CHECKING:
    from ._vz_world import Options

#: File of the kernel -> module of OpenVZ's kernel that makes it.
_MODULES = {"/proc/cpt": "vzcpt", "/proc/rst": "vzrst"}
#: Capability -> the files that it needs here. A live move needs /proc/rst on its target, where vzmigrate looks for it.
_NEEDS = {
    "save": ("/proc/cpt", "/proc/rst"),
    "live_move": ("/proc/cpt",),
    "live_move_local_disk": ("/proc/cpt",),
}


def lacking(dialect: Dialect, options: Options) -> dict[str, str]:
    """Capability that this HostOS lacks -> why."""
    if not dialect.legacy:
        return {}
    missing = {file for file in _MODULES if not options.path(file).exists()}
    return {
        name: _why([file for file in files if file in missing]) for name, files in _NEEDS.items() if missing & {*files}
    }


def _why(files: list[str]) -> str:
    modules = " ".join(_MODULES[file] for file in files)
    return f"no {' and '.join(files)} here: `modprobe {modules}`, if its kernel has that"
