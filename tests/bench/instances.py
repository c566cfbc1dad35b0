# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters made up from a seed: three host classes, enclosures of 16 hosts, ten flavours of guests, a skewed start."""

from __future__ import annotations

import random
import typing as t

from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster, GuestPartition, Resources, Rule
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import GuestState, HostState, Problem

GIB = 2**30
#: (hosts of 10, vCPUs after overcommit, memory in GiB, disk in GiB)
CLASSES = ((5, 80, 192, 2000), (3, 96, 384, 3000), (2, 192, 512, 5000))
#: (vCPUs, memory in GiB, disk in GiB), weight
FLAVOURS = (
    ((1, 2, 20), 12),
    ((2, 4, 40), 16),
    ((2, 8, 40), 12),
    ((4, 8, 80), 14),
    ((4, 16, 80), 12),
    ((8, 16, 160), 10),
    ((8, 32, 160), 8),
    ((16, 32, 320), 6),
    ((4, 8, 600), 4),
    ((16, 64, 320), 6),
)
SIZES = ((46, 164), (100, 1000), (500, 10_000))


def cluster(hosts: int, guests: int, seed: int = 1, *, own_sizes: bool = False, full: float = 0.6) -> Problem:
    """Every guest has a host; a tenth of them are in groups of four that must be apart over hosts.

    `full` is how much of the scarcest resource of the whole cluster is used: the hosts are scaled to it.
    `own_sizes` gives every guest a size of its own, 0.6 to 1.5 times its flavour's in each resource.
    """
    dice = random.Random(seed)
    demands = [_demand(dice, own_sizes) for _number in range(guests)]
    kinds = [number for number, (tenths, *_size) in enumerate(CLASSES) for _one in range(tenths)]
    classes = [CLASSES[kinds[number % 10]][1:] for number in range(hosts)]
    used = [sum(demand[kind] for demand in demands) / sum(size[kind] for size in classes) for kind in range(3)]
    scale = max(used) / full
    states = [
        HostState(
            f"node{number:03}",
            "hosts",
            "kvm",
            Resources(round(size[0] * scale), round(size[1] * scale) * GIB, round(size[2] * scale) * GIB),
            (("rack", f"rack{number // 16:02}"),),
        )
        for number, size in enumerate(classes)
    ]
    apart = [tuple(range(first, first + 4)) for first in range(0, guests // 10 - 3, 4)]
    homes = _skewed(dice, states, demands, apart)
    members = tuple(f"vm{number:05}" for number in range(guests))
    made = {
        name: GuestState(name, "vms", _resources(demand), ("hosts",), states[home].name)
        for name, demand, home in zip(members, demands, homes, strict=True)
    }
    rules = [Rule("apart", tuple(members[number] for number in group)) for group in apart]
    return problem({state.name: state for state in states}, made, rules)


def problem(
    hosts: t.Mapping[str, HostState], guests: t.Mapping[str, GuestState], rules: t.Sequence[Rule] = ()
) -> Problem:
    part = GuestPartition("vms", "img", ("hosts",), tuple(guests))
    nothing: dict[str, t.Any] = {key: {} for key in ("networks", "pools", "enclosures", "host_partitions", "images")}
    made = Cluster(
        name="bench",
        definition="/nowhere/bench.oscarv.yml",
        ledger="sqlite://",
        guest_partitions={"vms": part},
        hosts={},
        guests={},
        rules=tuple(rules),
        **nothing,
    )
    return Problem(made, hosts, guests)


Demand = tuple[float, float, float]  #: vCPUs, memory and disk in GiB


def _demand(dice: random.Random, own_sizes: bool) -> Demand:
    vcpus, memory, disk = dice.choices([size for size, _w in FLAVOURS], [weight for _s, weight in FLAVOURS])[0]
    if not own_sizes:
        return (vcpus, memory, disk)
    factors = [dice.uniform(0.6, 1.5) for _kind in range(3)]
    return (max(1, round(vcpus * factors[0])), memory * factors[1], disk * factors[2])


def _resources(demand: Demand) -> Resources:
    return Resources(demand[0], int(demand[1] * GIB), int(demand[2] * GIB))


def _skewed(
    dice: random.Random, states: t.Sequence[HostState], demands: t.Sequence[Demand], apart: t.Sequence[tuple[int, ...]]
) -> list[int]:
    """A host for every guest, big guests first, drawn with weights that differ tenfold between hosts."""
    free = [_plain(state) for state in states]
    weights = [10 ** dice.random() for _state in states]
    numbers = range(len(states))
    group_of = {number: group for group in apart for number in group}
    homes = [-1] * len(demands)
    for guest in sorted(range(len(demands)), key=lambda number: demands[number][1], reverse=True):
        taken = {homes[other] for other in group_of.get(guest, ())}

        def fits(host: int, guest: int = guest, taken: set[int] = taken) -> bool:
            return host not in taken and all(
                wish <= there for wish, there in zip(demands[guest], free[host], strict=True)
            )

        home = next((host for host in dice.choices(numbers, weights, k=30) if fits(host)), -1)
        if home < 0:
            home = next(host for host in numbers if fits(host))
        homes[guest] = home
        free[home] = [there - wish for wish, there in zip(demands[guest], free[home], strict=True)]
    return homes


def _plain(state: HostState) -> list[float]:
    assert state.capacity is not None
    return [state.capacity.vcpus, state.capacity.memory / GIB, state.capacity.disk / GIB]
