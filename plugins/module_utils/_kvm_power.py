# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power: start, shut down, power off, pause, resume, save, restore, and what a wished state needs of them."""

from __future__ import annotations

import functools
import time
import typing as t

from ._driver import DriverError, Seen
from ._kvm_connection import require_libvirt, told, unless
from ._kvm_world import Phase, Plan

#: Seconds between two looks at a guest that shuts down.
_LOOK = 0.5
#: A guest that is still booting ignores the first request: it is repeated.
_ASK_AGAIN = 5.0

DROP = "drop its saved memory"


def plan_power(plan: Plan) -> None:
    """Record the difference in state and the steps that make it true. Starting and stopping are never done twice."""
    seen, wanted = plan.seen, plan.spec.state
    if wanted == "absent":
        return
    now = seen.state if seen else None
    if now == "saved" and DROP in plan.steps:  # a rebuild does it
        now = "stopped"
    if wanted == "saved":
        _plan_save(plan, now)
        return
    if plan.offline and seen is not None and plan.native.active:
        _plan_stop(plan, seen)
        after = now if wanted == "present" else wanted
        if wanted in ("running", "paused") or (wanted == "present" and now in ("running", "paused")):
            _plan_start(plan, after == "paused")
        if wanted != "present":
            plan.difference.compare("state", now, wanted)
        return
    if wanted == "present":
        return
    if not plan.difference.compare("state", now, wanted):
        return
    if now == "saved":
        _plan_restore(plan, wanted)
    elif now in (None, "stopped"):
        if wanted != "stopped":
            _plan_start(plan, wanted == "paused")
    elif wanted == "running":
        plan.add(Phase.POWER, "resume", functools.partial(resume, plan))
    elif wanted == "paused":
        plan.add(Phase.POWER, "pause", functools.partial(pause, plan))


def _plan_stop(plan: Plan, seen: Seen) -> None:
    if seen.state == "crashed":
        plan.add(Phase.STOP, "power off (crashed)", functools.partial(power_off, plan))
    else:
        plan.add(Phase.STOP, "shut down", functools.partial(stop, plan))


def _plan_start(plan: Plan, paused: bool) -> None:
    plan.restarts = plan.native.active if plan.seen else False
    plan.add(Phase.POWER, "start paused" if paused else "start", functools.partial(start, plan, paused))


def _plan_save(plan: Plan, now: str | None) -> None:
    if not plan.difference.compare("state", now, "saved"):
        return
    if now not in ("running", "paused") or plan.native.suspended:
        what = "not there" if now is None else "asleep" if plan.native.suspended else now
        raise plan.error(f"state: found 'saved'; it is {what}: there is no running memory to save. Start it first")
    plan.world.platform.refuse_live("save", plan.spec.name, "save its memory")
    plan.add(Phase.POWER, "save", functools.partial(save, plan))


def _plan_restore(plan: Plan, wanted: str) -> None:
    """A guest that shall be stopped goes on and is shut down: its file systems are not clean before."""
    options = plan.world.options
    if wanted == "stopped" and options.force_stop and options.shutdown_timeout <= 0:
        plan.add(Phase.POWER, DROP, functools.partial(drop_saved, plan))
        return
    plan.add(Phase.POWER, "restore", functools.partial(start, plan, False))
    if wanted == "paused":  # not restored paused: libvirt calls that the middle of a migration, for good
        plan.add(Phase.POWER, "pause", functools.partial(pause, plan))
    if wanted == "stopped":
        plan.add(Phase.POWER, "shut down", functools.partial(stop, plan))


def lookup(plan: Plan) -> t.Any:
    """The virDomain of the plan's guest as it is now."""
    with told(plan.spec.name, "find it"):
        return plan.world.connection.lookupByUUIDString(plan.spec.uuid)


