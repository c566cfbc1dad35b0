# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`decide`: definition and ledger in, changes to the ledger out. Pure: no clock, no database, no randomness of its own.

Always decides about the whole definition. What is recorded is never decided again: guests keep host, build, MACs and
addresses; only new guests, those of fenced hosts and those that are rebuilt get new ones. Only uuids are random, so
check mode shows exactly the hosts, MACs and addresses that the run then records.
"""

from __future__ import annotations

import dataclasses
import random as random_module
import typing as t

from ._assign_growth import growth_errors
from ._assign_guests import Register, Wishes
from ._assign_nics import NicDecider, Wish
from ._assign_observed import detached_and_gone
from ._assign_problem import ask
from ._checker import complaints
from ._contradictions import contradictions
from ._ledger_changes import applied, effective
from ._ledger_rows import Changes, GuestRow, HistoryRow, LedgerState, NicRow, newest_builds
from ._model import Cluster, Guest
from ._plan import Plan, Problem
from ._planner import solve
from ._specs import boots_kernel, nics_of, spec_hash
from ._words import listing, natural, number, size

__all__ = ["Decision", "Wishes", "decide"]


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided. With `errors` nothing may be recorded or done, and `changes` is empty."""

    changes: Changes
    plan: Plan
    after: LedgerState
    errors: tuple[str, ...]
    problem: Problem  #: as the planner saw it
    recreate: frozenset[str] = frozenset()  #: guests that are made again, empty, by consent


def decide(
    cluster: Cluster,
    state: LedgerState,
    *,
    now: str,
    who: str,
    job: str | None = None,
    confirm: str | None = None,
    random: random_module.Random | None = None,
    fenced: t.Sequence[str] = (),
    recreate: t.Collection[str] | None = (),
    rebuild: t.Collection[str] = (),
    teardown: bool = False,
    need_builds: bool = True,
    observed: t.Mapping[str, t.Any] | None = None,
) -> Decision:
    """Decide about every guest of the definition and of the ledger.

    `now`: UTC, ISO 8601. `fenced`: HostOSes that are said to be off. `recreate`: guests that may be made again, empty,
    when their HostOS is fenced (None: any). `rebuild`: guests that get the newest build. `need_builds` False: an image
    without a build is noted, not refused (a plan). `observed`: {HOST: result of guest_info}, see `_assign_observed`.
    """
    wishes = Wishes(
        now=now,
        confirm=confirm,
        fenced=tuple(fenced),
        recreate=None if recreate is None else frozenset(recreate),
        rebuild=frozenset(rebuild),
        teardown=teardown,
    )
    run = _Run(cluster, state, Register(cluster, state, wishes, random or random_module.SystemRandom()))
    return run.decide(
        need_builds, observed or {}, lambda what, subject, why: HistoryRow(now, who, job, what, subject, why)
    )


