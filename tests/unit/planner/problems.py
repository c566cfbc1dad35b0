# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small and random placement problems, built by hand: nothing here uses the code under test but its plain values."""

from __future__ import annotations

import dataclasses
import itertools
import os
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import (
    Cluster,
    GuestPartition,
    Resources,
    Rule,
    Spread,
    Tolerate,
)
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import GuestState, HostState, Problem
from hypothesis import settings
from hypothesis import strategies as st

GIB = 2**30
#: Only tools/smoke leaves the solver out, and says so; where it is merely missing, these tests fail.
needs_solver = pytest.mark.skipif(os.environ.get("OSCARV_WITHOUT_SOLVER") == "1", reason="left out on purpose")

#: tools/smoke wants fewer: nothing that these tests look at depends on the release of ansible-core.
_FEWER = int(os.environ.get("OSCARV_FEWER_EXAMPLES", "1"))


def examples(number: int) -> settings:
    """So many random problems, however long one of them takes."""
    return settings(max_examples=max(1, number // _FEWER), deadline=None)


def host(name: str, vcpus: float = 8, memory: int = 8, disk: int = 100, **more: t.Any) -> HostState:
    """A host of partition `hosts`; memory and disk in GiB."""
    values: dict[str, t.Any] = {
        "name": name,
        "partition": "hosts",
        "hypervisor": "kvm",
        "capacity": Resources(vcpus, memory * GIB, disk * GIB),
    }
    return HostState(**{**values, **more})


def guest(name: str, vcpus: int = 1, memory: int = 1, disk: int = 1, **more: t.Any) -> GuestState:
    """A guest of partition `workers`; memory and disk in GiB."""
    values: dict[str, t.Any] = {
        "name": name,
        "partition": "workers",
        "demand": Resources(vcpus, memory * GIB, disk * GIB),
        "on": ("hosts",),
    }
    return GuestState(**{**values, **more})


def problem(
    hosts: t.Iterable[HostState],
    guests: t.Iterable[GuestState],
    rules: t.Iterable[Rule] = (),
    spread: Spread | None = None,
    tolerate: t.Iterable[Tolerate] = (),
    **more: t.Any,
) -> Problem:
    every_host, every_guest = list(hosts), list(guests)
    names = tuple(item.name for item in every_guest)
    partition = GuestPartition("workers", "img", ("hosts",), names, spread=spread, tolerate=tuple(tolerate))
    cluster = Cluster(
        name="test",
        definition="/nowhere/test.oscarv.yml",
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
    return Problem(cluster, {h.name: h for h in every_host}, {g.name: g for g in every_guest}, **more)


@st.composite
def problems(draw: st.DrawFn, max_hosts: int = 5, max_guests: int = 8, tolerate: bool = False) -> Problem:
    """Random problems, many of them without a solution; some guests are placed already, some hosts are closed."""
    hosts = []
    for number in range(draw(st.integers(1, max_hosts))):
        rack = draw(st.sampled_from([(), (("rack", "r1"),), (("rack", "r2"), ("room", "a")), (("rack", "r3"),)]))
        made = host(f"h{number}", draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 8)))
        closed = draw(st.sampled_from(["", "", "", "is in maintenance"]))
        lacks = draw(st.sampled_from([{}, {}, {"uefi": "no firmware"}]))
        partition = draw(st.sampled_from(["hosts", "hosts", "others"]))
        foreign = Resources(0, draw(st.integers(0, 1)) * GIB, 0)
        hosts.append(
            dataclasses.replace(made, enclosures=rack, closed=closed, lacks=lacks, partition=partition, foreign=foreign)
        )
    guests = []
    for number in range(draw(st.integers(0, max_guests))):
        made_guest = guest(f"g{number}", draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 3)))
        home = draw(st.sampled_from([None, None, *(h.name for h in hosts)]))
        needs = draw(st.sampled_from([(), (), ("uefi",)]))
        on = draw(st.sampled_from([("hosts",), ("hosts", "others")]))
        frozen = draw(st.sampled_from(["", "", "", "is being moved"])) if home else ""
        guests.append(dataclasses.replace(made_guest, host=home, needs=needs, on=on, frozen=frozen))
    names = [g.name for g in guests]
    rules = draw(st.lists(_rules(names, [h.name for h in hosts]), max_size=3)) if len(names) > 1 else []
    spread = draw(st.sampled_from([None, Spread("host"), Spread("rack"), Spread("rack", soft=True)]))
    losses = [Tolerate(1, draw(st.sampled_from(["host", "rack"])))] if tolerate else []
    return problem(hosts, guests, rules, spread, losses)


@st.composite
def _rules(draw: st.DrawFn, names: list[str], hosts: list[str]) -> Rule:
    kind = draw(st.sampled_from(["apart", "together", "pin"]))
    soft = draw(st.sampled_from([False, False, True]))
    chosen = tuple(draw(st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=True)))
    if kind == "pin":
        return Rule("pin", chosen, hosts=tuple(draw(st.lists(st.sampled_from(hosts), min_size=1, unique=True))))
    return Rule(kind, chosen, over=draw(st.sampled_from(["host", "rack"])), soft=soft)


def brute_force(asked: Problem, guests: t.Sequence[GuestState], broken: t.Callable[[dict[str, str]], bool]) -> bool:
    """Whether any assignment of these guests to hosts is not broken."""
    names = list(asked.hosts)
    return any(
        not broken(dict(zip((g.name for g in guests), choice, strict=True)))
        for choice in itertools.product(names, repeat=len(guests))
    )
