# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters for the planner's benchmarks, made from a seed: 10 flavours, 3 classes of hosts, racks of 16, apart groups.

And the same cluster as htools read it (`-t`): sections groups, nodes, instances, cluster tags, ipolicy, each separated
by one blank line.
"""

from __future__ import annotations

import random
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".build" / "collections"))

from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster, GuestPartition, Resources, Rule
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import GuestState, HostState, Problem

GIB = 2**30
MIB = 2**20
#: vCPUs, memory and disk in GiB, weight
FLAVOURS = (
    (1, 1, 10, 10),
    (1, 2, 20, 15),
    (2, 4, 20, 20),
    (2, 8, 40, 15),
    (4, 4, 20, 5),
    (4, 8, 40, 12),
    (4, 16, 80, 10),
    (8, 16, 80, 6),
    (8, 32, 160, 5),
    (16, 64, 320, 2),
)
#: physical vCPUs, memory and disk in GiB, overcommit
CLASSES = ((32, 256, 4000, 4.0), (48, 384, 6000, 4.0), (64, 512, 8000, 4.0))
RACK = 16
RATIO = 4.0  #: vCPUs per core


def hosts(count: int, rng: random.Random) -> dict[str, HostState]:
    """Hosts of three classes; `capacity` has the overcommit applied."""
    made = {}
    for number in range(count):
        vcpus, memory, disk, over = rng.choice(CLASSES)
        name = f"node{number:03}"
        rack = (("rack", f"rack{number // RACK:02}"),)
        made[name] = HostState(name, "hosts", "kvm", Resources(vcpus * over, memory * GIB, disk * GIB), rack)
    return made


def demand(rng: random.Random, *, big: bool = False) -> Resources:
    """A flavour at random; `big`: such that 10,000 guests fill 500 hosts."""
    weights = [flavour[3] + (12 * (flavour[1] >= 16) if big else 0) for flavour in FLAVOURS]
    vcpus, memory, disk, _weight = rng.choices(FLAVOURS, weights)[0]
    return Resources(vcpus, memory * GIB, disk * GIB)


def problem(
    made: t.Mapping[str, HostState], guests: t.Mapping[str, GuestState], rules: t.Iterable[Rule] = (), **more: t.Any
) -> Problem:
    partition = GuestPartition("workers", "img", ("hosts",), tuple(guests), tolerate=more.pop("tolerate", ()))
    cluster = Cluster(
        name="bench",
        definition="/bench.oscarv.yml",
        ledger="sqlite://",
        networks={},
        pools={},
        enclosures={},
        host_partitions={},
        guest_partitions={"workers": partition},
        hosts={},
        guests={},
        rules=tuple(rules),
        images={},
    )
    return Problem(cluster, dict(made), dict(guests), **more)


def guest(name: str, wants: Resources, home: str | None) -> GuestState:
    return GuestState(name, "workers", wants, ("hosts",), home)


def cluster(
    host_count: int,
    guest_count: int,
    seed: int,
    *,
    groups: float = 0.2,
    fill: float | None = None,
    big: bool = False,
    **more: t.Any,
) -> Problem:
    """A running cluster: guests on random hosts that have room, a fifth of them in apart groups of three.

    `fill`: guests until this part of the memory is used, whatever the count says; evenly, so gaps are small.
    """
    rng = random.Random(seed)
    made = hosts(host_count, rng)
    names = list(made)
    free = {n: [h.capacity.vcpus, h.capacity.memory, h.capacity.disk] for n, h in made.items() if h.capacity}
    memory = sum(left[1] for left in free.values())
    guests: dict[str, GuestState] = {}
    used = 0
    number = misses = 0
    while (used < fill * memory and misses < 500) if fill else number < guest_count:
        wants = demand(rng, big=big)
        wish = (wants.vcpus, wants.memory, wants.disk)
        fitting = [
            n for n in rng.sample(names, min(len(names), 40)) if all(w <= f for w, f in zip(wish, free[n], strict=True))
        ]
        if not fitting:
            misses += 1
            if not fill and misses > 10000:
                raise ValueError("the cluster is too small")
            continue
        home = fitting[0] if not fill else max(fitting, key=lambda n: free[n][1])
        for kind in range(3):
            free[home][kind] -= wish[kind]
        name = f"vm{number:05}"
        guests[name] = guest(name, wants, home)
        used += wants.memory
        number += 1
    rules = []
    order = list(guests)
    rng.shuffle(order)
    for start in range(0, int(len(order) * groups) - 2, 3):
        three = order[start : start + 3]
        if len({guests[n].host for n in three}) == 3:
            rules.append(Rule("apart", tuple(sorted(three))))
    return problem(made, guests, rules, **more)


# -- the same for htools --------------------------------------------------------------------------------------------


def htools_text(asked: Problem, where: t.Mapping[str, str] | None = None) -> str:
    """The cluster as `-t` reads it, guests without a host left out. Disks are shared (`ext`): memory and vCPUs count.

    `where` says where guests are instead of the problem. A closed host is offline. Racks are failure domains.
    """
    at = {name: g.host for name, g in asked.guests.items() if g.host} if where is None else dict(where)
    used: dict[str, int] = {}
    for name, host in at.items():
        used[host] = used.get(host, 0) + asked.guests[name].demand.memory
    nodes = []
    for number, host in enumerate(asked.hosts.values()):
        assert host.capacity
        memory, disk = host.capacity.memory // MIB, host.capacity.disk // MIB
        role = "Y" if host.closed else "N" if number else "M"
        cores = int(host.capacity.vcpus / RATIO)
        free = memory - used.get(host.name, 0) // MIB
        tags = f"rack:{dict(host.enclosures).get('rack', 'none')}"
        nodes.append(f"{host.name}|{memory}|0|{free}|{disk}|{disk}|{cores}|{role}|uuid|1|{tags}|N|0|0|1.0")
    instances = []
    for name in sorted(at):
        wants = asked.guests[name].demand
        sizes = f"{wants.memory // MIB}|{wants.disk // MIB}|{int(wants.vcpus)}"
        instances.append(f"{name}|{sizes}|running|Y|{at[name]}||ext||1|1|N")
    specs = "128,1,128,1,1,1|128,1,128,1,1,1;1048576,64,10485760,16,8,12"
    policy = [f"{owner}|{specs}|ext,plain,drbd,sharedfile|{RATIO}|1000.0" for owner in ("", "group")]
    sections = (["group|uuid|preferred||"], nodes, instances, ["htools:nlocation:rack"], policy)
    return "\n".join("".join(f"{line}\n" for line in section) for section in sections)


def hail_request(name: str, wants: Resources) -> dict[str, t.Any]:
    """What `hail` is asked to allocate one guest; the cluster itself comes from `-t`."""
    disk = int(wants.disk // MIB)
    return {
        "version": 2,
        "cluster_name": "bench",
        "cluster_tags": [],
        "enabled_hypervisors": ["kvm"],
        "ipolicy": {},
        "nodegroups": {},
        "nodes": {},
        "instances": {},
        "request": {
            "type": "allocate",
            "name": name,
            "memory": int(wants.memory // MIB),
            "disk_space_total": disk,
            "disks": [{"size": disk, "mode": "rw"}],
            "disk_template": "ext",
            "vcpus": int(wants.vcpus),
            "spindle_use": 1,
            "required_nodes": 1,
            "nics": [{"mac": "auto", "ip": None, "bridge": "br0"}],
            "tags": [],
            "os": "debian",
            "hypervisor": "kvm",
        },
    }
