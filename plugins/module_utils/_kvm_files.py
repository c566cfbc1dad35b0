# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that keep track of a guest's files, so that none is lost or left over when a run is interrupted.

The order is always: write down whose a file is or that it shall go, change the domain, then remove, then forget.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import typing as t

from ._claims import Claim
from ._files import remove, sync_directory
from ._kvm_observe import observe_one
from ._kvm_world import Phase, Plan, files_of, named_by


def claim_files(
    plan: Plan,
    files: t.Mapping[str, str],
    *,
    fresh: bool = False,
    doomed: t.Iterable[str] = (),
    **extra: t.Any,
) -> None:
    """A hidden step, before anything else: from now on these files are the guest's. `extra`: fields of Claim."""
    gone = tuple(doomed)

    def write() -> None:
        old = plan.claim or _new_claim(plan, fresh)
        wanted = {**old.files, **files}
        leaving = tuple(path for path in dict.fromkeys((*old.doomed, *gone)) if path not in files.values())
        kept = {name: path for name, path in wanted.items() if path not in leaving}
        plan.claim = dataclasses.replace(old, files=kept, doomed=leaving, **extra)
        plan.claim.write()

    plan.add(Phase.STOP, "", write)
    plan.claims = True


def _new_claim(plan: Plan, fresh: bool) -> Claim:
    spec = plan.spec
    return Claim(spec.uuid, spec.cluster, spec.name, plan.root_pool, fresh=fresh)


def doom(plan: Plan, what: str, path: str) -> None:
    """Remove a file of ours, after the domain has let go of it; if it has not, the next run does."""
    claim_files(plan, {}, doomed=[path])
    plan.add(Phase.SETTLE, f"delete {what}: {path}", functools.partial(remove_unused, plan, path))


def plan_leftovers(plan: Plan) -> None:
    """What an interrupted run had consent to remove and did not get to. Call first."""
    for claim in plan.world.claims_of(plan.spec.uuid):
        for path in claim.doomed:
            if os.path.lexists(path) and not _held(plan, path):
                plan.difference.compare(f"files.{path}", "to be removed", None)
                plan.add(Phase.STOP, f"delete what was left: {path}", functools.partial(remove_unused, plan, path))
        if claim.guest != plan.spec.name:  # left by a rename
            plan.add(Phase.SETTLE, "", functools.partial(_forget, claim))
    plan.claims = plan.claims or plan.claim is not None


def _forget(claim: Claim) -> None:
    claim.settled(()).write()


def finish(plan: Plan, named: t.Collection[str] | None = None) -> None:
    """Hidden steps: make new names durable before the definition, forget what the domain names after it. Call last.

    `named`: the files that the domain will name; None: it is asked.
    """
    for directory in sorted(plan.written):
        plan.add(Phase.PREPARE, "", functools.partial(sync_directory, directory))
    if plan.claims:
        plan.add(Phase.SETTLE, "", functools.partial(_settle, plan, named))


def _settle(plan: Plan, named: t.Collection[str] | None) -> None:
    if plan.claim is None:
        return
    if named is None:
        seen = observe_one(plan.world.connection, plan.spec.uuid, plan.world.pools)
        named = named_by(seen) if seen else ()
    plan.claim.settled(named).write()


def remove_unused(plan: Plan, path: str) -> None:
    if not _held(plan, path):
        remove(pathlib.Path(path))


def _held(plan: Plan, path: str) -> bool:
    """Whether any domain still needs a file; our own one is asked again."""
    world = plan.world
    if world.users(path, plan.spec.uuid, strict=True):
        return True
    seen = observe_one(world.connection, plan.spec.uuid, world.pools)
    return seen is not None and path in files_of(seen, strict=True)
