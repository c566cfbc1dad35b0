# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine has: processes, mounts, network namespaces, links, nft tables, sysctls, packages, files.

footprint.py take FILE                   write what is here now
footprint.py compare FILE [--allow F]    what is here now against FILE; 1 if something differs that F does not name

A line of the allow file is `KIND PATTERN  # why`; each one that was needed is printed with its reason, so the list
stays short and honest. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import pathlib
import subprocess
import sys
import typing as t

#: Trees whose files are compared by name. Package files are taken out: packages have a kind of their own.
FILE_ROOTS = (
    "/etc",
    "/usr/local",
    "/var/lib",
    "/var/tmp",
    "/var/cache",
    "/root",
    "/home",
    "/opt",
    "/srv",
    "/run",
    "/tmp",
    "/boot",
)
#: sysctls that change by themselves.
VOLATILE = (
    "kernel.random.*",
    "fs.*-nr",
    "fs.*-state",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "net.netfilter.nf_conntrack_count",
    "fs.quota.*",
    "kernel.sched_*",
    "vm.stat_refresh",
    "net.ipv4.conf.*",
    "net.ipv6.conf.*",
    "net.ipv4.neigh.*",
    "net.ipv6.neigh.*",
    "kernel.tainted",
    "fs.binfmt_misc.*",
    "kernel.perf_*",
    "user.*",
)
#: In the environment of whatever a demo starts.
MARK = "OSCARV_FOOTPRINT="
#: Programs that it starts, should one have lost the mark.
OUR_PROGRAMS = ("systemd-nspawn", "qemu-system", "libvirt", "virtlog", "dnsmasq", "mmdebstrap")
OUR_TEMPORARY = (
    "ansible_*",
    "ansible-tmp*",
    "ansible-local*",
    "oscarv*",
    "mmdebstrap*",
    "libvirt*",
    "qemu*",
    "pip*",
    "tmp*",
    "systemd*",
)


def output(*command: str) -> str:
    """What a command prints; nothing where it is not installed."""
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""


def ancestors() -> set[int]:
    """This process, its parent, and so on; without init."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return found


def processes() -> dict[str, str]:
    """Every process that is not of the kernel and not an ancestor of this one: "pid/start" -> command line."""
    found = {}
    mine = ancestors()
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in mine:
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command and fields[0] != "Z":
            found[f"{folder.name}/{fields[19]}"] = command[:200]
    return found


def mounts() -> dict[str, str]:
    lines = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    return {f[4]: f[f.index("-") + 1] for f in lines}


def namespaces() -> dict[str, str]:
    """Named network namespaces; unnamed ones live by their processes, which are compared themselves."""
    return {line.split()[0]: "" for line in output("ip", "netns", "list").splitlines() if line}


def links() -> dict[str, str]:
    return {link["ifname"]: link.get("link_type", "") for link in json.loads(output("ip", "-j", "link") or "[]")}


def nft_tables() -> dict[str, str]:
    listing = json.loads(output("nft", "-j", "list", "tables") or '{"nftables": []}')
    return {f"{e['table']['family']} {e['table']['name']}": "" for e in listing["nftables"] if "table" in e}


def sysctls() -> dict[str, str]:
    found = {}
    root = pathlib.Path("/proc/sys")
    for path in root.rglob("*"):
        name = ".".join(path.relative_to(root).parts)
        if any(fnmatch.fnmatch(name, pattern) for pattern in VOLATILE):
            continue
        try:
            if path.is_file() and path.stat().st_mode & 0o200 and path.stat().st_mode & 0o400:
                found[name] = path.read_text().strip()
        except OSError:
            continue
    return found


def packages() -> dict[str, str]:
    lines = output("dpkg-query", "-W", "-f", "${binary:Package}\t${Version}\t${db:Status-Abbrev}\n").splitlines()
    return {name: version for name, version, status in (line.split("\t") for line in lines) if status.startswith("ii")}


def files() -> dict[str, str]:
    found: dict[str, str] = {}
    for root in FILE_ROOTS:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not os.path.ismount(f"{folder}/{name}")]
            if root in ("/tmp", "/var/tmp"):
                names += [f"{name}/" for name in folders]
            for name in names:
                found[f"{folder}/{name}"] = ""
    return found


def of_packages(paths: t.Iterable[str]) -> set[str]:
    """Those of the paths that belong to a package, or that a package's scripts keep beside its name."""
    owned: set[str] = set()
    for listing in pathlib.Path("/var/lib/dpkg/info").glob("*.list"):
        owned.update(listing.read_text(errors="replace").splitlines())
    return {path for path in paths if path in owned or path.startswith("/var/lib/dpkg/")}


