# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the capability matrix of all drivers, from their own code, into docs/reference/capabilities.md and README.md.

python tools/capability_matrix.py [--check]     with --check: only say, by exit code 1, that something is out of date
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".build" / "collections"))

from ansible_collections.oscarv.virt.plugins.module_utils._driver import CAPABILITIES
from ansible_collections.oscarv.virt.plugins.module_utils._lxc_platform import MISSING
from ansible_collections.oscarv.virt.plugins.module_utils._openvz import CANNOT
from ansible_collections.oscarv.virt.plugins.module_utils._spec import XEN_TYPES
from ansible_collections.oscarv.virt.plugins.module_utils._xen_platform import missing_for

PAGE = ROOT / "docs" / "reference" / "capabilities.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- capability matrix: made by tools/capability_matrix.py -->", "<!-- end of the capability matrix -->"
#: `virt_caps` of Debian 12's Xen on a CPU with HAP: no shadow paging.
DEBIAN_XEN = ("pv", "hvm", "hap")

#: Rows of the table of OSCAR-V's library V3M: what its sources did, what does it here, capabilities that it needs.
V3M: tuple[tuple[str, str, str, tuple[str, ...] | None], ...] = (
    (
        "instantiation",
        "from one XML profile for every back end; at most 2 NICs, a MAC used twice is not noticed",
        "`oscarv.virt.deploy`",
        ("define", "start_stop"),
    ),
    (
        "image creation",
        "one at a time (a fixed loop device)",
        "`oscarv.virt.image`, the same image for every hypervisor",
        (),
    ),
    ("installation from CD-ROM", "has it", "images are built or imported; nothing is installed in a guest", None),
    ("installation over the network", "has it", "the same", None),
    (
        "migration",
        "a command; on KVM it returned success without moving anything",
        "`oscarv.virt.migrate`, `oscarv.virt.evacuate`; what is not possible is refused",
        ("cold_move", "live_move"),
    ),
    ("pause/unpause", "a command, which always failed", "`state: paused`; beside it `state: saved`", ("pause", "save")),
    ("virtual disk", "has it", "`disk`, `disks`: qcow2, on a build or empty", ("overlay", "live_disk")),
)

HEAD = """\
# What each hypervisor can do

Made from the drivers' own code by `tools/capability_matrix.py`. What a HostOS really can is measured: `hostos_info`
returns it with reasons, and what a HostOS lacks is refused before anything changes. The columns of Xen are those of
Debian 12's hypervisor on a CPU with nested paging (HAP). A "yes" is the driver's word, not
what was seen: that stands in the how-tos, for [Xen](../how-to/xen.md#what-was-seen-and-what-not) and for
[containers](../how-to/containers.md#what-was-seen-and-what-not). The column openvz is contract tested against a double
of its tools, never on an OpenVZ kernel. It is that of a kernel that can write memory down and restore it (`/proc/cpt`
and `/proc/rst`, or vzctl 7). Without the first `save`, `live_move` and `live_move_local_disk` are missing, without the
second `save`.
"""


def columns() -> dict[str, dict[str, str]]:
    """Driver (and type of guest) -> capability that it lacks -> why."""
    xen = {f"xen {name}": missing_for(name, DEBIAN_XEN) for name in XEN_TYPES}
    return {"kvm": {}, **xen, "lxc": dict(MISSING), "openvz": dict(CANNOT)}


def table() -> str:
    """Capabilities by drivers."""
    drivers = columns()
    rows = [f"| capability | {' | '.join(drivers)} |", f"|---|{'---|' * len(drivers)}"]
    for name, words in CAPABILITIES.items():
        cells = ["no" if name in lacking else "yes" for lacking in drivers.values()]
        rows.append(f"| `{name}`: {words} | {' | '.join(cells)} |")
    return "\n".join(rows)


def reasons() -> str:
    """Why something is missing, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for driver, lacking in columns().items():
        for name, why in lacking.items():
            found.setdefault((name, why), []).append(driver)
    return "\n".join(f"- `{name}` ({', '.join(drivers)}): {why}." for (name, why), drivers in found.items())


def v3m() -> str:
    """The rows of V3M's own table, answered for the drivers of this collection."""
    drivers = columns()
    head = ("V3M's row", "V3M", *drivers, "VMware", "here by")
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row, before, by, needs in V3M:
        cells = [_answer(needs, lacking) for lacking in drivers.values()]
        rows.append(f"| {row} | {before} | {' | '.join(cells)} | no | {by} |")
    return "\n".join(rows)


def _answer(needs: tuple[str, ...] | None, lacking: dict[str, str]) -> str:
    """`needs`: None where no driver has it."""
    if needs is None:
        return "no"
    missing = [name for name in needs if name in lacking]
    return "yes" if not missing else f"without `{'`, `'.join(missing)}`"


def page() -> str:
    return f"""\
{HEAD}
{table()}

## Why not

{reasons()}

## Beside V3M's table

V3M, the library under OSCAR-V, had a table of what it could do with Xen PV, Xen HVM, QEMU and VMware. These are its
rows. The column V3M says what its sources did, as far as we know them; which cells its own table ticked for which of
the four we do not know. QEMU without KVM is the driver `kvm` here, under emulation. There is no driver for VMware.

{v3m()}
"""


def readme() -> str:
    """README.md with the matrix between its markers."""
    text = README.read_text(encoding="utf-8")
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main() -> int:
    wanted = {PAGE: page(), README: readme()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is out of date: run python tools/capability_matrix.py")
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
