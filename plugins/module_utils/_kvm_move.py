# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving one guest away from this HostOS so that at every moment, and after every crash, at most one copy can run.

The order is what makes it safe:

1. everything that speaks against it is looked for (`_kvm_move_plan`); nothing has been changed
2. tombstone `moving` and the list of files here; the list of files there (the receipt)
3. files on the target: empty overlays for a live move, whole copies for a cold one
4. libvirt moves: the domain is defined there and undefined here, or neither
5. proof on both sides; tombstone `moved`; a Xen guest, which arrives paused, goes on
6. files here are removed. After a cold move that waits until the target has made its copies durable (`accept`)

An error before 4 has succeeded takes 3 and 2 back. Where it is not certain what happened, nothing is taken back and
nothing started: oscarv.virt.settle looks at both sides again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import typing as t

from ._driver import DriverError, MoveRequest, MoveResult
from ._kvm_connection import advice, require_libvirt
from ._kvm_move_files import Departure, Departures, Receipt, remove_files
from ._kvm_move_job import Clock, Stuck, migrate, pacer, shut_down
from ._kvm_move_plan import MovePlan, Refused, make_plan
from ._kvm_move_proof import SOURCE, TARGET, Proof, Unsettled, arrived, prove, wait_until, where
from ._kvm_move_target import Target
from ._kvm_world import files_of
from ._tombstone import MOVED, MOVING, Tombstone, Tombstones
from ._xen_move import arrives_paused, go_on

if t.TYPE_CHECKING:
    from ._kvm import KvmDriver


@dataclasses.dataclass
class Scene:
    """Where moves happen: this HostOS, its connection, what it remembers."""

    driver: KvmDriver
    source: str = ""  #: inventory name of this HostOS, for the receipt

    @property
    def stones(self) -> Tombstones:
        return self.driver.tombstones

    @property
    def departures(self) -> Departures:
        return Departures(self.driver.options.state_dir)

    def used_files(self, but: str) -> set[str]:
        """Every file that a domain here needs, except the one with this uuid. DriverError if one cannot be read."""
        seen = self.driver.observe_all()
        everybody = (*seen.guests.values(), *seen.foreign)
        return {path for guest in everybody if guest.uuid != but for path in files_of(guest, strict=True)}


class NotMoved(DriverError):
    """A move failed and it is certain that the guest is here, as it was; what was made for it is gone again."""


def move(driver: KvmDriver, request: MoveRequest) -> MoveResult:
    """Driver.move: look, act, prove. Raises DriverError (Refused, NotMoved, Unsettled) naming the guest."""
    hypervisor = request.hypervisor or driver.hypervisor
    target = Target(request.target, request.target_address, plaintext=request.plaintext, hypervisor=hypervisor)
    scene = Scene(driver)
    try:
        return already(scene, request, target) or act(scene, look(scene, request, target), target)
    finally:
        target.close()


def already(scene: Scene, request: MoveRequest, target: Target) -> MoveResult | None:
    """The result of a move that has been made, with what an interruption left to do; None if it has not."""
    result = arrived(scene.driver, request, target)
    departure = scene.departures.get(request.spec.uuid)
    if result is None or departure is None or departure.epoch_to != request.spec.epoch:
        return result
    todo = _todo(scene, departure)
    return dataclasses.replace(result, pending=tuple(todo(*item) for item in AFTERWARDS))


def look(scene: Scene, request: MoveRequest, target: Target) -> MovePlan:
    """The plan; Refused with every reason against it. Changes nothing."""
    if request.move and scene.departures.aborted(request.spec.uuid) == request.move:
        raise Refused(request.spec.name, ["this move was aborted by oscarv.virt.settle meanwhile: plan again"])
    return make_plan(scene.driver, scene.driver.observe_one(request.spec.uuid), request, target)


def act(scene: Scene, plan: MovePlan, target: Target) -> MoveResult:
    """Make the plan true."""
    clock = Clock(plan.request.timeout)
    copied: dict[str, int] = {}
    older = scene.stones.get(plan.uuid)
    _remember(scene, plan, target)
    try:
        if plan.restart:
            shut_down(plan, clock, scene.driver.options.shutdown_timeout)
        copied = _prepare(scene, plan, target, clock)
        mark = dataclasses.replace(plan.mark, epoch=plan.request.spec.epoch)
        with _no_autostart(plan):
            migrate(plan, target, mark, clock)
    except Stuck as error:
        raise Unsettled(f"{error}; then run oscarv.virt.settle") from error
    except (DriverError, OSError, require_libvirt().libvirtError) as error:
        place = where(scene.driver, plan, target)
        if place != TARGET:  # there and not here: only libvirt's last word was lost
            _take_back(scene, plan, target, error, place, older)
    return _finish(scene, plan, target, clock, copied)