def start(plan: Plan, paused: bool) -> None:
    lib = require_libvirt()
    from_begin = not plan.world.platform.simulator and plan.world.platform.dialect.starts_paused
    domain = lookup(plan)
    with told(plan.spec.name, "start it"):
        try:
            flags = lib.VIR_DOMAIN_START_PAUSED if paused and from_begin else 0
            plan.world.platform.dialect.start(domain, flags)
        except lib.libvirtError:
            if not domain.isActive():  # else a run that was killed had asked for it, and libvirt went on
                raise
    if paused and not from_begin:  # it cannot be started paused
        pause(plan)
    elif not paused and domain.state()[0] == lib.VIR_DOMAIN_PAUSED:  # somebody had saved it while it was paused
        resume(plan)


def pause(plan: Plan) -> None:
    with told(plan.spec.name, "pause it"):
        lookup(plan).suspend()


def resume(plan: Plan) -> None:
    """Resume a paused guest, or wake one that put itself to sleep."""
    lib = require_libvirt()
    domain = lookup(plan)
    with told(plan.spec.name, "resume it"):
        try:
            if plan.native.suspended:
                domain.pMWakeup(0)
            else:
                domain.resume()
        except lib.libvirtError:
            # A guest that is being started looks paused for a moment: whoever started it was killed, libvirt went on.
            if domain.state()[0] != lib.VIR_DOMAIN_RUNNING:
                raise


def save(plan: Plan) -> None:
    """Its memory to a file of libvirt's; libvirt stops it, and the next start goes on from there."""
    lib = require_libvirt()
    platform, domain = plan.world.platform, lookup(plan)
    with told(plan.spec.name, "save its memory"):
        if platform.dialect.saves_paused:
            domain.managedSave(lib.VIR_DOMAIN_SAVE_RUNNING)
            return
        if domain.state()[0] == lib.VIR_DOMAIN_PAUSED:
            domain.resume()
        domain.managedSave(0)


def drop_saved(plan: Plan) -> None:
    with told(plan.spec.name, "drop its saved memory"), unless("VIR_ERR_OPERATION_INVALID"):
        lookup(plan).managedSaveRemove(0)


def power_off(plan: Plan) -> None:
    """As if the plug was pulled."""
    with told(plan.spec.name, "power it off"), unless("VIR_ERR_OPERATION_INVALID"):
        lookup(plan).destroy()


def ask(plan: Plan) -> None:
    """Press the power button, without waiting. Not by the guest agent: one that hangs would hang us."""
    lib = require_libvirt()
    domain = lookup(plan)
    platform = plan.world.platform
    with told(plan.spec.name, "ask it to shut down"), unless("VIR_ERR_OPERATION_INVALID"):  # it has stopped already
        if domain.state()[0] == lib.VIR_DOMAIN_PAUSED:  # a paused guest cannot hear the button
            domain.resume()
        if platform.simulator:
            domain.shutdownFlags(0)
        else:
            platform.dialect.ask(domain, lib)


def stop(plan: Plan) -> None:
    """Shut down; power off after `shutdown_timeout` only with `force_stop`."""
    options = plan.world.options
    domain = lookup(plan)
    if options.shutdown_timeout > 0 and _stopped_in_time(plan, domain, options.shutdown_timeout):
        return
    if not options.force_stop:
        raise DriverError(
            f"guest {plan.spec.name}: still running {options.shutdown_timeout:g} s after it was asked to shut down."
            f" Look at its console (`virsh console {plan.spec.name}`), raise shutdown_timeout, or power it off with"
            " force_stop: true"
        )
    power_off(plan)


def _stopped_in_time(plan: Plan, domain: t.Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    ask_at = time.monotonic()
    heard = False
    while True:
        with told(plan.spec.name, "see whether it stopped"):
            if plan.world.platform.dialect.has_ended(domain):
                return True
        now = time.monotonic()
        if now >= deadline:
            return False
        if now >= ask_at:
            try:
                ask(plan)
            except DriverError:
                if not heard:
                    raise
                # It obeyed already: libxl cannot ask a domain that it is burying, and libvirt has not heard of its end.
            heard = True
            ask_at = now + _ASK_AGAIN
        else:
            time.sleep(_LOOK)
