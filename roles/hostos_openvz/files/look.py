# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a machine that is, or is to become, an OpenVZ HostOS. Changes nothing.

The only argument is JSON: proc (the folder of the kernel's files, /proc), conf (of vz.conf), marker (of our block in
it). Prints JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import typing as t

#: What OpenVZ's kernels are called: 2.6.32-042stab145.3, 3.10.0-1160.105.1.vz7.214.3.
KERNEL = re.compile(r"stab|\bvz\d|\.vz")

#: A line of vz.conf, in the shell's syntax.
TEMPLATE = re.compile(
    r"""^\s*(?:export\s+)?TEMPLATE=(?:"([^"]*)"|'([^']*)'|([^\s"'#]*))\s*(?:#.*)?$""",
    re.MULTILINE,
)


def output(*command: str) -> str | None:
    """What a command says; None if it is not installed, fails, or hangs."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    if shutil.which(command[0], path=environment["PATH"]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def version(text: str | None) -> str | None:
    """From the first line of `vzctl --version`."""
    found = re.match(r"vzctl version (\d[\w.-]*)", text or "")
    return found.group(1) if found else None


def containers(text: str | None) -> int | None:
    """How many `vzlist -a -j` lists; None for what is no list. 4.11 prints nothing at all where it cannot look."""
    try:
        listed = json.loads(text or "")
    except ValueError:
        return None
    return len(listed) if isinstance(listed, list) else None


def caches(text: str) -> list[str]:
    """Where vz.conf's templates are, or were before somebody wrote a further line: the driver made its own there."""
    found = [double or single or bare for double, single, bare in TEMPLATE.findall(text)]
    return list(dict.fromkeys(f"{folder}/cache" for folder in [*found, "/vz/template"] if folder.startswith("/")))


def main() -> None:
    wish = json.loads(sys.argv[1])
    proc = pathlib.Path(wish["proc"])
    conf = pathlib.Path(wish["conf"])
    text = conf.read_text(encoding="utf-8", errors="replace") if conf.is_file() else ""
    answer: dict[str, t.Any] = {
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "kernel_is_openvz": bool(KERNEL.search(platform.release())),
        "proc_vz": (proc / "vz").is_dir(),
        # A container sees /proc/vz, and not /proc/bc.
        "is_guest": (proc / "vz").is_dir() and not (proc / "bc").is_dir() and not (proc / "lve").exists(),
        "vzctl": version(output("vzctl", "--version")),
        "containers": containers(output("vzlist", "-a", "-j", "-o", "ctid,status")),
        "conf": conf.is_file(),
        "block": wish["marker"] in text,
        "caches": caches(text),
        "converted": pathlib.Path("/etc/virtuozzo-release").exists() or pathlib.Path("/etc/openvz-release").exists(),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
