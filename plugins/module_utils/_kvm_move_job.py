# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acting part of a move: libvirt's migration with a time limit, and copying files with one."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import typing as t
import xml.etree.ElementTree as ET

from ._dialect import LXC, XEN, dialect_of
from ._driver import DriverError, Mark
from ._kvm_connection import error_name, require_libvirt
from ._kvm_domain import text_of
from ._kvm_mark import replace_mark
from ._kvm_move_across import travel
from ._kvm_move_plan import MovePlan
from ._kvm_move_target import Target, bracketed
from ._xen_move import Vain

MIB = 2**20
#: Seconds between two looks at a running migration; its end is noticed at once.
LOOK = 0.5


class TimedOut(DriverError):
    """The time limit of a move was reached, and the move was given up."""


class Stuck(DriverError):
    """libvirt waits for what will not come, and cannot be told to stop. What is where must be found out later."""


class Clock:
    """How long a move has taken and may take. `limit` in seconds; None: for ever."""

    def __init__(self, limit: int | None) -> None:
        self._begin = time.monotonic()
        self._limit = limit

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    @property
    def over(self) -> bool:
        return self._limit is not None and self.seconds >= self._limit

    def check(self, guest: str) -> None:
        if self.over:
            raise TimedOut(f"guest {guest}: given up after {self._limit} s: give it more bandwidth or a larger timeout")


def pacer(guest: str, clock: Clock, bandwidth: int | None) -> t.Callable[[int], None]:
    """For uploads: is told the bytes of each packet; sleeps to keep to `bandwidth` (bytes per second), ends in time."""
    begin = time.monotonic()
    total = 0

    def pause(packet: int) -> None:
        nonlocal total
        clock.check(guest)
        total += packet
        ahead = total / bandwidth - (time.monotonic() - begin) if bandwidth else 0.0
        if ahead > 0:
            time.sleep(ahead)

    return pause


def travelling_xml(text: str, mark: Mark) -> str:
    """A domain's XML with another mark: all that a move changes in it."""
    xml = ET.fromstring(text)
    replace_mark(xml, mark)
    return text_of(xml)


def migrate(plan: MovePlan, target: Target, mark: Mark, clock: Clock) -> None:
    """Let libvirt move the domain; it is defined there and undefined here, or neither.

    Raises TimedOut or a libvirtError; both sides must then be looked at. The source's libvirtd does the work: it goes
    on if this process is killed.
    """
    lib = require_libvirt()
    domain = plan.domain
    xen = plan.config.domain_type == XEN.hypervisor
    if not plan.live and (plan.crosses or not dialect_of(plan.config.domain_type).offline_migration):
        travel(plan, target, mark)
        return
    secure = lib.VIR_DOMAIN_XML_SECURE | lib.VIR_DOMAIN_XML_MIGRATABLE
    persistent = domain.XMLDesc(secure | lib.VIR_DOMAIN_XML_INACTIVE)
    running = domain.XMLDesc(secure) if plan.live else persistent
    params: dict[str, t.Any] = {
        lib.VIR_MIGRATE_PARAM_URI: f"tcp://{bracketed(target.address)}",
        lib.VIR_MIGRATE_PARAM_DEST_XML: travelling_xml(running, mark),
        lib.VIR_MIGRATE_PARAM_PERSIST_XML: travelling_xml(persistent, mark),
    }
    flags = lib.VIR_MIGRATE_PEER2PEER | lib.VIR_MIGRATE_PERSIST_DEST | lib.VIR_MIGRATE_UNDEFINE_SOURCE
    if xen:  # libxl keeps what runs as what is defined, and sends memory through libvirt's own TLS or not at all hidden
        params = {lib.VIR_MIGRATE_PARAM_DEST_XML: params[lib.VIR_MIGRATE_PARAM_DEST_XML]}
        flags |= lib.VIR_MIGRATE_LIVE | lib.VIR_MIGRATE_PAUSED  # see _xen_move
        if target.encrypted:
            flags |= lib.VIR_MIGRATE_TUNNELLED
    elif not plan.live:
        flags |= lib.VIR_MIGRATE_OFFLINE
    else:
        flags |= lib.VIR_MIGRATE_LIVE | lib.VIR_MIGRATE_ABORT_ON_ERROR
        if not plan.request.plaintext:
            flags |= lib.VIR_MIGRATE_TLS
        if plan.copied:
            flags |= lib.VIR_MIGRATE_NON_SHARED_INC
            params[lib.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = [disk.device for disk in plan.copied]
        if len(plan.copied) < len(plan.disks):
            # libvirt calls a folder unsafe unless it knows the file system; this one was seen to be shared.
            flags |= lib.VIR_MIGRATE_UNSAFE
        if plan.request.bandwidth:
            params[lib.VIR_MIGRATE_PARAM_BANDWIDTH] = -(-plan.request.bandwidth // MIB)
    in_vain = Vain(plan.guest) if xen else lambda: None
    _watched(plan.guest, domain, clock, lambda: domain.migrateToURI3(target.uri, params, flags), in_vain)


def _watched(
    guest: str,
    domain: t.Any,
    clock: Clock,
    call: t.Callable[[], object],
    in_vain: t.Callable[[], str | None] = lambda: None,
) -> None:
    """Make the call in a thread; abort the domain's job when the time is over.

    Stuck: `in_vain` said so, and why; libvirt is still at it. Any other error is raised when libvirt has ended: who is
    told of it looks what is where, and takes back.
    """
    asked = False
    future: concurrent.futures.Future[object] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(call())
        except require_libvirt().libvirtError as error:
            future.set_exception(error)
        finally:
            if not future.done():
                future.set_exception(DriverError(f"guest {guest}: libvirt's answer to its move could not be read"))

    # Of an executor the interpreter would wait for the call before it ends; libvirt may never answer it.
    threading.Thread(target=run, daemon=True).start()
    try:
        while not concurrent.futures.wait([future], timeout=LOOK).done:
            if clock.over:
                asked = _abort(domain) or asked
            why = in_vain()
            if why is not None:
                raise Stuck(why)
    except Stuck:
        raise
    except BaseException:
        concurrent.futures.wait([future])
        raise
    if asked and future.exception() is not None:
        clock.check(guest)
    future.result()


def _abort(domain: t.Any) -> bool:
    """Ask libvirt to give the job up; False if there is none yet or no more."""
    lib = require_libvirt()
    try:
        domain.abortJob()
    except lib.libvirtError as error:
        if error_name(error) in ("VIR_ERR_OPERATION_INVALID", "VIR_ERR_NO_DOMAIN", "VIR_ERR_NO_SUPPORT"):
            return False
        raise
    return True


def shut_down(plan: MovePlan, clock: Clock, patience: float) -> None:
    """Ask the guest to power off and wait; DriverError if it does not within `patience` seconds."""
    domain = plan.domain
    end = time.monotonic() + patience
    dialect = dialect_of(plan.config.domain_type)
    if dialect is LXC:
        dialect.ask(domain, require_libvirt())
    else:
        domain.shutdown()
    while not dialect.has_ended(domain):
        clock.check(plan.guest)
        if time.monotonic() >= end:
            raise DriverError(
                f"guest {plan.guest}: it did not shut down within {patience:g} s and goes on running here; does it obey"
                " its power button? Raise shutdown_timeout, or move it live"
            )
        time.sleep(LOOK / 2)
