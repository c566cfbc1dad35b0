# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All moves and clean-up actions of one `guest_migrate` call, each with a result of its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import typing as t

from . import _kvm_move_report as report
from . import _vz_move
from ._driver import DriverError, MoveRequest, MoveResult
from ._hypervisor import open_libvirt as open_driver
from ._kvm_connection import require_libvirt
from ._kvm_move import NotMoved, Scene, act, already, look
from ._kvm_move_across import pair_refusal
from ._kvm_move_plan import MovePlan, Refused
from ._kvm_move_settle import Action, Settler
from ._kvm_move_target import Target
from ._lock import hold
from ._spec import GuestSpec, SpecError

Params = t.Mapping[str, t.Any]


def run(params: Params, *, check: bool) -> dict[str, t.Any]:
    """What the module returns. Raises DriverError only where nothing at all could be looked at."""
    requests = _requests(params, check=check)
    actions = _actions(params)
    if params.get("hypervisor") == "openvz":
        return _vz_move.run(params, requests, actions, check=check)
    driver = open_driver(params, shutdown_timeout=params["shutdown_timeout"])
    try:
        with contextlib.ExitStack() as stack:
            if not check:
                names = [request.spec.name for request in requests] + [action.guest for action in actions]
                purpose = f"guest_migrate {' '.join(sorted(set(names))[:5])}"
                stack.enter_context(hold(params["state_dir"], purpose, params["lock_timeout"]))
            scene = Scene(driver, params["source"])
            settled = [_settle(Settler(scene, check), action) for action in actions]
            moves = _Moves(scene, check, stack).run(requests, params["parallel"])
    finally:
        driver.close()
    return report.summary(moves, settled, params["source"])


def _requests(params: Params, *, check: bool) -> list[MoveRequest]:
    """Every spec is read before anything is done. DriverError with all that are wrong."""
    requests: list[MoveRequest] = []
    errors = [f"parallel: found {params['parallel']}; allowed: 1 or more"] if params["parallel"] < 1 else []
    for wish in params["moves"]:
        errors += [
            f"move {wish['id']}: {key}: found {wish[key]}; allowed: 1 or more"
            for key in ("bandwidth", "timeout")
            if wish[key] is not None and wish[key] < 1
        ]
        try:
            spec = GuestSpec.from_plain({**wish["spec"], "seed": None})
        except SpecError as error:
            errors.append(f"move {wish['id']}: {error}")
            continue
        if wish["guest"] not in (None, spec.name):
            errors.append(f"move {wish['id']}: it is of guest {wish['guest']}, its spec of {spec.name}")
        if any(spec.uuid == other.spec.uuid for other in requests):
            errors.append(f"guest {spec.name}: is in the list of moves twice")
        requests.append(_request(wish, spec, check=check))
    if errors:
        raise DriverError("; ".join(errors))
    return requests


def _request(wish: Params, spec: GuestSpec, *, check: bool) -> MoveRequest:
    return MoveRequest(
        spec=spec if wish["epoch"] is None else dataclasses.replace(spec, epoch=wish["epoch"]),
        target=wish["target"],
        target_address=wish["target_address"],
        mode=wish["mode"],
        bandwidth=wish["bandwidth"],
        timeout=wish["timeout"],
        plaintext=wish["plaintext"],
        move=wish["id"],
        hypervisor=wish["target_hypervisor"] or "",
        acceleration=wish["target_acceleration"] or "",
        coming=tuple(wish["coming"]) if check else (),
    )


def _actions(params: Params) -> list[Action]:
    if params["settle"] and not params["cluster"]:
        raise DriverError("settle: cluster is needed, too")
    return [
        Action(wish["action"], wish["uuid"], wish["guest"], wish["epoch"], params["cluster"], wish["move"])
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
        self._targets: dict[tuple[str, str, bool, str], Target | DriverError] = {}

    def run(self, requests: t.Sequence[MoveRequest], parallel: int) -> list[dict[str, t.Any]]:
        """First everything is looked at, then what was not refused is done. Results in the order of the requests."""
        looked = [self._look(request) for request in requests]
        with concurrent.futures.ThreadPoolExecutor(max_workers=parallel) as executor:
            return list(executor.map(self._do, requests, looked))

    def _target(self, request: MoveRequest) -> Target:
        hypervisor = request.hypervisor or self._scene.driver.hypervisor
        key = (request.target, request.target_address, request.plaintext, hypervisor)
        if key not in self._targets:
            try:
                target = Target(
                    request.target, request.target_address, plaintext=request.plaintext, hypervisor=hypervisor
                )
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
            why = pair_refusal(self._scene.driver.hypervisor, request)
            if why is not None:
                raise Refused(request.spec.name, [why])
            target = self._target(request)
            return already(self._scene, request, target) or look(self._scene, request, target)
        except (DriverError, OSError, require_libvirt().libvirtError) as error:
            return error

    def _do(self, request: MoveRequest, looked: MovePlan | MoveResult | Exception) -> dict[str, t.Any]:
        if isinstance(looked, Exception):
            return report.failed(request, looked, certain=True)  # nothing has been changed
        if isinstance(looked, MoveResult):
            return report.done(request, looked)
        if self._check:
            return report.planned(request, looked)
        try:
            return report.done(request, act(self._scene, looked, self._target(request)), looked)
        except (DriverError, OSError, require_libvirt().libvirtError) as error:
            return report.failed(request, error, certain=isinstance(error, NotMoved))
