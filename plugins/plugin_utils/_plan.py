# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner is asked and what it answers: plain values, no Ansible, no database, no clock.

The engine is a function from a Problem to a Plan. The rest of the collection sees only this file and
`_planner.solve`, so an engine can be replaced without anything above or below it noticing.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._model import Cluster, Resources


class PlannerError(Exception):
    """A question that cannot be answered; the message says what to ask instead."""


@dataclasses.dataclass(frozen=True)
class HostState:
    """A HostOS as the planner may use it."""

    name: str
    partition: str
    hypervisor: str
    capacity: Resources | None  #: for guests: overcommit and reserve already applied; None: unknown, takes nothing
    enclosures: tuple[tuple[str, str], ...] = ()  #: (level, name), innermost first
    closed: str = ""  #: why it takes no new guest (maintenance, unreachable, ...); empty: open
    foreign: Resources = Resources(0, 0, 0)  #: used by guests that are not ours, and held by moves towards it
    lacks: t.Mapping[str, str] = dataclasses.field(default_factory=dict)  #: capability it has not -> why


@dataclasses.dataclass(frozen=True)
class GuestState:
    """A guest as the planner may place it."""

    name: str
    partition: str
    demand: Resources
    on: tuple[str, ...]  #: host partitions it may run on
    host: str | None = None  #: where it is now
    frozen: str = ""  #: why it must not be moved now (a move in flight, ...); empty: may be moved
    needs: tuple[str, ...] = ()  #: capabilities that its host must have, see `module_utils/_driver.py`


@dataclasses.dataclass(frozen=True)
class Problem:
    """One question. `verb` is place, evacuate, relieve, balance, consolidate, what_if or explain."""

    cluster: Cluster  #: for rules, spreads and tolerances
    hosts: t.Mapping[str, HostState]
    guests: t.Mapping[str, GuestState]
    verb: str = "place"
    subjects: tuple[str, ...] = ()  #: hosts to evacuate, or the guest to explain
    options: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Place:
    """A guest that had no host gets one."""

    guest: str
    host: str
    reason: str
    wave: int = 0  #: with which wave of the moves it may start there; 0: before them all


@dataclasses.dataclass(frozen=True)
class Move:
    """A guest changes its host. Moves of one wave may run at the same time; waves run one after the other."""

    guest: str
    source: str
    target: str
    wave: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Stays:
    """A guest that could not be placed or moved. `rejected` names for each host the first constraint in the way."""

    guest: str
    reason: str
    rejected: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    places: tuple[Place, ...] = ()
    moves: tuple[Move, ...] = ()
    stays: tuple[Stays, ...] = ()
    engine: str = "first-fit"
    notes: tuple[str, ...] = ()  #: e.g. "host node03 has no known capacity and takes nothing: run oscarv.virt.hostos"

    details: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)  #: the answer as plain data, by verb

    @property
    def empty(self) -> bool:
        return not (self.places or self.moves)
