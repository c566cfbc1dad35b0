# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ganeti's htools as a peer: clusters from seeds, as Ganeti's text and as our Problem, and what `hbal` says of them.

Guests have their disks on external storage (`ext`), so hbal may fail each over to any node, as we may; no disk fill is
in play. Exclusion tags keep the guests of a group off one node (hard, in both) and count those in one rack (location
tags; soft, in both).
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
import typing as t

#: vCPUs, MiB of memory
FLAVOURS = (
    (1, 1024),
    (1, 2048),
    (2, 2048),
    (2, 4096),
    (4, 4096),
    (2, 8192),
    (4, 8192),
    (4, 16384),
    (8, 16384),
    (8, 32768),
)
COMMON = (16, 14, 16, 14, 10, 8, 8, 6, 4, 2)  #: of each flavour in a hundred, roughly
#: cores, MiB of memory
CLASSES = ((32, 131072), (48, 196608), (64, 262144))
OVERCOMMIT = 4.0
NODE_MEMORY = 1024  #: MiB that a node uses itself
PER_RACK = 16


@dataclasses.dataclass
class Node:
    name: str
    cores: int
    memory: int  #: MiB
    rack: str
    offline: bool = False


@dataclasses.dataclass
class Vm:
    name: str
    vcpus: int
    memory: int  #: MiB
    node: str
    tag: str = ""  #: its exclusion group


@dataclasses.dataclass
class World:
    nodes: list[Node]
    vms: list[Vm]

    def copy(self) -> World:
        return World([dataclasses.replace(n) for n in self.nodes], [dataclasses.replace(v) for v in self.vms])


