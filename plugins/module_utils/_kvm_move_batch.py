# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All moves and clean-up actions of one `guest_migrate` call, each with a result of its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import typing as t

from ._difference import Difference
from ._driver import DriverError, MoveRequest, MoveResult
from ._kvm import KvmDriver, Options
from ._kvm_connection import advice, require_libvirt
from ._kvm_move import NotMoved, Scene, act, already, look
from ._kvm_move_plan import MovePlan, Refused
from ._kvm_move_settle import Action, Settler
from ._kvm_move_target import Target
from ._lock import hold
from ._spec import GuestSpec, SpecError

Params = t.Mapping[str, t.Any]


def run(params: Params, *, check: bool) -> dict[str, t.Any]:
    """What the module returns. Raises DriverError only where nothing at all could be looked at."""
    requests = _requests(params)
    actions = _actions(params)
    options = Options(
        uri=params["uri"], state_dir=params["state_dir"], shutdown_timeout=float(params["shutdown_timeout"])
    )
    driver = KvmDriver(options)
    try:
        with contextlib.ExitStack() as stack:
            if not check:
                names = [request.spec.name for _wish, request in requests] + [action.guest for action in actions]
                purpose = f"guest_migrate {' '.join(sorted(set(names))[:5])}"
                stack.enter_context(hold(params["state_dir"], purpose, float(params["lock_timeout"])))
            scene = Scene(driver, params["source"])
            settled = [_settle(Settler(scene, check), action) for action in actions]
            moves = _Moves(scene, check, stack).run(requests, params["parallel"])
    finally:
        driver.close()
    return _summary(moves, settled)


def _requests(params: Params) -> list[tuple[Params, MoveRequest]]:
    """Every spec is read before anything is done. DriverError with all that are wrong."""
    requests: list[tuple[Params, MoveRequest]] = []
    errors = []
    for wish in params["moves"]:
        try:
            spec = GuestSpec.from_plain(wish["spec"])
        except SpecError as error:
            errors.append(f"move {wish['id']}: {error}")
            continue
        request = MoveRequest(
            spec=spec,
            target=wish["target"],
            target_address=wish["target_address"],
            mode=wish["mode"],
            bandwidth=wish["bandwidth"],
            timeout=wish["timeout"],
            plaintext=wish["plaintext"],
            move=wish["id"],
        )
        if any(request.spec.uuid == other.spec.uuid for _wish, other in requests):
            errors.append(f"guest {spec.name}: is in the list of moves twice")
        requests.append((wish, request))
    for key in ("bandwidth", "timeout"):
        errors += [
            f"move {wish['id']}: {key}: found {wish[key]}; allowed: 1 or more"
            for wish in params["moves"]
            if wish[key] is not None and wish[key] < 1
        ]
    if params["parallel"] < 1:
        errors.append(f"parallel: found {params['parallel']}; allowed: 1 or more")
    if errors:
        raise DriverError("; ".join(errors))
    return requests


def _actions(params: Params) -> list[Action]:
    if params["settle"] and not params["cluster"]:
        raise DriverError("settle: cluster is needed, too")
    return [
        Action(wish["action"], wish["uuid"], wish["guest"], wish["epoch"], params["cluster"])
        for wish in params["settle"]
    ]


def _settle(settler: Settler, action: Action) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"guest": action.guest, "action": action.action, "changed": False, "steps": []}
    try:
        result["steps"] = settler.take(action)
        result["changed"] = bool(result["steps"])
    except (DriverError, OSError) as error:
        result.update(failed=True, msg=str(error))
    return result


