# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All guests of one HostOS to their specs, in one call, whatever the hypervisor.

Everything is planned, and refused, before anything is changed. One bad guest does not stop the others: each has its own
result, and one failure at the end names each that failed.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import typing as t

from ._driver import Change, DriverError, Observation, Seen
from ._errors import StepFailed, named
from ._spec import POWER_STATES, GuestSpec, SpecError

#: Guests that are worked on at the same time: less than the 5 requests that libvirtd takes from one client at once.
PARALLEL = 4


class Reconciler(t.Protocol):
    """What `reconcile` needs of a driver."""

    def observe_all(self) -> Observation:
        """Driver.observe_all."""

    def plan(self, spec: GuestSpec, seen: Seen | None) -> Change:
        """Driver.plan."""

    def apply(self, change: Change) -> Seen | None:
        """Driver.apply; StepFailed where it got only so far."""

    def leaving(self, uuids: t.Iterable[str]) -> None:
        """These guests are removed before anything else: what they have becomes free."""

    def plan_removal(self, name: str, uuid: str, epoch: int, seen: Seen | None) -> Change:
        """Plan the removal of a guest that has no spec any more."""

    def before(self, changes: t.Iterable[Change]) -> None:
        """Anything that is quicker for all guests at once than for one after the other."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the module was asked."""

    cluster: str
    specs: t.Sequence[t.Any]  #: plain data, not validated yet; the full list of this HostOS
    select: t.Collection[str] | None = None  #: names; None: all
    prune: str = "report"  #: report | remove | off
    prunable: t.Sequence[t.Mapping[str, t.Any]] = ()  #: {name, uuid, epoch}


@dataclasses.dataclass
class Outcome:
    """One guest. `change` is None where it was refused."""

    name: str
    uuid: str
    change: Change | None = None
    after: Seen | None = None
    error: str | None = None
    taken: tuple[str, ...] = ()  #: where a step failed: those before it
    removal: bool = False  #: by prune

    @property
    def changed(self) -> bool:
        """What was changed; in check mode, what would be."""
        if self.error is not None:
            return bool(self.taken)
        return self.change is not None and self.change.difference.changed

    @property
    def steps(self) -> list[str]:
        if self.error is not None:
            return list(self.taken)
        return list(self.change.steps) if self.change and self.changed else []


@dataclasses.dataclass
class Result:
    outcomes: list[Outcome]
    observation: Observation
    found: list[dict[str, t.Any]]  #: guests of the cluster that no spec names: {name, uuid, epoch, why}


def reconcile(driver: Reconciler, wish: Wish, *, check: bool) -> Result:
    """Plan all, then (unless `check`) make it so. DriverError: the whole call is refused, nothing was changed."""
    observation = driver.observe_all()
    specs, outcomes = read_specs(wish)
    found = _unnamed(wish, observation)
    removals = _plan_removals(driver, wish, observation, specs, outcomes, found)
    outcomes.extend(_plan_all(driver, wish, observation, specs))
    if not check:
        _apply_all(driver, removals)
        _apply_all(driver, [outcome for outcome in outcomes if outcome.error is None])
    return Result([*removals, *outcomes], observation, found)


def read_specs(wish: Wish) -> tuple[list[GuestSpec], list[Outcome]]:
    """Validated specs, and an outcome for each one that cannot be used."""
    times = collections.Counter(str(_who(plain).get(key)) for plain in wish.specs for key in ("name", "uuid"))
    specs: list[GuestSpec] = []
    bad: dict[str, Outcome] = {}
    for plain in wish.specs:
        name, uuid = str(_who(plain).get("name", "?")), str(_who(plain).get("uuid", ""))
        try:
            spec = GuestSpec.from_plain(plain)
            if spec.cluster != wish.cluster:
                raise SpecError(f"guest {name}: cluster: found {spec.cluster!r}; allowed: {wish.cluster!r}")
            if max(times[name], times[uuid]) > 1:
                raise SpecError(f"guest {name}: its name or its uuid {uuid} is in specs twice: which one is meant?")
            specs.append(spec)
        except SpecError as error:
            bad[name] = Outcome(name, uuid, error=str(error))
    return specs, list(bad.values())


def _who(plain: t.Any) -> t.Mapping[str, t.Any]:
    """Something to take a name from, whatever was given for a spec."""
    return plain if isinstance(plain, t.Mapping) else {}


def _unnamed(wish: Wish, observation: Observation) -> list[dict[str, t.Any]]:
    """Guests of this cluster that no spec names, with what the ledger says of each."""
    named = {str(plain.get("uuid")) for plain in wish.specs if isinstance(plain, t.Mapping)}
    allowed = {str(entry["uuid"]): int(entry["epoch"]) for entry in wish.prunable}
    found = []
    for seen in observation.guests.values():
        if seen.mark is None or seen.mark.cluster != wish.cluster or seen.uuid in named:
            continue
        if seen.uuid not in allowed:
            why = "the ledger does not call it released, leaving or elsewhere"
        elif seen.mark.epoch > allowed[seen.uuid]:
            why = f"its mark has epoch {seen.mark.epoch}, the ledger knows epoch {allowed[seen.uuid]} only"
        else:
            why = ""
        found.append({"name": seen.name, "uuid": seen.uuid, "epoch": seen.mark.epoch, "kept_because": why})
    return sorted(found, key=lambda entry: str(entry["name"]))