def world(hosts: int, guests: int, seed: int = 1, fill: float = 0.65, own_sizes: bool = False) -> World:
    """A cluster with a skewed start: some nodes were filled first. Memory is filled to about `fill`."""
    chance = random.Random(f"{seed} {hosts} {guests}")
    sizes = []
    for _guest in range(guests):
        vcpus, memory = chance.choices(FLAVOURS, COMMON)[0]
        if own_sizes:
            memory = chance.randrange(memory // 2, memory * 3 // 2)
        sizes.append((vcpus, memory))
    scale = sum(memory for _vcpus, memory in sizes) / fill / sum(CLASSES[n % 3][1] for n in range(hosts))
    nodes = []
    for number in range(hosts):
        cores, memory = CLASSES[chance.randrange(3)]
        grown = max(48 * 1024, int(memory * scale) // 1024 * 1024)
        nodes.append(Node(f"node{number + 1:03}", max(8, int(cores * scale)), grown, f"r{number // PER_RACK + 1:02}"))
    tags = _groups(guests, chance)
    free = {node.name: [node.cores * OVERCOMMIT - 1, node.memory - NODE_MEMORY - 1] for node in nodes}
    held: dict[str, set[str]] = {node.name: set() for node in nodes}
    weight = [chance.choice((1, 2, 4, 8)) for _node in nodes]
    vms = []
    for number in sorted(range(guests), key=lambda n: -sizes[n][1]):
        (vcpus, memory), tag = sizes[number], tags[number]
        for node in _tries(nodes, weight, chance):
            room = free[node.name]
            if room[0] >= vcpus and room[1] >= memory and not (tag and tag in held[node.name]):
                room[0] -= vcpus
                room[1] -= memory
                held[node.name].add(tag)
                vms.append(Vm(f"vm{number + 1:05}", vcpus, memory, node.name, tag))
                break
        else:
            raise ValueError(f"seed {seed}: guest {number} fits nowhere")
    return World(nodes, sorted(vms, key=lambda vm: vm.name))


def _tries(nodes: list[Node], weight: list[int], chance: random.Random) -> t.Iterator[Node]:
    for _try in range(20):
        yield chance.choices(nodes, weight)[0]
    yield from nodes


def _groups(guests: int, chance: random.Random) -> list[str]:
    """Exclusion groups of two to four for some 40 % of the guests."""
    tags = [""] * guests
    order = list(range(guests))
    chance.shuffle(order)
    group = 0
    while order and len(order) > guests * 0.6:
        group += 1
        for _member in range(min(chance.choice((2, 2, 3, 3, 4)), len(order))):
            tags[order.pop()] = f"g{group}"
    return tags


# -- Ganeti's text ----------------------------------------------------------------------------------------------------


def text(cluster: World) -> str:
    """Groups, nodes, instances, cluster tags, ipolicy; exactly one blank line between them."""
    used: dict[str, int] = {node.name: NODE_MEMORY for node in cluster.nodes}
    for vm in cluster.vms:
        used[vm.node] += vm.memory
    nodes = [
        f"{n.name}|{n.memory}|{NODE_MEMORY}|{n.memory - used[n.name]}|100000|100000|{n.cores}|"
        f"{'Y' if n.offline else 'M' if i == 0 else 'N'}|group-1|1|rack:{n.rack}|N|0|1|1.0"
        for i, n in enumerate(cluster.nodes)
    ]
    vms = [
        f"{v.name}|{v.memory}|0|{v.vcpus}|running|Y|{v.node}||ext|{'apart:' + v.tag if v.tag else ''}|1|-"
        for v in cluster.vms
    ]
    tags = ["htools:iextags:apart", "htools:nlocation:rack"]
    low, high = "1,1,0,0,0,1", "1048576,512,1048576,16,16,16"
    policy = [f"{owner}|{low}|{low};{high}|ext|{OVERCOMMIT}|32.0" for owner in ("", "default")]
    return "\n\n".join("\n".join(part) for part in (["default|group-1|preferred||"], nodes, vms, tags, policy)) + "\n"


@dataclasses.dataclass
class Answer:
    """What hbal did: (guest, target) in its order, its seconds, the score before, and whether it came to an end."""

    moves: list[tuple[str, str]]
    wall: float
    cpu: float
    before: float  #: nan if it was stopped before it printed anything
    finished: bool


_STEP = re.compile(r"^\s+\d+\. (\S+)\s+\S+\s+=> (\S+)\s+([\d.-]+) a=")


def hbal(cluster: World, limit: int, seconds: float, *options: str) -> Answer:
    """Run hbal for at most `limit` moves and so many seconds of CPU; what it printed until then counts."""
    with tempfile.TemporaryDirectory(prefix="oscarv-hbal-") as folder:
        file = pathlib.Path(folder) / "cluster.data"
        file.write_text(text(cluster), encoding="utf-8")
        bound = ["prlimit", f"--cpu={math.ceil(seconds)}:{math.ceil(seconds) + 5}"]
        command = [*bound, "hbal", "-t", str(file), "-l", str(limit), *options]
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, -signal.SIGXCPU):
        raise RuntimeError(f"hbal: {done.returncode}: {done.stdout} {done.stderr}")
    steps = [match for match in map(_STEP.match, done.stdout.splitlines()) if match]
    first = re.search(r"Initial (?:score|coefficients): +(?:overall )?([\d.]+)", done.stdout)
    start = float(first.group(1)) if first else float("nan")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Answer([(s.group(1), s.group(2)) for s in steps], wall, cpu, start, done.returncode == 0)


def score(cluster: World) -> float:
    """hbal's own score of a cluster as it is."""
    return hbal(cluster, 0, 120).before


def moved(cluster: World, moves: t.Iterable[tuple[str, str]]) -> World:
    """The cluster after these moves."""
    after = cluster.copy()
    at = {vm.name: vm for vm in after.vms}
    for name, target in moves:
        at[name].node = target
    return after


# -- our problem ------------------------------------------------------------------------------------------------------


def problem(cluster: World, verb: str, **options: t.Any) -> t.Any:
    """The same cluster for our planner: exclusion groups are apart rules, hard over hosts and soft over racks."""
    from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster, GuestPartition, Resources, Rule
    from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import GuestState, HostState, Problem

    mib = 2**20
    hosts = {
        n.name: HostState(
            n.name,
            "hosts",
            "kvm",
            Resources(n.cores * OVERCOMMIT, n.memory * mib, 0),
            (("rack", n.rack),),
            "in maintenance" if n.offline else "",
            Resources(1, NODE_MEMORY * mib, 0),
        )
        for n in cluster.nodes
    }
    guests = {
        v.name: GuestState(v.name, "vms", Resources(v.vcpus, v.memory * mib, 0), ("hosts",), v.node)
        for v in cluster.vms
    }
    groups: dict[str, list[str]] = {}
    for vm in cluster.vms:
        if vm.tag:
            groups.setdefault(vm.tag, []).append(vm.name)
    rules = [
        Rule("apart", tuple(names), over, soft=over != "host")
        for names in groups.values()
        if len(names) > 1
        for over in ("host", "rack")
    ]
    partition = GuestPartition("vms", "img", ("hosts",), tuple(guests))
    definition = Cluster("bench", "/bench.oscarv.yml", "", {}, {}, {}, {}, {"vms": partition}, {}, {}, tuple(rules), {})
    return Problem(definition, hosts, guests, verb, options=options)