class _Run:
    def __init__(self, cluster: Cluster, state: LedgerState, register: Register) -> None:
        self.cluster = cluster
        self.state = state
        self.register = register
        self.now = register.wishes.now
        self.errors: list[str] = register.errors
        self.notes: list[str] = []
        self.nics: list[NicRow] = []
        self.nics_removed: set[str] = set()

    def decide(
        self, need_builds: bool, observed: t.Mapping[str, t.Any], history: t.Callable[[str, str, str], HistoryRow]
    ) -> Decision:
        self.register.run()
        plan, problem = Plan(), ask(self.cluster, self.state)
        if not self.register.wishes.teardown:
            plan, problem = self._place()
            self._builds(plan, need_builds)
            self._addresses()
            self.errors += growth_errors(self.cluster, self.register.rows, problem, plan)
            self._hashes()
        self.nics += detached_and_gone(self.cluster, self.state, observed, self.now, {nic.mac for nic in self.nics})
        changes = self._changes(history)
        plan = dataclasses.replace(plan, notes=(*plan.notes, *self.notes))
        if self.errors:
            return Decision(Changes(), plan, self.state, tuple(self.errors), problem)
        after = applied(self.state, changes)
        return Decision(changes, plan, after, (), problem, frozenset(self.register.recreate))

    # -- places -----------------------------------------------------------------------------------------------------

    def _place(self) -> tuple[Plan, Problem]:
        rows = {row.uuid: row for row in self.register.rows.values()}
        hosts = {**self.state.hosts, **self.register.hosts}
        released = {uuid: row for uuid, row in self.state.guests.items() if row.state == "released"}
        now = dataclasses.replace(self.state, guests={**released, **rows}, hosts=hosts)
        problem = ask(self.cluster, now)
        self.errors += contradictions(problem)
        plan = solve(problem)
        for complaint in complaints(problem, plan):
            self.errors.append(
                f"the planner ({plan.engine}) broke a constraint, which is a bug; please report: {complaint}"
            )
        for place in plan.places:
            self._settle_down(place.guest, place.host, place.reason)
        for stay in plan.stays:
            if stay.guest in self.register.lost:
                self.register.keep_lost(stay.guest)
        stays = {stay.guest: stay for stay in plan.stays} | self.register.stays
        ordered = tuple(sorted(stays.values(), key=lambda stay: natural(stay.guest)))
        places = tuple(sorted(plan.places, key=lambda place: natural(place.guest)))
        return dataclasses.replace(plan, places=places, stays=ordered), problem

    def _settle_down(self, name: str, host: str, reason: str) -> None:
        lost = self.register.lost.get(name)
        row = self.register.rows[name]
        self.register.rows[name] = dataclasses.replace(row, host=host, hypervisor=self.cluster.hosts[host].hypervisor)
        source = f", was on {lost.host}, which is fenced (epoch {row.epoch})" if lost else ""
        self.register.why[name].append(f"placed on {host}{source}: {reason}")

    def _builds(self, plan: Plan, need_builds: bool) -> None:
        """A guest gets the newest build of its image when it is first placed or rebuilt, and then keeps it."""
        newest = newest_builds(self.state)
        wanting: dict[str, list[str]] = {}
        fresh = {place.guest for place in plan.places} | self.register.wishes.rebuild
        for name in sorted(fresh & set(self.register.rows), key=natural):
            row, guest = self.register.rows[name], self.cluster.guests.get(name)
            if guest is None or (row.build_id is not None and name not in self.register.wishes.rebuild):
                continue
            build = newest.get(guest.image)
            if build is None:
                wanting.setdefault(guest.image, []).append(name)
            else:
                self.register.rows[name] = dataclasses.replace(row, image=guest.image, build_id=build.build_id)
        for image, names in wanting.items():
            text = f"image {image} has no build, which {listing(names)} need: run oscarv.virt.image"
            (self.errors if need_builds else self.notes).append(text)

    # -- addresses --------------------------------------------------------------------------------------------------

    def _addresses(self) -> None:
        names = {row.uuid: row.name for row in self.state.guests.values()}
        names |= {row.uuid: row.name for row in self.register.rows.values()}
        decider = NicDecider(self.cluster, self.state, self.now, names)
        owned: dict[str, list[NicRow]] = {}
        for nic in self.state.nics.values():
            owned.setdefault(nic.guest, []).append(nic)
        former = self._former()
        for guest in sorted(self.cluster.guests.values(), key=lambda guest: natural(guest.name)):
            row = self.register.rows[guest.name]
            known = row.uuid in self.state.guests
            rows = [nic for nic in owned.get(row.uuid, ()) if nic.free_after is None]
            if not known and guest.name in former:
                rows = owned.get(former[guest.name], [])
            decider.decide(Wish(guest, row.uuid, self._addresses_open(row, known), rows))
        self.errors += decider.errors
        self.nics = decider.rows
        self.nics_removed = decider.removed

    def _addresses_open(self, row: GuestRow, known: bool) -> bool:
        if not known or row.name in self.register.recreate:
            return True
        old = self.state.guests[row.uuid]
        return old.state == "planned" and old.first_contact is None and row.uuid not in self.state.host_keys

    def _former(self) -> dict[str, str]:
        """Name -> uuid of the guest of that name that was released last: a new one takes over what still rests."""
        released = sorted((row for row in self.state.guests.values() if row.state == "released"), key=_released_at)
        return {row.name: row.uuid for row in released}

    # -- the rows ---------------------------------------------------------------------------------------------------

    def _hashes(self) -> None:
        after = {nic.mac: nic for nic in self.state.nics.values() if nic.mac not in self.nics_removed}
        after |= {nic.mac: nic for nic in self.nics}
        nics = nics_of(dataclasses.replace(self.state, nics=after))
        for guest in self.cluster.guests.values():
            row = self.register.rows[guest.name]
            demand = guest.demand
            kernel = boots_kernel(self.cluster, guest)
            told = spec_hash(guest, row, nics.get(row.uuid, []), kernel=kernel)
            if told != row.spec_hash and not self.register.why.get(guest.name):
                self.register.why[guest.name].append(_change_words(row, guest))
            self.register.rows[guest.name] = dataclasses.replace(
                row, spec_hash=told, vcpus=guest.vcpus, memory=demand.memory, disk=demand.disk
            )

    def _changes(self, history: t.Callable[[str, str, str], HistoryRow]) -> Changes:
        rows = sorted(self.register.rows.values(), key=lambda row: natural(row.name))
        changes = effective(
            self.state,
            Changes(
                guests=tuple(rows),
                nics=tuple(self.nics),
                nics_removed=tuple(sorted(self.nics_removed)),
                hosts=tuple(self.register.hosts.values()),
            ),
        )
        told = [
            history("assign", row.name, "; ".join(self.register.why.get(row.name) or ["addresses"]))
            for row in changes.guests
        ]
        told += [history("fence", host.name, "said to be off") for host in changes.hosts]
        return dataclasses.replace(changes, history=tuple(told))


def _released_at(row: GuestRow) -> str:
    return row.released or ""


def _change_words(row: GuestRow, guest: Guest) -> str:
    words = [
        f"{kind} {show(after)}, was {show(before)}"
        for kind, show, before, after in (
            ("vcpus", number, row.vcpus, guest.vcpus),
            ("memory", size, row.memory, guest.memory),
            ("disk", size, row.disk, guest.demand.disk),
        )
        if before is not None and before != after
    ]
    return "the definition changed" + (": " + ", ".join(words) if words else "")
