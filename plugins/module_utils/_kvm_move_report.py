# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `guest_migrate` says of its moves: one result each, and one failure at the end that names each that failed."""

from __future__ import annotations

import typing as t

from ._difference import Difference
from ._driver import MoveRequest, MoveResult
from ._errors import named
from ._kvm_connection import advice, require_libvirt
from ._kvm_move_plan import MovePlan, Refused

MIB = 2**20


def result_of(request: MoveRequest, outcome: str, text: str, **more: t.Any) -> dict[str, t.Any]:
    text = named(request.spec.name, text)
    return {
        "id": request.move,
        "guest": request.spec.name,
        "uuid": request.spec.uuid,
        "target": request.target,
        "epoch": request.spec.epoch,
        "changed": False,
        "moved": False,
        "failed": False,
        "refused": [],
        "warnings": [],
        "pending": [],
        "outcome": outcome,
        "msg": text,
        "message": text,
        **more,
    }


def failed(request: MoveRequest, error: Exception, *, certain: bool) -> dict[str, t.Any]:
    """`certain`: the guest is known to be here, as it was."""
    text = f"{error}{advice(error)}" if isinstance(error, require_libvirt().libvirtError) else str(error)
    reasons = list(error.reasons) if isinstance(error, Refused) else []
    return result_of(request, "aborted" if certain else "unknown", text, failed=True, refused=reasons)


def planned(request: MoveRequest, plan: MovePlan) -> dict[str, t.Any]:
    """For check mode."""
    mode = _mode(plan.live)
    return result_of(
        request,
        "planned",
        f"would be moved {mode} to {request.target}",
        changed=True,
        mode=mode,
        warnings=list(plan.warnings),
        epoch_before=plan.mark.epoch,
    )


def done(request: MoveRequest, result: MoveResult, plan: MovePlan | None = None) -> dict[str, t.Any]:
    """A move that is proved; `result.message` is what went wrong after the proof."""
    text = f"is on {request.target} already" if result.already else result.message or _sentence(request, result)
    return result_of(
        request,
        "committed",
        text,
        changed=not result.already,
        moved=True,
        failed=bool(result.message) and not result.already,
        mode=result.mode,
        state=result.state,
        seconds=result.seconds,
        downtime_ms=result.downtime_ms,
        memory_bytes=result.memory_bytes,
        disks=list(result.disks),
        removed=list(result.removed),
        pending=list(result.pending),
        warnings=list(result.warnings),
        epoch_before=plan.mark.epoch if plan else None,
    )


def _mode(live: bool) -> str:
    return "live" if live else "cold"


def _sentence(request: MoveRequest, result: MoveResult) -> str:
    parts = [f"moved {result.mode} to {request.target} in {result.seconds:.1f} s"]
    if result.downtime_ms is not None:
        parts.append(f"stood still for {result.downtime_ms} ms")
    if result.memory_bytes is not None:
        parts.append(f"{result.memory_bytes / MIB:.0f} MiB of memory")
    copied = sum(disk.get("bytes", 0) for disk in result.disks)
    return ", ".join([*parts, f"{copied / MIB:.0f} MiB of disks"])


def summary(moves: list[dict[str, t.Any]], settled: list[dict[str, t.Any]], source: str) -> dict[str, t.Any]:
    """What the module returns."""
    diffs = []
    for item in moves:
        before = item.pop("epoch_before", None)
        if item["changed"]:
            difference = Difference(f"guest {item['guest']}")
            difference.compare("host", source or "this HostOS", item["target"])
            difference.compare("epoch", before, item["epoch"])
            diffs.append(difference.before_after())
    for item in settled:
        if item["changed"]:
            difference = Difference(f"guest {item['guest']}: {item['action']}")
            difference.compare("done", [], item["steps"])
            diffs.append(difference.before_after())
    bad = [item["msg"] for item in (*settled, *moves) if item.get("failed")]
    count = len(moves) + len(settled)
    return {
        "changed": any(item["changed"] for item in (*moves, *settled)),
        "failed": bool(bad),
        "msg": f"{len(bad)} of {count} failed: {'; '.join(bad)}" if bad else "",
        "moves": moves,
        "settled": settled,
        "warnings": [text for item in moves for text in item["warnings"]],
        "diff": diffs,
    }
