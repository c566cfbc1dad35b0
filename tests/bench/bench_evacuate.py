# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the guests of one host of 500 would go, from the start of `ansible-playbook` to the plan, against `hbal -E`.

The same 500 hosts and 10,000 guests: for us a definition and an SQLite ledger, asked in check mode; for hbal its text
format. CPU seconds of the whole process, children included. hbal checks N+1 as it always does; it knows no apart rules
here, and has no ledger to read.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import typing as t
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import planner_cluster as clusters
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import open_ledger
from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger_rows import Changes, GuestRow
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Problem

COLLECTIONS = clusters.ROOT / ".build" / "collections"
HOSTS, GUESTS = 500, 10_000
EVACUATED = "node007"
GOAL = 1 / 20
#: hbal is stopped after so many seconds of CPU; what it has used by then is a lower bound on what it needs.
LIMIT = 280
#: What is measured; then once more, with its answer written to a file to be looked at.
PLAYBOOK = f"""\
- hosts: localhost
  gather_facts: false
  tasks:
    - oscarv.virt.placement: {{verb: evacuate, hosts: [{EVACUATED}]}}
      register: answer
"""
SHOWN = """\
    - ansible.builtin.copy:
        content: "{{ answer.plan | to_json }}"
        dest: "{{ playbook_dir }}/plan.json"
      check_mode: false
"""


def definition(asked: Problem) -> str:
    """The cluster as a definition: a partition for each class of hosts and for each flavour of guests."""
    lines = [
        "plugin: oscarv.virt.cluster",
        "cluster: bench",
        "networks:",
        "  compute: {bridge: br0, ranges: 10.0.0.0/16}",
    ]
    racks: dict[str, list[str]] = {}
    classes: dict[t.Any, list[str]] = {}
    for host in asked.hosts.values():
        racks.setdefault(dict(host.enclosures)["rack"], []).append(host.name)
        classes.setdefault(host.capacity, []).append(host.name)
    lines.append("enclosures:")
    lines += [f"  {rack}: {{level: rack, members: [{', '.join(names)}]}}" for rack, names in racks.items()]
    lines.append("partitions:")
    for number, (has, names) in enumerate(classes.items()):
        size = (
            f"vcpus: {int(has.vcpus)}, memory: {has.memory // clusters.GIB} GiB, disk: {has.disk // clusters.GIB} GiB"
        )
        lines.append(f"  class{number}: {{hypervisor: kvm, members: [{', '.join(names)}], capacity: {{{size}}}}}")
    flavours: dict[t.Any, list[str]] = {}
    for guest in asked.guests.values():
        flavours.setdefault(guest.demand, []).append(guest.name)
    on = ", ".join(f"class{number}" for number in range(len(classes)))
    for number, (wants, names) in enumerate(flavours.items()):
        size = (
            f"vcpus: {wants.vcpus}, memory: {wants.memory // clusters.GIB} GiB, disk: {wants.disk // clusters.GIB} GiB"
        )
        members = ", ".join(names)
        lines.append(
            f"  flavour{number}: {{image: base, on: [{on}], {size}, networks: [compute], members: [{members}]}}"
        )
    return "\n".join([*lines, "images:", "  base: {builder: debian, release: bookworm}", ""])


def fill_ledger(path: pathlib.Path, asked: Problem) -> None:
    cluster = load(str(path))
    rows = [
        GuestRow(str(uuid.UUID(int=n + 1, version=4)), g.name, cluster.guests[g.name].partition, g.host, 1, "running")
        for n, g in enumerate(asked.guests.values())
    ]
    with open_ledger(cluster).transaction() as tx:
        tx.write(Changes(guests=tuple(rows)))


def cpu(command: list[str], **more: t.Any) -> tuple[float, subprocess.CompletedProcess[str]]:
    """User and system seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, text=True, capture_output=True, **more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


def ours(folder: pathlib.Path, asked: Problem) -> tuple[float, int]:
    path = folder / "bench.oscarv.yml"
    path.write_text(definition(asked), encoding="utf-8")
    (folder / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
    fill_ledger(path, asked)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "OSCARV_"))}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    program = str(pathlib.Path(sys.executable).parent / "ansible-playbook")
    seconds, done = cpu([program, "-i", str(path), "--check", "play.yml"], env=environment, cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    (folder / "play.yml").write_text(PLAYBOOK + SHOWN, encoding="utf-8")
    cpu([program, "-i", str(path), "--check", "play.yml"], env=environment, cwd=folder)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    on_it = {guest.name for guest in asked.guests.values() if guest.host == EVACUATED}
    assert {move["guest"] for move in plan["moves"]} == on_it and not plan["stays"], plan["stays"]
    return seconds, len(plan["moves"])


def peer(folder: pathlib.Path, asked: Problem) -> tuple[float, bool]:
    """hbal's CPU seconds, and whether it came to an end within LIMIT."""
    text = folder / "cluster.text"
    text.write_text(clusters.htools_text(asked), encoding="utf-8")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))

    command = ["hbal", "-t", str(text), "-O", EVACUATED, "-E", "-q"]
    seconds, done = cpu(command, preexec_fn=limit)
    if done.returncode > 0:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return seconds, done.returncode == 0


def rows() -> list[dict[str, t.Any]]:
    asked = clusters.cluster(HOSTS, GUESTS, 5, groups=0.0)
    with tempfile.TemporaryDirectory(prefix="oscarv-bench-") as name:
        mine, moves = ours(pathlib.Path(name), asked)
        theirs, ended = peer(pathlib.Path(name), asked)
    return [
        {
            "bar": f"evacuate one host of {HOSTS}/{GUESTS}, whole ansible-playbook against hbal -E: CPU seconds",
            "ours": round(mine, 2),
            "peer": round(theirs, 2) if ended else f"over {theirs:.0f}",
            "ratio": round(mine / theirs, 4),
            "goal": GOAL,
            "holds": mine / theirs <= GOAL,
            "moves": moves,
            "peer_ended": ended,
        }
    ]


def main() -> int:
    found = rows()
    sys.stdout.write("".join(f"{one}\n" for one in found))
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