KINDS: dict[str, t.Callable[[], dict[str, str]]] = {
    "process": processes,
    "mount": mounts,
    "netns": namespaces,
    "link": links,
    "nft": nft_tables,
    "sysctl": sysctls,
    "package": packages,
    "file": files,
}


def take() -> dict[str, dict[str, str]]:
    return {kind: read() for kind, read in KINDS.items()}


def differences(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> list[tuple[str, str, str]]:
    """(kind, name, what): appeared, gone, or was X and is Y."""
    rows = []
    for kind in KINDS:
        old, new = before[kind], after[kind]
        for name in sorted(new.keys() - old.keys()):
            rows.append((kind, name, f"appeared {new[name]}".strip()))
        for name in sorted(old.keys() - new.keys()):
            if kind not in ("process", "file"):  # others' processes end, others' temporary files go
                rows.append((kind, name, f"gone {old[name]}".strip()))
        for name in sorted(old.keys() & new.keys()):
            if old[name] != new[name] and kind in ("sysctl", "mount"):
                rows.append((kind, name, f"was {old[name]!r}, is {new[name]!r}"))
    others = of_packages(name for kind, name, _what in rows if kind == "file")
    others.update(name for kind, name, _what in rows if kind == "file" and of_others(name, before["file"]))
    others.update(name for kind, name, what in rows if kind == "process" and not ours(name, what))
    return [row for row in rows if row[1] not in others]


def of_others(path: str, before: t.Iterable[str]) -> bool:
    """A file in a temporary folder of somebody else: it was there before, or is named like nothing of ours."""
    parts = pathlib.Path(path).parts
    if parts[1:2] != ("tmp",) and parts[1:3] != ("var", "tmp"):
        return False
    first = 2 if parts[1] == "tmp" else 3
    folder = "/".join(("", *parts[1 : first + 1], ""))
    named = any(fnmatch.fnmatch(parts[first], pattern) for pattern in OUR_TEMPORARY)
    return not named or (len(parts) > first + 1 and any(name.startswith(folder) for name in before))


def ours(name: str, what: str) -> bool:
    """Whether a new process may be of this project: marked, in a container, or one of the programs that it starts.

    People log in and cron runs while a demo does; what they start is none of its business.
    """
    folder = pathlib.Path("/proc") / name.split("/")[0]
    try:
        marked = MARK.encode() in (folder / "environ").read_bytes()
        inside = (folder / "ns" / "pid").readlink() != pathlib.Path("/proc/self/ns/pid").readlink()
    except OSError:
        return False  # gone meanwhile
    return marked or inside or any(program in what for program in OUR_PROGRAMS)


def allowances(path: str | None) -> list[tuple[str, str, str]]:
    rows = []
    for line in pathlib.Path(path).read_text().splitlines() if path else []:
        if line.strip() and not line.startswith("#"):
            rule, _hash, why = line.partition("  # ")
            kind, pattern = rule.split(None, 1)
            rows.append((kind, pattern.strip(), why.strip()))
    return rows


def report(rows: list[tuple[str, str, str]], allowed: list[tuple[str, str, str]]) -> int:
    """Print what stays by intent (one line a rule) and what should not be there; 1 if there is any of that."""
    used: dict[tuple[str, str, str], int] = {}
    wrong = []
    for row in rows:
        text = row[1] if row[0] != "process" else row[2]
        rule = next((r for r in allowed if r[0] == row[0] and fnmatch.fnmatch(text, r[1])), None)
        if rule:
            used[rule] = used.get(rule, 0) + 1
        else:
            wrong.append(row)
    for (kind, pattern, why), count in used.items():
        print(f"  stays: {count} x {kind} {pattern}: {why}")
    for kind, name, what in wrong:
        print(f"  LEFT BEHIND: {kind} {name}: {what}")
    print(f"  {len(wrong)} differences beyond the {len(used)} named ones, of {', '.join(KINDS)}")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("take", "compare"))
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--allow")
    options = parser.parse_args()
    if options.verb == "take":
        options.file.parent.mkdir(parents=True, exist_ok=True)
        options.file.write_text(json.dumps(take()))
        return 0
    return report(differences(json.loads(options.file.read_text()), take()), allowances(options.allow))


if __name__ == "__main__":
    sys.exit(main())
