# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a machine that is, or is to become, a KVM HostOS: what there is, and what of the wish is missing.

One call instead of one per file and service: where nothing differs the role has nothing more to do. Changes nothing.
The wish comes as JSON in the only argument (see `tasks/preflight.yml`), the answer is JSON on standard output.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import stat
import subprocess
import sys
import time
import typing as t
from xml.etree import ElementTree

MANIFEST = pathlib.Path("/etc/pki/oscarv/manifest.json")
POOL_TYPES = {"dir": "dir", "nfs": "netfs"}


def output(*command: str) -> str:
    """What a command says; nothing if it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def read(path: str | pathlib.Path) -> str | None:
    try:
        return pathlib.Path(path).read_text()
    except FileNotFoundError:
        return None


def machine() -> dict[str, t.Any]:
    flags = re.search(r"^flags\s*:.*?\b(vmx|svm)\b", read("/proc/cpuinfo") or "", re.MULTILINE)
    return {
        "architecture": platform.machine(),
        "systemd": pathlib.Path("/run/systemd/system").is_dir(),
        # The device node alone proves nothing: without the CPU's flag a guest started with it hangs.
        "virtualization": flags.group(1) if flags else "",
        "kvm": os.path.exists("/dev/kvm"),
        "firewalld": output("systemctl", "is-active", "firewalld").strip() == "active",
        "firewalld_ports": output("firewall-cmd", "--permanent", "--list-ports").split(),
    }


def missing_packages(names: list[str]) -> list[str]:
    if shutil.which("dpkg-query"):
        lines = output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names).splitlines()
        there = {line.split()[0] for line in lines if line.endswith(" installed")}
    else:
        there = set(output("rpm", "-q", "--queryformat", "%{NAME}\n", *names).splitlines())
    return [name for name in names if name not in there]


def differing_files(wanted: list[dict[str, str]]) -> list[str]:
    return [file["path"] for file in wanted if read(file["path"]) != file["content"]]


def differing_blocks(wanted: dict[str, str], marker: str) -> list[str]:
    """Files that do not hold their block, whole, once, and between its own markers."""
    pattern = re.compile(rf"^# BEGIN {re.escape(marker)}\n(.*?)^# END {re.escape(marker)}$", re.MULTILINE | re.DOTALL)
    return [
        path for path, content in wanted.items() if pattern.findall(read(path) or "") != [content.strip("\n") + "\n"]
    ]


def active_units(names: list[str], wanted: str) -> list[dict[str, str]]:
    """Those of the units that are active: Id, and the property that is wanted."""
    if not names:  # without a name systemctl shows its own manager
        return []
    shown = output("systemctl", "show", f"--property=Id,ActiveState,{wanted}", *names).split("\n\n")
    units = [dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in shown]
    return [unit for unit in units if unit.get("ActiveState") == "active"]


def units_down(names: list[str]) -> list[str]:
    """Units that are not both enabled and active."""
    up = {unit["Id"] for unit in active_units(names, "UnitFileState") if unit.get("UnitFileState") == "enabled"}
    return [name for name in names if name not in up]


def outdated(services: list[str], files: list[str]) -> list[str]:
    """Running services that began before one of their files was written: a run ended before it restarted them."""
    now, up = time.time(), time.monotonic()  # systemd's clock counts from the boot, and the files' does not
    written = [os.stat(path).st_mtime for path in files if os.path.exists(path)]
    newest = max((when for when in written if when <= now), default=0.0)
    found = []
    for unit in active_units(services, "ExecMainStartTimestampMonotonic"):
        began = now - up + int(unit.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        if began < newest:
            found.append(unit["Id"])
    return found


def certificates(wish: dict[str, t.Any]) -> dict[str, t.Any]:
    """Why the certificates have to be issued (again), whose they are, and files in their place that are not ours."""
    manifest = json.loads(read(MANIFEST) or '{"files": {}, "complete": false}')
    foreign = [path for path in wish["paths"] if os.path.lexists(path) and path not in manifest["files"]]
    reasons = []
    if not manifest["complete"]:
        reasons.append("there are none" if not manifest["files"] else "they were not installed completely")
    else:
        if manifest["names"] != wish["names"]:
            reasons.append(f"they are for {', '.join(manifest['names'])}")
        if manifest["ca"] != wish["ca"]:
            reasons.append("they are of another certificate authority")
        if float(manifest["not_after"]) - time.time() < float(wish["renew_days"]) * 86400:
            reasons.append(time.strftime("they expire on %Y-%m-%d", time.gmtime(float(manifest["not_after"]))))
        if any(digest(path) != wanted for path, wanted in manifest["files"].items()):
            reasons.append("files were changed or removed")
    return {"reasons": reasons, "foreign": foreign, "ca": manifest.get("ca", "")}


def digest(path: str) -> str | None:
    """Content and permissions in one value, as pki.py wrote them into the manifest."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        return f"{mode:04o} {hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()}"
    except FileNotFoundError:
        return None


def pool_conflicts(pools: list[dict[str, t.Any]]) -> list[str]:
    """Storage pools that libvirt has under a wanted name, but otherwise than wanted. Read where libvirt keeps them."""
    found = []
    for pool in pools:
        text = read(f"/etc/libvirt/storage/{pool['name']}.xml")
        if text is None:
            continue
        xml = ElementTree.fromstring(text)
        there = (xml.get("type"), xml.findtext("target/path"), source_of(xml))
        wanted = (POOL_TYPES[pool["type"]], pool["path"], plain(pool["source"]) if pool["type"] == "nfs" else None)
        if there != wanted:
            found.append(f"pool {pool['name']} is {words(*there)}, wanted: {words(*wanted)}")
    return found


def source_of(pool: ElementTree.Element) -> str | None:
    """SERVER:/PATH of a pool that is mounted. Guests would go on from old data, were it another than elsewhere."""
    host, directory = pool.find("source/host"), pool.find("source/dir")
    if host is None or directory is None:
        return None
    return plain(f"{host.get('name')}:{directory.get('path')}")


def plain(source: str) -> str:
    """As libvirt writes a path."""
    return re.sub("/+", "/", source).rstrip("/")


def words(kind: str | None, path: str | None, source: str | None) -> str:
    return f"of type {kind} at {path}" + (f" from {source}" if source else "")


def main() -> None:
    wish = json.loads(sys.argv[1])
    answer = {
        **machine(),
        "missing_packages": missing_packages(wish["packages"]),
        "differing_files": differing_files(wish["files"]),
        "differing_blocks": differing_blocks(wish["blocks"], wish["marker"]),
        "units_down": units_down(wish["units"]),
        "firewall_files": [path for path in wish["firewall_paths"] if os.path.lexists(path)],
        "outdated": outdated(wish["services"], wish["settings"]),
        "certificates": certificates(wish["certificates"]),
        "pool_conflicts": pool_conflicts(wish["pools"]),
        "table_loaded": bool(output("nft", "list", "table", "inet", wish["table"])),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
