# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a guest really is: looked up on both sides, the source's QEMU process included."""

from __future__ import annotations

import dataclasses
import time
import typing as t
import xml.etree.ElementTree as ET

from ._driver import DriverError, MoveRequest, MoveResult
from ._kvm_connection import require_libvirt, unless
from ._kvm_mark import read_mark
from ._kvm_move_plan import MovePlan
from ._kvm_move_target import Target, TargetError
from ._kvm_observe import Native

if t.TYPE_CHECKING:
    from ._kvm import KvmDriver

#: Seconds that libvirt gets to put both sides in order after a move that failed, and what ran here to end after a good
#: one: a Xen domain is dying until dom0 has flushed its disks.
PATIENCE, DYING = 15.0, 60.0
SOURCE, TARGET = "source", "target"


class Unsettled(DriverError):
    """It is not certain where the guest is; nothing was taken back. oscarv.virt.settle decides."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """The guest is on the target with the move's epoch and not here."""

    domain: t.Any  #: virDomain on the target
    gone: bool
    downtime_ms: int | None = None
    memory_bytes: int | None = None  #: that were sent

    def state_now(self) -> str:
        """running | paused | stopped"""
        lib = require_libvirt()
        code = self.domain.state()[0]
        if code in (lib.VIR_DOMAIN_SHUTOFF, lib.VIR_DOMAIN_CRASHED):
            return "stopped"
        return "paused" if code == lib.VIR_DOMAIN_PAUSED else "running"


def wait_until(condition: t.Callable[[], bool], seconds: float = PATIENCE, pause: float = 0.2) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return True


def arrived(driver: KvmDriver, request: MoveRequest, target: Target) -> MoveResult | None:
    """The result of a move that has been made already: on the target with its epoch, not here. None otherwise."""
    uuid = request.spec.uuid
    if driver.observe_one(uuid) is not None or driver.strays(uuid):
        return None
    domain = target.domain(uuid)
    if domain is None or epochs(domain) != {request.spec.epoch}:
        return None
    return MoveResult(
        guest=request.spec.name,
        moved=True,
        state=Proof(domain, True).state_now(),
        gone_from_source=True,
        seconds=0.0,
        message="moved already",
        already=True,
    )


def epochs(domain: t.Any) -> set[int | None]:
    """The epochs of a domain's mark in its configuration and in what runs; None for one without our mark."""
    lib = require_libvirt()
    texts = [domain.XMLDesc(0), domain.XMLDesc(lib.VIR_DOMAIN_XML_INACTIVE)]
    marks = [read_mark(ET.fromstring(text)) for text in texts]
    return {mark.epoch if mark else None for mark in marks}


def where(driver: KvmDriver, plan: MovePlan, target: Target) -> str:
    """`source`, `target`, or in words why neither is certain. For after a failure: libvirt gets time to tidy up."""
    answer = ""

    def certain() -> bool:
        nonlocal answer
        answer = _where(driver, plan, target)
        return answer in (SOURCE, TARGET)

    wait_until(certain)
    return answer


def _where(driver: KvmDriver, plan: MovePlan, target: Target) -> str:
    here = driver.observe_one(plan.uuid)
    try:
        there = _anew(target, lambda fresh: fresh.domain(plan.uuid) is not None)
    except (TargetError, require_libvirt().libvirtError) as error:
        return f"{target.host} does not answer: {error}"
    busy = here is not None and t.cast(Native, here.native).job
    if here is not None and not there and not busy:
        return SOURCE
    if here is None and there:
        return TARGET
    words = {True: "has it", False: "does not have it"}
    return f"this HostOS {words[here is not None]}{' with a job active' if busy else ''}, {target.host} {words[there]}"


Answer = t.TypeVar("Answer")


def _anew(target: Target, ask: t.Callable[[Target], Answer]) -> Answer:
    """Ask over a connection of its own: the one that the move used may be what broke."""
    fresh = Target(target.host, target.address, plaintext=not target.encrypted, hypervisor=target.hypervisor)
    try:
        return ask(fresh)
    finally:
        fresh.close()


def prove(driver: KvmDriver, plan: MovePlan, target: Target) -> Proof:
    """That it is on the target, persistent, with the new epoch in both configurations, and gone from here.

    Raises Unsettled with what was found otherwise.
    """
    wrong = []
    domain = target.domain(plan.uuid)
    if domain is None:
        wrong.append(f"{target.host} does not have it")
    else:
        if not domain.isPersistent():
            wrong.append(f"on {target.host} it is transient")
        if epochs(domain) != {plan.request.spec.epoch}:
            wrong.append(f"on {target.host} its mark has epoch {sorted(map(str, epochs(domain)))}")
        if plan.live and not domain.isActive():
            wrong.append(f"on {target.host} it does not run")
    if driver.observe_one(plan.uuid) is not None:
        wrong.append("it is still defined here")
    if not wait_until(lambda: not driver.strays(plan.uuid), DYING):
        wrong.append(f"it still runs here ({driver.strays(plan.uuid)}), though libvirt does not show it")
    if wrong or domain is None:
        raise Unsettled(
            f"guest {plan.guest}: the move to {target.host} ended, but is not proved: {'; '.join(wrong)}."
            " Run oscarv.virt.settle"
        )
    stats = _completed(domain) if plan.live else {}
    return Proof(domain, True, stats.get("downtime"), stats.get("memory_processed"))


def _completed(domain: t.Any) -> dict[str, t.Any]:
    """What libvirt has measured of the move; nothing where its driver does not (libxl)."""
    lib = require_libvirt()
    with unless("VIR_ERR_INVALID_ARG", "VIR_ERR_NO_SUPPORT"):
        return dict(domain.jobStats(lib.VIR_DOMAIN_JOB_STATS_COMPLETED))
    return {}
