# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power of a container: every act is looked at afterwards, because exit code 0 is no proof."""

from __future__ import annotations

import functools

from . import _vz_argv as argv
from ._vz_checkpoint import lacking
from ._vz_codes import RUNNING
from ._vz_errors import VzError
from ._vz_observe import observe_one
from ._vz_run import LONG
from ._vz_status import SUSPENDED, read_status
from ._vz_world import Phase, Plan


def plan_power(plan: Plan) -> None:
    """Record the difference in state and the steps that make it true."""
    wanted = plan.spec.state
    now = plan.seen.state if plan.seen else None
    if wanted in ("absent", "present") or not plan.difference.compare("state", now, wanted):
        return
    if wanted == "saved":
        _plan_save(plan, now)
    elif now == "saved":
        _plan_restore(plan, wanted)
    elif wanted == "stopped":
        if now is not None:
            plan_stop(plan)
    elif now == "paused":
        plan.add(Phase.POWER, "resume", functools.partial(unpause, plan))
    else:
        if now != "running":
            plan.add(Phase.POWER, "start", functools.partial(start, plan))
        if wanted == "paused":
            plan.add(Phase.POWER, "pause", functools.partial(pause, plan))


def _plan_save(plan: Plan, now: str | None) -> None:
    if now not in ("running", "paused"):
        what = "not there" if now is None else now
        raise plan.error(f"state: found 'saved'; it is {what}: there is no running memory to save. Start it first")
    why = lacking(plan.world.tools.dialect, plan.world.options).get("save")
    if why:
        raise plan.error(f"state: found 'saved'; capability save is missing on this HostOS: {why}")
    if now == "paused":
        plan.add(Phase.POWER, "resume", functools.partial(unpause, plan))
    plan.add(Phase.POWER, "save", functools.partial(save, plan))


def _plan_restore(plan: Plan, wanted: str) -> None:
    """One that shall be stopped goes on and is shut down: its file systems are not clean before."""
    plan.add(Phase.POWER, "restore", functools.partial(restore, plan))
    if wanted == "paused":
        plan.add(Phase.POWER, "pause", functools.partial(pause, plan))
    if wanted == "stopped":
        plan.add(Phase.POWER, "stop", functools.partial(stop, plan))


def plan_stop(plan: Plan) -> None:
    """A frozen container cannot hear that it shall stop, nor one in a dump: it goes on first."""
    if plan.seen is not None and plan.seen.state == "paused":
        plan.add(Phase.STOP, "resume", functools.partial(unpause, plan))
    if plan.seen is not None and plan.seen.state == "saved":
        plan.add(Phase.STOP, "restore", functools.partial(restore, plan))
    plan.add(Phase.STOP, "stop", functools.partial(stop, plan))


def state_of(plan: Plan) -> str:
    return read_status(plan.run(argv.status(plan.ctid))).state


def start(plan: Plan) -> None:
    """`vzctl start` of one with a dump starts anew where the dump fails, and throws it away: that is not asked for."""
    if state_of(plan) == SUSPENDED:
        restore(plan)
        return
    plan.world.paused.forget(plan.ctid)
    # Running already: a run that was killed had asked for it.
    plan.run(argv.start(plan.ctid), good=(0, RUNNING))
    _expect(plan, "vzctl start", "running")


def stop(plan: Plan) -> None:
    """vzctl asks the container to halt, and kills it itself after its STOP_TIMEOUT (120 s)."""
    options = plan.world.options
    try:
        plan.run(argv.stop(plan.ctid, fast=options.force_stop and options.shutdown_timeout <= 0))
    except VzError:
        if not options.force_stop:
            raise
        plan.run(argv.stop(plan.ctid, fast=True))
    _expect(plan, "vzctl stop", "stopped", "mounted", "absent")
    plan.world.paused.forget(plan.ctid)


def pause(plan: Plan) -> None:
    """The note first: should we be killed in between, a running container is called paused, and resuming it is safe."""
    legacy = not plan.world.tools.dialect.has_pause
    if legacy:
        plan.world.paused.note(plan.ctid, _uptime(plan))
    try:
        plan.run(argv.pause(plan.world.tools.dialect, plan.ctid))
    except VzError:
        plan.world.paused.forget(plan.ctid)
        raise
    _expect(plan, "pausing", "running" if legacy else "paused")


def _uptime(plan: Plan) -> float | None:
    """As it is now: the look at the whole HostOS may be long ago, or before its start."""
    world = plan.world
    seen = observe_one(world.tools, world.options.conf_dir, world.paused, plan.ctid)
    return seen.native.uptime if seen else None


def unpause(plan: Plan) -> None:
    plan.run(argv.unpause(plan.ctid))
    plan.world.paused.forget(plan.ctid)
    _expect(plan, "resuming", "running")


def save(plan: Plan) -> None:
    """Its memory to a dump, and it is off. One that is off with a dump already: a killed run had asked for it."""
    try:
        plan.run(argv.suspend(plan.ctid), timeout=LONG)
    except VzError:
        if state_of(plan) != SUSPENDED:
            raise
    _expect(plan, "vzctl suspend", SUSPENDED)


def restore(plan: Plan) -> None:
    """vzctl has returned 0 for one that stayed down, and a dump that cannot be restored is nobody's to throw away."""
    plan.world.paused.forget(plan.ctid)
    plan.run(argv.resume(plan.ctid), good=(0, RUNNING), timeout=LONG)
    _expect(plan, "vzctl resume", "running")


def _expect(plan: Plan, what: str, *states: str) -> None:
    found = state_of(plan)
    if found not in states:
        raise plan.error(
            f"{what} returned 0, but container {plan.ctid} is {found}: look into /var/log/vzctl.log and `dmesg`"
        )
