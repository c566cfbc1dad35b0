# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules return: guests, foreign guests and the results of a reconciliation as plain data."""

from __future__ import annotations

import dataclasses
import typing as t

from ._driver import Mark, Observation, Seen
from ._reconcile import Outcome, Result

#: The state of a guest that a wish leaves (check mode); `present` leaves it as it is.
_AFTERWARDS = ("running", "paused", "stopped", "saved", "absent")


def seen_plain(seen: Seen) -> dict[str, t.Any]:
    """One of our guests, read back. Sizes in bytes."""
    mark = t.cast(Mark, seen.mark)
    native = seen.native
    return {
        **{key: value for key, value in dataclasses.asdict(mark).items() if key != "nics"},
        "name": seen.name,
        "state": seen.state,
        "vcpus": seen.vcpus,
        "vcpus_live": seen.vcpus_live,
        "memory": seen.memory,
        "memory_live": seen.memory_live,
        "autostart": seen.autostart,
        "persistent": seen.persistent,
        "restart_required": seen.restart_required,
        "disks": [dict(disk) for disk in seen.disks],
        "nics": _nics(seen, mark),
        "seed": seen.seed,
        "jobs": [native.job] if native is not None and native.job else [],
    }


def foreign_plain(seen: Seen) -> dict[str, t.Any]:
    """A guest that is not ours: enough to count and show it."""
    return {
        "name": seen.name,
        "uuid": seen.uuid,
        "state": seen.state,
        "vcpus": seen.vcpus,
        "memory": seen.memory,
        "disk": sum(disk["size"] or 0 for disk in seen.disks),
        "cluster": seen.mark.cluster if seen.mark else None,
    }


def foreign_of(observation: Observation, cluster: str | None) -> list[dict[str, t.Any]]:
    """Without our mark, or of another cluster than `cluster`."""
    others = [seen for seen in observation.guests.values() if cluster and t.cast(Mark, seen.mark).cluster != cluster]
    return sorted((foreign_plain(seen) for seen in (*observation.foreign, *others)), key=lambda one: str(one["name"]))


def result_plain(result: Result, cluster: str, *, check: bool, prune: str) -> dict[str, t.Any]:
    """Everything that the module `guest` returns but `diff`."""
    guests = {outcome.name: outcome_plain(outcome, check) for outcome in result.outcomes if not outcome.removal}
    removals = [outcome for outcome in result.outcomes if outcome.removal]
    pruned = [outcome for outcome in removals if outcome.changed and outcome.error is None]
    return {
        "changed": any(outcome.changed for outcome in result.outcomes),
        "guests": guests,
        "foreign": foreign_of(result.observation, cluster),
        "prunable_found": [] if prune == "off" else [entry for entry in result.found if not entry["kept_because"]],
        "unnamed_kept": [] if prune == "off" else [entry for entry in result.found if entry["kept_because"]],
        "pruned": [{"name": outcome.name, "uuid": outcome.uuid, "steps": outcome.steps} for outcome in pruned],
        "prune_failed": [
            {"name": outcome.name, "uuid": outcome.uuid, "msg": outcome.error} for outcome in removals if outcome.error
        ],
        "restart_required": sorted(name for name, guest in guests.items() if guest["restart_required"]),
    }


def outcome_plain(outcome: Outcome, check: bool) -> dict[str, t.Any]:
    change, seen = outcome.change, outcome.after
    if seen is None and change is not None and (check or outcome.error is not None):
        seen = change.seen
    mark = seen.mark if seen else None
    failed = outcome.error is not None
    return {
        "uuid": outcome.uuid,
        "changed": outcome.changed,
        "steps": outcome.steps,
        "state": _state(outcome, seen, check),
        "epoch": change.spec.epoch if change and not failed else (mark.epoch if mark else None),
        "restart_required": _restart_required(outcome, check),
        "build_outdated": bool(change and change.build_outdated),
        "build_id": mark.build_id if mark else None,
        "failed": failed,
        "msg": outcome.error or "",
        "host_key": mark.host_key if mark else None,
        "nics": _nics_of_outcome(outcome, mark, check),
    }


def _nics_of_outcome(outcome: Outcome, mark: Mark | None, check: bool) -> list[dict[str, t.Any]]:
    """As the mark has them; in check mode as it would have them."""
    if check and outcome.change is not None and outcome.change.spec.state != "absent":
        keys = ("name", "network", "mac", "addresses")
        return [{key: nic[key] for key in keys} for nic in outcome.change.spec.to_plain()["nics"]]
    return [dict(nic) for nic in mark.nics] if mark else []


def _state(outcome: Outcome, seen: Seen | None, check: bool) -> str:
    change = outcome.change
    if check and change is not None and outcome.error is None and change.spec.state in _AFTERWARDS:
        return change.spec.state
    return seen.state if seen else "absent"


def _restart_required(outcome: Outcome, check: bool) -> bool:
    if outcome.after is not None and not check:
        return outcome.after.restart_required
    return bool(outcome.change and outcome.change.restart_required and outcome.error is None)


def _nics(seen: Seen, mark: Mark) -> list[dict[str, t.Any]]:
    """Every NIC of the domain, with the name, network and addresses that the mark gives it."""
    known = {nic["mac"]: nic for nic in mark.nics}
    return [{**nic, **known.get(nic["mac"], {})} for nic in seen.nics]


def diffs(result: Result) -> list[dict[str, t.Any]]:
    """What `--diff` prints, one entry per guest that changes."""
    return [
        outcome.change.difference.before_after()
        for outcome in result.outcomes
        if outcome.change is not None and outcome.changed
    ]