@contextlib.contextmanager
def _no_autostart(plan: MovePlan) -> t.Iterator[None]:
    """A stopped guest is not started here by a reboot while it moves; as before if the move fails."""
    if plan.live or not plan.seen.autostart:
        yield
        return
    plan.domain.setAutostart(False)
    try:
        yield
    except BaseException:
        with contextlib.suppress(require_libvirt().libvirtError):  # it is not here any more
            plan.domain.setAutostart(True)
        raise


def _remember(scene: Scene, plan: MovePlan, target: Target) -> None:
    """What a crash from here on needs. The list first: with a tombstone alone nobody would know the files."""
    request = plan.request
    departure = Departure(
        uuid=plan.uuid,
        guest=plan.guest,
        move=request.move,
        epoch_from=plan.mark.epoch,
        epoch_to=request.spec.epoch,
        target=request.target,
        address=request.target_address,
        plaintext=request.plaintext,
        hypervisor=target.hypervisor,
        files=plan.leaving,
        receipt=str(pathlib.PurePosixPath(plan.folder) / plan.receipt) if plan.arriving and not plan.live else None,
    )
    scene.departures.write(departure)
    scene.stones.write(Tombstone(plan.uuid, plan.mark.epoch, MOVING, plan.guest, request.target, request.move))


def _prepare(scene: Scene, plan: MovePlan, target: Target, clock: Clock) -> dict[str, int]:
    """Make the files on the target: name of the disk -> bytes sent. An overlay for a live move is filled by QEMU."""
    _prove_shared(plan, target)
    if not plan.arriving:
        return {}
    receipt = Receipt(plan.uuid, plan.guest, plan.request.move, plan.request.spec.epoch, scene.source, plan.arriving)
    target.folder(plan.folder).put(plan.receipt, receipt.to_bytes())
    sent = {}
    pause = pacer(plan.guest, clock, plan.request.bandwidth)
    for disk in plan.copied:
        folder = target.folder(disk.folder)
        if plan.live:
            folder.make_overlay(disk.file, disk.size, disk.backing)
        else:
            sent[disk.name] = folder.upload(disk.path, disk.file, pause)
    for path in plan.files:
        pure = pathlib.PurePosixPath(path)
        target.folder(str(pure.parent)).upload(path, pure.name, pause)
    return sent


def _prove_shared(plan: MovePlan, target: Target) -> None:
    """A pool is shared if what is made here is seen there: a disk that is another file there would be a lost disk."""
    for folder in sorted({disk.folder for disk in plan.disks if disk.shared}):
        probe = pathlib.Path(folder) / f"{plan.guest}.probe-{plan.request.move or plan.request.spec.epoch}"
        probe.touch(mode=0o600)
        try:
            seen = probe.name in target.folder(folder).sizes()
        finally:
            probe.unlink()
        if not seen:
            raise DriverError(
                f"guest {plan.guest}: {folder} is said to be shared, but {target.host} does not see what is made there:"
                " mount the pool there, or take `shared` from its definition"
            )


def _take_back(
    scene: Scene, plan: MovePlan, target: Target, error: Exception, place: str, older: Tombstone | None
) -> t.NoReturn:
    """The guest has not left: remove what was made on the target, forget the move, let the guest go on. Raises.

    `older`: the tombstone of a time when the guest was away before.
    """
    words = _words(error).removeprefix(f"guest {plan.guest}: ")
    if place != SOURCE:
        raise Unsettled(
            f"guest {plan.guest}: the move to {target.host} failed ({words}) and it is not certain what is where"
            f" ({place}); nothing was started or removed. Run oscarv.virt.settle"
        ) from error
    try:
        for path in plan.arriving:
            pure = pathlib.PurePosixPath(path)
            target.folder(str(pure.parent)).delete(pure.name)
        if plan.arriving:
            target.folder(plan.folder).delete(plan.receipt)
    except (DriverError, require_libvirt().libvirtError) as late:
        raise Unsettled(
            f"guest {plan.guest}: the move to {target.host} failed ({words}); it goes on here, but files stay on"
            f" {target.host} ({late}). Run oscarv.virt.settle"
        ) from error
    scene.departures.remove(plan.uuid)
    if older is None:
        scene.stones.remove(plan.uuid)
    else:
        scene.stones.write(older)
    try:
        _go_on(plan)
    except require_libvirt().libvirtError as late:
        words += f"; and it could not be brought back to {plan.seen.state}: {_words(late)}"
    raise NotMoved(
        f"guest {plan.guest}: not moved to {target.host}, it stays here ({plan.seen.state}): {words}"
    ) from error