class _Moves:
    """The moves of one call; targets are connected to once."""

    def __init__(self, scene: Scene, check: bool, stack: contextlib.ExitStack) -> None:
        self._scene = scene
        self._check = check
        self._stack = stack
        self._targets: dict[tuple[str, str, bool], Target | DriverError] = {}

    def run(self, requests: t.Sequence[tuple[Params, MoveRequest]], parallel: int) -> list[dict[str, t.Any]]:
        """First everything is looked at, then what was not refused is done. Results in the order of the requests."""
        looked = [self._look(request) for _wish, request in requests]
        with concurrent.futures.ThreadPoolExecutor(max_workers=parallel) as executor:
            return list(executor.map(self._do, (request for _wish, request in requests), looked))

    def _target(self, request: MoveRequest) -> Target:
        key = (request.target, request.target_address, request.plaintext)
        if key not in self._targets:
            try:
                target = Target(request.target, request.target_address, plaintext=request.plaintext)
            except DriverError as error:  # asked once: every try would wait for it again
                self._targets[key] = error
            else:
                self._stack.callback(target.close)
                self._targets[key] = target
        found = self._targets[key]
        if isinstance(found, DriverError):
            raise Refused(request.spec.name, [str(found)])
        return found

    def _look(self, request: MoveRequest) -> MovePlan | MoveResult | Exception:
        try:
            target = self._target(request)
            return already(self._scene, request, target) or look(self._scene.driver, request, target)
        except (DriverError, OSError, require_libvirt().libvirtError) as error:
            return error

    def _do(self, request: MoveRequest, looked: MovePlan | MoveResult | Exception) -> dict[str, t.Any]:
        if isinstance(looked, Exception):
            return _failed(request, looked, certain=True)  # nothing has been changed
        if isinstance(looked, MoveResult):
            return _result(request, looked)
        if self._check:
            way = "live" if looked.live else "cold"
            return {
                **_identity(request),
                "changed": True,
                "moved": False,
                "mode": way,
                "msg": f"would be moved {way} to {request.target}",
                "warnings": list(looked.warnings),
                "epoch_before": looked.mark.epoch,
            }
        try:
            return {
                **_result(request, act(self._scene, looked, self._target(request))),
                "epoch_before": looked.mark.epoch,
            }
        except (DriverError, OSError, require_libvirt().libvirtError) as error:
            return _failed(request, error, certain=isinstance(error, NotMoved))


def _identity(request: MoveRequest) -> dict[str, t.Any]:
    return {
        "id": request.move,
        "guest": request.spec.name,
        "uuid": request.spec.uuid,
        "target": request.target,
        "epoch": request.spec.epoch,
        "failed": False,
        "uncertain": False,
        "refused": [],
        "warnings": [],
        "pending": [],
    }


def _failed(request: MoveRequest, error: Exception, *, certain: bool) -> dict[str, t.Any]:
    """`certain`: the guest is known to be here, as it was."""
    text = str(error) if isinstance(error, DriverError) else f"guest {request.spec.name}: {error}{_advice(error)}"
    return {
        **_identity(request),
        "failed": True,
        "changed": False,
        "moved": False,
        "msg": text,
        "refused": list(error.reasons) if isinstance(error, Refused) else [],
        "uncertain": not certain,
    }


def _advice(error: Exception) -> str:
    return advice(error) if isinstance(error, require_libvirt().libvirtError) else ""


def _result(request: MoveRequest, result: MoveResult) -> dict[str, t.Any]:
    return {
        **_identity(request),
        "changed": not result.already,
        "moved": result.moved,
        "failed": bool(result.message) and not result.already,
        "msg": result.message,
        "mode": result.mode,
        "state": result.state,
        "seconds": result.seconds,
        "downtime_ms": result.downtime_ms,
        "memory_bytes": result.memory_bytes,
        "disks": list(result.disks),
        "removed": list(result.removed),
        "pending": list(result.pending),
        "warnings": list(result.warnings),
    }


def _summary(moves: list[dict[str, t.Any]], settled: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    bad = [item["msg"] for item in (*settled, *moves) if item.get("failed")]
    diffs = []
    for item in moves:
        before = item.pop("epoch_before", None)
        difference = Difference(f"guest {item['guest']}")
        if item["changed"]:
            difference.compare("host", "this HostOS", item["target"])
            difference.compare("epoch", before, item["epoch"])
            diffs.append(difference.before_after())
    for item in settled:
        if item["changed"]:
            difference = Difference(f"guest {item['guest']}: {item['action']}")
            difference.compare("done", [], item["steps"])
            diffs.append(difference.before_after())
    return {
        "changed": any(item["changed"] for item in (*moves, *settled)),
        "failed": bool(bad),
        "msg": "\n".join(bad),
        "moves": moves,
        "settled": settled,
        "warnings": [text for item in moves for text in item["warnings"]],
        "diff": diffs,
    }
