# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a move will do, decided before anything is changed, and everything that speaks against it.

Both sides are only read here, so check mode runs exactly this.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import typing as t

from ._dialect import dialect_of
from ._driver import Capability, DriverError, Mark, MoveRequest, Seen
from ._kvm_connection import told
from ._kvm_domain import running_xml
from ._kvm_move_across import crosses, kernel_refusals, refusals
from ._kvm_move_files import receipt_name
from ._kvm_move_fit import platform_refusals, tls_refusals
from ._kvm_move_target import Target
from ._kvm_observe import Native, snapshots_of
from ._kvm_parse import View
from ._paths import build_of, build_path, disk_path
from ._spec import DiskSpec
from ._tombstone import MOVING, Tombstone, refusal
from ._xen_move import refusals as xen_refusals

if t.TYPE_CHECKING:
    from ._kvm import KvmDriver


@dataclasses.dataclass(frozen=True)
class DiskPlan:
    """One disk of the guest. `size` is the virtual one in bytes."""

    name: str
    device: str  #: vda, ...
    pool: str
    directory: str  #: of the pool, the same on both sides
    path: str
    size: int
    shared: bool  #: both HostOSes see the file: nothing is copied
    backing: str | None  #: path of the build under an overlay

    @property
    def folder(self) -> str:
        return str(pathlib.PurePosixPath(self.path).parent)

    @property
    def file(self) -> str:
        return pathlib.PurePosixPath(self.path).name


@dataclasses.dataclass(frozen=True)
class MovePlan:
    """A move that nothing speaks against."""

    request: MoveRequest
    seen: Seen
    live: bool
    disks: tuple[DiskPlan, ...]
    files: tuple[str, ...]  #: small files that are copied beside the disks: the seed; of a stopped guest UEFI variables
    variables: str | None  #: where libvirt keeps its UEFI variables; QEMU carries them along in a live move
    folder: str  #: of the root disk: the receipt goes there
    warnings: tuple[str, ...] = ()
    restart: bool = False  #: a running guest is moved cold: shut down here, start there
    crosses: bool = False  #: to another hypervisor

    @property
    def guest(self) -> str:
        return self.request.spec.name

    @property
    def uuid(self) -> str:
        return self.request.spec.uuid

    @property
    def mark(self) -> Mark:
        """The guest's mark as it is here, with the old epoch."""
        return t.cast(Mark, self.seen.mark)

    @property
    def config(self) -> View:
        """The persistent configuration."""
        return t.cast(Native, self.seen.native).config

    @property
    def domain(self) -> t.Any:
        return t.cast(Native, self.seen.native).domain

    @property
    def copied(self) -> tuple[DiskPlan, ...]:
        return tuple(disk for disk in self.disks if not disk.shared)

    @property
    def receipt(self) -> str:
        return receipt_name(self.guest)

    @property
    def arriving(self) -> tuple[str, ...]:
        """Paths that this move makes on the target."""
        return (*(disk.path for disk in self.copied), *self.files)

    @property
    def leaving(self) -> tuple[str, ...]:
        """Paths that have no use here after the move."""
        return tuple(dict.fromkeys((*self.arriving, *([self.variables] if self.variables else []))))


class Refused(DriverError):
    """A move that must not be begun; `reasons` are sentences, and nothing was changed."""

    def __init__(self, guest: str, reasons: t.Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"guest {guest}: not moved, nothing was changed: " + "; ".join(reasons))


def make_plan(driver: KvmDriver, seen: Seen | None, request: MoveRequest, target: Target) -> MovePlan:
    """The plan of one move; Refused with everything that speaks against it."""
    guest = request.spec.name
    reasons = _identity(driver.tombstones.get(request.spec.uuid), seen, request)
    if reasons or seen is None:
        raise Refused(guest, reasons)
    with told(guest, f"look at both sides of its move to {request.target}"):
        live, restart, warnings, found = _way(request, seen)
        reasons += found
        disks, found = _disks(request, seen, driver.pools)
        reasons += found
        variables = _variables(seen)
        files, found = _files(seen, disks, variables, live=live)
        reasons += found
        reasons += _occupied(request, target)
        if not reasons:
            across = crosses(driver.hypervisor, request)
            plan = MovePlan(request, seen, live, disks, files, variables, disks[0].folder, warnings, restart, across)
            reasons += _capability(driver.capabilities_of(seen), plan)
            reasons += _storage(plan, target)
            reasons += _network(seen, target)
            if across:
                builds = [disk.backing for disk in disks]
                reasons += refusals(driver.hypervisor, request, live, target, builds)
                reasons += kernel_refusals(plan)
            else:
                reasons += platform_refusals(driver.connection, target, running_xml(plan.domain), live=live)
                reasons += tls_refusals(request, live) if driver.hypervisor == "kvm" else xen_refusals(plan)
    if reasons:
        raise Refused(guest, reasons)
    return plan