def _go_on(plan: MovePlan) -> None:
    """As it was: libvirt leaves a guest paused when it lost the other side, and a cold move shut it down."""
    if plan.restart and not plan.domain.isActive():
        plan.domain.create()
    elif plan.live and plan.seen.state == "running" and plan.domain.state()[0] == require_libvirt().VIR_DOMAIN_PAUSED:
        plan.domain.resume()


def _words(error: Exception) -> str:
    return f"{error}{advice(error)}" if isinstance(error, require_libvirt().libvirtError) else str(error)


def _finish(scene: Scene, plan: MovePlan, target: Target, clock: Clock, copied: t.Mapping[str, int]) -> MoveResult:
    """Prove, then let go: the tombstone first, the files here last. After the proof nothing undoes the move."""
    proof = prove(scene.driver, plan, target)
    end = _End(scene, plan, target, proof)
    for step in (end.tombstone, end.go_on, end.autostart, end.files_here, end.start):
        try:
            step()
        except (DriverError, OSError, require_libvirt().libvirtError) as error:
            end.problems.append(_words(error))
    return MoveResult(
        guest=plan.guest,
        moved=True,
        state=proof.state_now(),
        gone_from_source=proof.gone,
        seconds=round(clock.seconds, 3),
        downtime_ms=proof.downtime_ms,
        message=f"guest {plan.guest}: is on {target.host} now, but: {'; '.join(end.problems)}" if end.problems else "",
        mode="live" if plan.live else "cold",
        memory_bytes=proof.memory_bytes,
        disks=tuple(_disk_results(plan, target, copied)),
        warnings=plan.warnings,
        removed=tuple(end.removed),
        pending=tuple(end.pending),
    )


#: What follows an interrupted or a cold move: on which side, action.
AFTERWARDS = (("source", "write_tombstone"), ("target", "accept"), ("source", "remove_leftovers"))


def _todo(scene: Scene, departure: Departure) -> t.Callable[[str, str], dict[str, t.Any]]:
    def item(side: str, action: str) -> dict[str, t.Any]:
        there = side == "target"
        return {
            "host": departure.target if there else scene.source,
            "action": action,
            "uuid": departure.uuid,
            "guest": departure.guest,
            "epoch": departure.epoch_to if there else departure.epoch_from,
            "move": departure.move,
        }

    return item


@dataclasses.dataclass
class _End:
    """The steps after the proof. One that fails is told and does not stop the next."""

    scene: Scene
    plan: MovePlan
    target: Target
    proof: Proof
    problems: list[str] = dataclasses.field(default_factory=list)
    removed: list[str] = dataclasses.field(default_factory=list)
    pending: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)

    def tombstone(self) -> None:
        plan = self.plan
        stone = Tombstone(plan.uuid, plan.mark.epoch, MOVED, plan.guest, plan.request.target, plan.request.move)
        self.scene.stones.write(stone)

    def go_on(self) -> None:
        if arrives_paused(self.plan):
            go_on(self.plan, self.proof.domain, wait_until)

    def autostart(self) -> None:
        self.proof.domain.setAutostart(self.plan.request.spec.starts_with_host)

    def files_here(self) -> None:
        """Removed, or for later: a copy that is not durable on the target yet is no reason to remove the original."""
        plan = self.plan
        departure = self.scene.departures.get(plan.uuid)
        if departure is not None and departure.receipt is not None:
            todo = _todo(self.scene, departure)
            self.pending = [todo(*item) for item in AFTERWARDS[1:]]
            return
        if plan.arriving:
            self.target.folder(plan.folder).delete(plan.receipt)
        self.removed = remove_files(plan.leaving, self.scene.used_files(plan.uuid))
        self.scene.departures.remove(plan.uuid)

    def start(self) -> None:
        if self.plan.restart:
            self.proof.domain.create()


def _disk_results(plan: MovePlan, target: Target, copied: t.Mapping[str, int]) -> t.Iterator[dict[str, t.Any]]:
    """Per disk: what was done and how many bytes the file has on the target."""
    folders: dict[str, dict[str, tuple[int, int]]] = {}
    for disk in plan.disks:
        result: dict[str, t.Any] = {"name": disk.name, "pool": disk.pool, "path": disk.path, "copied": not disk.shared}
        if not disk.shared:
            if disk.folder not in folders:
                folders[disk.folder] = target.folder(disk.folder).sizes()
            result["bytes"] = copied.get(disk.name) or folders[disk.folder].get(disk.file, (0, 0))[0]
        yield result
