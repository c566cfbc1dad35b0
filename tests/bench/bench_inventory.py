# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory plugin costs at 500 HostOSes and 10,000 guests, in CPU seconds of `ansible-inventory`.

Measured in the same run: an empty inventory, which is Ansible's own floor, and a JSON script that prints the same
hosts, groups and variables. `rows()` returns the rows; run alone, this file prints them.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".build" / "collections"
HOSTS, GUESTS = 500, 10_000
RUNS = 3

RACKS = "".join(
    f'  rack{n:02}: {{level: rack, members: "node[{n * 20 + 1:03}:{n * 20 + 20:03}]"}}\n' for n in range(HOSTS // 20)
)
DEFINITION = f"""\
plugin: oscarv.virt.cluster
cluster: bench
networks:
  compute: {{bridge: br0, mtu: 9000, ranges: 10.0.0.0/16, gateway: 10.0.0.1}}
enclosures:
{RACKS}partitions:
  hosts: {{hypervisor: kvm, members: "node[001:{HOSTS}]", capacity: {{vcpus: 64, memory: 256 GiB, disk: 4 TiB}}}}
  workers:
    image: base
    members: "wn[00001:{GUESTS}]"
    on: hosts
    vcpus: 2
    memory: 4 GiB
    disk: 20 GiB
    networks: [compute]
    roles: [site.node, site.scheduler]
images:
  base: {{builder: debian, release: bookworm}}
"""


def find_collection() -> None:
    """Make the collection importable, as tests/conftest.py does."""
    if "ansible_collections.oscarv" not in sys.modules:
        from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

        _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


def fill_ledger(definition: pathlib.Path) -> None:
    """Record every guest as placed, with address and host key, the way `assign` leaves it."""
    from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
    from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import open_ledger
    from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import Changes, GuestRow, HostKeyRow, NicRow

    cluster = load(str(definition))
    guests, nics, keys = [], [], []
    first = int(ipaddress.ip_address("10.0.1.0"))
    for number, name in enumerate(cluster.guests):
        ident = str(uuid.UUID(int=number + 1, version=4))
        host = f"node{number % HOSTS + 1:03}"
        guests.append(GuestRow(ident, name, "workers", host, 1, "running", "base", "ab" * 32, "kvm"))
        mac = "52:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(5, "big"))
        nics.append(NicRow(mac, ident, 0, "compute", "default", (str(ipaddress.ip_address(first + number)),)))
        blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + number.to_bytes(32, "big")
        keys.append(HostKeyRow(ident, "ssh-ed25519 " + base64.b64encode(blob).decode(), "2026-11-20T00:00:00+00:00"))
    with open_ledger(cluster).transaction() as tx:
        tx.write(Changes(guests=tuple(guests), nics=tuple(nics), host_keys=tuple(keys)))


def prepare(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Three inventory sources: empty, ours, and a script that prints what ours shows."""
    sources = {name: folder / name for name in ("empty.yml", "bench.oscarv.yml", "script.py")}
    sources["empty.yml"].write_text("all: {}\n", encoding="utf-8")
    sources["bench.oscarv.yml"].write_text(DEFINITION, encoding="utf-8")
    fill_ledger(sources["bench.oscarv.yml"])
    same = run(sources["bench.oscarv.yml"], "--list", "--export").stdout
    shown = json.loads(same)
    assert len(shown["_meta"]["hostvars"]) == HOSTS + GUESTS
    (folder / "same.json").write_text(same, encoding="utf-8")
    script = f"#!/bin/sh\nexec cat {folder / 'same.json'}\n"
    sources["script.py"].write_text(script, encoding="utf-8")
    sources["script.py"].chmod(0o755)
    return sources


def run(source: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One ansible-inventory; fails loudly, also where Ansible only warns that it could not read the source."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "OSCARV_"))}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    command = [str(pathlib.Path(sys.executable).parent / "ansible-inventory"), "-i", str(source), *arguments]
    return subprocess.run(command, env=environment, cwd=source.parent, check=True, text=True, capture_output=True)


def cpu(source: pathlib.Path, *arguments: str) -> float:
    """User and system CPU seconds of one run, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(source, *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(what: str, ours: float, peer: float | None, goal: float) -> dict[str, t.Any]:
    ratio = ours / peer if peer else ours
    return {
        "bar": what,
        "ours": round(ours, 3),
        "peer": round(peer, 3) if peer else None,
        "ratio": round(ratio, 2),
        "goal": goal,
        "holds": ratio <= goal,
    }


def rows() -> list[dict[str, t.Any]]:
    """The bars: `ours` and `peer` are CPU seconds, medians; `ratio` is to be at most `goal`."""
    find_collection()
    found: list[dict[str, t.Any]] = []
    with tempfile.TemporaryDirectory(prefix="oscarv-bench-") as name:
        folder = pathlib.Path(name)
        sources = prepare(folder)
        for verb, goal in (("--graph", 3.0), ("--list", 8.0)):
            seconds: dict[str, list[float]] = {key: [] for key in sources}
            for _round in range(RUNS):  # interleaved, so that a busy moment hits all three
                for key, source in sources.items():
                    seconds[key].append(cpu(source, verb))
            empty, ours, script = (statistics.median(seconds[key]) for key in sources)
            what = f"inventory {verb}, {HOSTS} HostOSes and {GUESTS} guests: CPU"
            found.append(row(f"{what} against an empty inventory", ours, empty, goal))
            found.append(row(f"{what} against a JSON script of the same", ours, script, 1.0))
        found.append(row("definition of the same: CPU seconds to load", load_seconds(folder), None, 0.5))
    return found


def load_seconds(folder: pathlib.Path) -> float:
    from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load

    seconds = []
    for _round in range(RUNS):
        begin = time.process_time()
        load(str(folder / "bench.oscarv.yml"))
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds)


def main() -> int:
    found = rows()
    for one in found:
        words = " ".join(f"{key}={value}" for key, value in one.items() if key != "bar")
        sys.stdout.write(f"{'ok  ' if one['holds'] else 'MISS'} {one['bar']}: {words}\n")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