def _identity(stone: Tombstone | None, seen: Seen | None, request: MoveRequest) -> list[str]:
    """Is it there, is it ours, is this move newer than everything that is known here?"""
    spec = request.spec
    stale = refusal(spec.epoch, stone)
    if stone is not None and stone.state == MOVING and not stale:
        stale = (
            f"an earlier move of it (epoch {stone.epoch}, {stone.move}) was interrupted here; run oscarv.virt.settle"
        )
    if stale:
        return [stale]
    if seen is None:
        return [f"no domain with uuid {spec.uuid} is on this HostOS; run oscarv.virt.settle, then oscarv.virt.status"]
    mark = seen.mark
    if mark is None:
        return [f"domain {seen.name} does not carry this collection's mark: it is not ours to move"]
    if (mark.cluster, mark.guest) != (spec.cluster, spec.name):
        return [f"the domain's mark says guest {mark.guest} of cluster {mark.cluster}, not of {spec.cluster}"]
    if spec.epoch <= mark.epoch:
        return [f"epoch {spec.epoch} is not newer than {mark.epoch}, the domain's: a stale request; plan again"]
    return []


def _way(request: MoveRequest, seen: Seen) -> tuple[bool, bool, tuple[str, ...], list[str]]:
    """(live, restart, warnings, reasons against)."""
    native = t.cast(Native, seen.native)
    reasons = []
    if native.job or seen.state == "moving":
        reasons.append(f"a job is active on it ({native.job or 'a move'}): wait until it is over (virsh domjobinfo)")
    if seen.state == "crashed":
        reasons.append("it has crashed: start or stop it first (oscarv.virt.deploy)")
    if not seen.persistent:
        reasons.append("the domain is transient: it would be lost with its process; run oscarv.virt.deploy first")
    if native.suspended:
        reasons.append("the guest has suspended itself: wake it up first")
    domain = native.domain
    if snapshots_of(domain):
        reasons.append("it has libvirt snapshots, which do not travel: delete them (virsh snapshot-delete)")
    if not native.active and domain.hasManagedSaveImage():
        reasons.append("its memory is saved (virsh managedsave), which does not travel: start it (state: running)")
    warnings: tuple[str, ...] = ()
    live = native.active and request.mode != "cold"
    if request.mode == "live" and not native.active:
        warnings = (f"guest {request.spec.name}: live was asked for, but it is {seen.state}: moved cold",)
    restart = native.active and not live
    if restart and seen.state == "paused":
        reasons.append("it is paused and cannot be shut down for a cold move: resume it, or move it live")
    return live, restart, warnings, reasons


def _disks(request: MoveRequest, seen: Seen, pools: t.Mapping[str, str]) -> tuple[tuple[DiskPlan, ...], list[str]]:
    dialect = dialect_of(t.cast(Native, seen.native).config.domain_type)
    spec = request.spec
    wanted = {disk.name: disk for disk in spec.disks}
    plans, reasons = [], []
    for entry in seen.disks:
        disk = wanted.get(entry["name"])
        directory = pools.get(disk.pool) if disk else None
        if (
            disk is None
            or directory is None
            or entry["path"] != disk_path(directory, spec.cluster, spec.name, disk.name, dialect.disk_kind(disk.format))
        ):
            where = entry["path"] or "not a file"
            reasons.append(
                f"disk {entry['target']} ({where}) is not one of its spec's: detach it, or run oscarv.virt.deploy if it"
                " has left the definition"
            )
        elif entry["size"] is None:
            reasons.append(f"disk {disk.name}: {entry['path']} cannot be read as {dialect.disk_kind(disk.format)}")
        elif entry["backing"] and not build_of(entry["backing"]):
            reasons.append(
                f"disk {disk.name}: it stands on {entry['backing']}, which is no build: commit its snapshots"
            )
        else:
            plans.append(_disk(disk, entry, directory))
    if not plans and not reasons:
        reasons.append("it has no disk of ours")
    return tuple(plans), reasons


def _disk(disk: DiskSpec, entry: t.Mapping[str, t.Any], directory: str) -> DiskPlan:
    return DiskPlan(
        disk.name, entry["target"], disk.pool, directory, entry["path"], entry["size"], disk.shared, entry["backing"]
    )


def _files(
    seen: Seen, disks: t.Sequence[DiskPlan], variables: str | None, *, live: bool
) -> tuple[tuple[str, ...], list[str]]:
    """The seed where the root disk is copied, and UEFI variables where no QEMU carries them over."""
    native = t.cast(Native, seen.native)
    files = []
    shared = {disk.folder for disk in disks if disk.shared}
    if seen.seed and str(pathlib.PurePosixPath(seen.seed).parent) not in shared:
        files.append(seen.seed)
    if variables and not live:
        files.append(variables)
    reasons = [f"CD-ROM {disk.path} does not travel: eject it" for disk in native.config.disks if _strange(disk, seen)]
    return tuple(files), reasons