def _plan_removals(
    driver: Reconciler,
    wish: Wish,
    observation: Observation,
    specs: t.Sequence[GuestSpec],
    bad: t.Sequence[Outcome],
    found: t.Sequence[t.Mapping[str, t.Any]],
) -> list[Outcome]:
    """What prune removes. Refused as a whole where the list of guests cannot be believed."""
    if wish.prune != "remove" or wish.select is not None:
        return []
    _refuse_prune(specs, bad, found)
    removals = []
    wanted = {spec.uuid for spec in specs}
    for entry in wish.prunable:
        uuid, epoch = str(entry["uuid"]), int(entry["epoch"])
        seen = observation.guests.get(uuid)
        newer = seen is not None and seen.mark is not None and seen.mark.epoch > epoch
        foreign = seen is not None and seen.mark is not None and seen.mark.cluster != wish.cluster
        if uuid in wanted or newer or foreign:
            continue
        outcome = Outcome(str(entry["name"]), uuid, removal=True)
        _plan_into(outcome, functools.partial(driver.plan_removal, outcome.name, uuid, epoch, seen))
        removals.append(outcome)
    driver.leaving([outcome.uuid for outcome in removals if outcome.error is None])
    return removals


def _refuse_prune(
    specs: t.Sequence[GuestSpec], bad: t.Sequence[Outcome], found: t.Sequence[t.Mapping[str, t.Any]]
) -> None:
    """DriverError where the list of guests cannot be believed: a removal must not follow from a lost list."""
    if bad:
        errors = "; ".join(str(outcome.error) for outcome in bad)
        raise DriverError(f"prune is 'remove', but specs cannot be read, so nothing was changed: {errors}")
    kept = [f"{entry['name']} ({entry['kept_because']})" for entry in found if entry["kept_because"]]
    if not specs and kept:
        raise DriverError(
            "specs is empty and prune is 'remove', but not every guest of the cluster on this HostOS is in prunable:"
            f" {', '.join(kept)}. Nothing was changed; if they shall go, let the ledger release them"
            " (oscarv.virt.teardown)"
        )


def _plan_all(driver: Reconciler, wish: Wish, observation: Observation, specs: t.Sequence[GuestSpec]) -> list[Outcome]:
    outcomes = []
    for spec in specs:
        if wish.select is not None and spec.name not in wish.select:
            continue
        outcome = Outcome(spec.name, spec.uuid)
        _plan_into(outcome, functools.partial(driver.plan, spec, observation.find(spec)))
        outcomes.append(outcome)
    return outcomes


def _plan_into(outcome: Outcome, plan: t.Callable[[], Change]) -> None:
    try:
        outcome.change = plan()
    except DriverError as error:
        outcome.error = named(outcome.name, str(error))


def _apply_all(driver: Reconciler, outcomes: t.Sequence[Outcome]) -> None:
    """Several at a time: most of the time goes into waiting for QEMU and for guests that shut down."""
    planned = [outcome for outcome in outcomes if outcome.error is None and outcome.change is not None]
    if not planned:
        return
    for outcome, error in _asked(driver, planned):
        outcome.error = error
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(functools.partial(_apply_one, driver), [outcome for outcome in planned if outcome.error is None]))


def _asked(driver: Reconciler, planned: t.Sequence[Outcome]) -> t.Iterator[tuple[Outcome, str]]:
    """Those for which even the preparation failed."""
    for outcome in planned:
        try:
            driver.before([t.cast(Change, outcome.change)])
        except DriverError as error:
            yield outcome, named(outcome.name, str(error))


def _apply_one(driver: Reconciler, outcome: Outcome) -> None:
    change = t.cast(Change, outcome.change)
    try:
        outcome.after = driver.apply(change)
        _refuse_other_state(outcome, change)
    except StepFailed as error:
        outcome.error, outcome.taken = named(outcome.name, str(error)), error.taken
    except DriverError as error:
        outcome.error = named(outcome.name, str(error))


def _refuse_other_state(outcome: Outcome, change: Change) -> None:
    """StepFailed where every step went well and the guest is not what was wished: one that ends as it is started."""
    wanted, after = change.spec.state, outcome.after
    if wanted not in POWER_STATES or (after is not None and after.state == wanted):
        return
    found = after.state if after is not None else "gone"
    done = ", ".join(change.steps) or "no step"
    raise StepFailed(f"it shall be {wanted}, and is {found} right after: {done}", change.steps)
