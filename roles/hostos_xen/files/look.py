# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a machine that is, or is to become, a Xen HostOS. Changes nothing.

The only argument: the wanted arguments of the hypervisor. Prints JSON.
"""

from __future__ import annotations

import json
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import typing as t

MENU = "/boot/grub/grub.cfg"
#: Files that the role has blocks in.
FILES = ("/etc/xen/xl.conf", "/etc/libvirt/libxl.conf", "/etc/default/xendomains")


def read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def output(*command: str) -> str:
    """What a command says; nothing if it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def info() -> dict[str, str]:
    """What `xl info` says."""
    pairs = (line.partition(":") for line in output("xl", "info").splitlines())
    return {key.strip(): value.strip() for key, _colon, value in pairs}


def dom0_kernels(boot: str = "/boot") -> list[str]:
    """Versions of the kernels that can be Xen's dom0."""
    configs = sorted(pathlib.Path(boot).glob("config-*"))
    return [path.name[len("config-") :] for path in configs if "CONFIG_XEN_DOM0=y\n" in read(str(path))]


def menu_boots_xen(menu: str) -> bool:
    """Whether the default of GRUB's menu is an entry that loads the hypervisor."""
    defaults = re.findall(r'^\s*set default="([^"$]+)"', menu, re.MULTILINE)
    return bool(defaults) and "Xen" in defaults[-1]


def menu_arguments(menu: str) -> str:
    """What the first entry of GRUB's menu that loads the hypervisor starts it with."""
    found = re.search(r"^\s*multiboot2?\s+\S*/xen-\S+ placeholder(.*)$", menu, re.MULTILINE)
    return " ".join(re.sub(r"\$\{\w+\}", "", found[1]).split()) if found else ""


def guests() -> list[str]:
    """Names of domains that run, dom0 left out. A dying one may be called "(null)"."""
    names = [line.split()[0] for line in output("xl", "list").splitlines()[1:] if line.strip()]
    return [name for name in names if name not in ("Domain-0", "(null)")]


def holds(wanted: str, running: str) -> bool:
    """Whether the hypervisor was started with exactly these arguments (GRUB puts a word before them)."""
    return running.split()[-len(wanted.split()) :] == wanted.split()


def main() -> None:
    under_xen = read("/sys/hypervisor/type").strip() == "xen" and "control_d" in read("/proc/xen/capabilities")
    running = info().get("xen_commandline", "") if under_xen else ""
    menu = read(MENU)
    answer: dict[str, t.Any] = {
        "architecture": platform.machine(),
        "grub": shutil.which("update-grub") is not None,
        "dom0_kernels": dom0_kernels(),
        "toolstack": shutil.which("xl") is not None,
        "under_xen": under_xen,
        "command_line": running,
        "arguments_hold": holds(sys.argv[1], running),
        "menu_boots_xen": menu_boots_xen(menu),
        "menu_holds": menu_boots_xen(menu) and menu_arguments(menu) == " ".join(sys.argv[1].split()),
        "guests": guests() if under_xen else [],
        "files": [path for path in FILES if pathlib.Path(path).exists()],
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