def _variables(seen: Seen) -> str | None:
    path = t.cast(Native, seen.native).xml.findtext("os/nvram")
    return path if path and os.path.exists(path) else None


def _strange(disk: t.Any, seen: Seen) -> bool:
    return disk.device != "disk" and disk.path is not None and disk.path != seen.seed


def _occupied(request: MoveRequest, target: Target) -> list[str]:
    """Is a guest of this identity on the target already?"""
    spec = request.spec
    if target.domain(spec.uuid) is not None:
        return [f"{target.host} has a domain with uuid {spec.uuid} already; run oscarv.virt.settle"]
    if target.domain_named(spec.name) is not None:
        return [f"{target.host} has another domain that is called {spec.name}; rename one of them"]
    return []


def _capability(found: t.Mapping[str, Capability], plan: MovePlan) -> list[str]:
    needed = ["live_move"] if plan.live else ["cold_move"]
    needed += ["live_move_local_disk"] if plan.live and plan.copied else []
    return [
        f"capability {name} is missing on this HostOS: {found[name].reason}"
        for name in needed
        if not found[name].supported
    ]


def _storage(plan: MovePlan, target: Target) -> list[str]:
    reasons = []
    pools = target.pools()
    for disk in plan.disks:
        if pools.get(disk.pool) != disk.directory:
            found = pools.get(disk.pool, "no such active pool")
            reasons.append(
                f"disk {disk.name}: pool {disk.pool} is at {disk.directory} here, on {target.host}: {found};"
                " run oscarv.virt.hostos there"
            )
    if reasons:
        return reasons
    listed: dict[str, dict[str, tuple[int, int]]] = {}

    def listing(folder: str) -> dict[str, tuple[int, int]]:
        if folder not in listed:
            listed[folder] = target.folder(folder).sizes()
        return listed[folder]

    for disk in plan.disks:
        if disk.backing:
            reasons += _build(disk, target, listing, plan.request.coming)
        found_here = disk.file in listing(disk.folder)
        if disk.shared and not found_here:
            reasons.append(
                f"disk {disk.name}: {disk.path} cannot be seen on {target.host}: is pool {disk.pool} mounted?"
            )
    reasons += _kernel(plan, target, listing)
    receipt = str(pathlib.PurePosixPath(plan.folder) / plan.receipt)
    for path in (*plan.arriving, receipt):
        pure = pathlib.PurePosixPath(path)
        if pure.name in listing(str(pure.parent)):
            reasons.append(
                f"{path} exists on {target.host} already: run oscarv.virt.settle; if it stays, look what it is and move"
                " it out of the way"
            )
    return reasons


def _build(
    disk: DiskPlan, target: Target, listing: t.Callable[[str], dict[str, tuple[int, int]]], coming: t.Sequence[str]
) -> list[str]:
    """An overlay must land on the same bytes. A build carries its sha256 as its name and is put there verified."""
    backing = pathlib.PurePosixPath(disk.backing or "")
    build_id = build_of(disk.backing) or ""
    if str(backing) != build_path(disk.directory, build_id):
        return [f"disk {disk.name}: its build {backing} is not in pool {disk.pool}"]
    if disk.shared:
        return []
    there = listing(str(backing.parent)).get(backing.name)
    if there is None and build_id in coming:
        return []
    if there is None:
        return [f"disk {disk.name}: {target.host} lacks the build {build_id} ({backing}): run oscarv.virt.deploy"]
    size = os.stat(backing).st_size
    if there[0] != size:
        return [f"disk {disk.name}: {backing} has {size} bytes here and {there[0]} on {target.host}: fetch it anew"]
    return []


def _kernel(plan: MovePlan, target: Target, listing: t.Callable[[str], dict[str, tuple[int, int]]]) -> list[str]:
    """A guest that boots its build's kernel from outside finds it at the same place there, or never starts again."""
    boot = plan.config.boot
    reasons = []
    for path in map(pathlib.PurePosixPath, (boot.kernel, boot.initrd) if boot else ()):
        there = listing(str(path.parent)).get(path.name)
        if there is None and path.name.split(".")[0] in plan.request.coming:
            continue
        if there is None:
            reasons.append(f"it boots {path}, which {target.host} lacks: run oscarv.virt.deploy, which brings it there")
        elif os.path.exists(path) and there[0] != (size := os.stat(path).st_size):
            reasons.append(
                f"it boots {path}, which has {size} bytes here and {there[0]} on {target.host}: fetch it anew"
            )
    return reasons


def _network(seen: Seen, target: Target) -> list[str]:
    bridges = target.bridges()
    if bridges is None:
        return []  # a live move then fails before the guest stops, and goes on here
    missing = sorted({nic["bridge"] for nic in seen.nics if nic["bridge"] and nic["bridge"] not in bridges})
    return [f"bridge {name} is missing on {target.host}: run oscarv.virt.hostos there" for name in missing]
