# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk files: what is there, what may stand on what, making and growing them. A disk is never shrunk."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import stat
import subprocess
import typing as t

from . import _lxc_disk
from ._driver import DriverError
from ._files import whole
from ._kvm_world import Phase, Plan, World, chain
from ._paths import CONTAINER_DISK, DISK_KINDS, build_of, build_path, disk_path, format_of, kind_of
from ._qcow2 import read_header
from ._spec import DiskSpec, GuestSpec

SECTOR = 512


def size_wanted(disk: DiskSpec) -> int:
    """Bytes; QEMU rounds up to sectors."""
    return -(-disk.size // SECTOR) * SECTOR


def path_of(world: World, spec: GuestSpec, disk: DiskSpec) -> str:
    directory, kind = world.pool_directory(spec, disk), world.platform.dialect.disk_kind(disk.format)
    return disk_path(directory, spec.cluster, spec.name, disk.name, kind)


def require_tools(spec: GuestSpec) -> None:
    if shutil.which("qemu-img") is None:
        raise DriverError(
            f"guest {spec.name}: qemu-img is missing on the HostOS: install qemu-utils (Debian) or qemu-img (EL);"
            " oscarv.virt.hostos does it"
        )


def backing_of(world: World, spec: GuestSpec, disk: DiskSpec) -> str | None:
    """The build under a disk, checked: a read-only regular qcow2 that fits in the disk and stands on nothing itself."""
    if disk.build_id is None:
        return None
    path = build_path(world.pool_directory(spec, disk), disk.build_id)
    who = f"guest {spec.name}: disk {disk.name}: build {path}"
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if disk.build_id in world.options.builds_expected:
            return path
        raise DriverError(f"{who} is not on this HostOS: run oscarv.virt.deploy, which brings it") from None
    if not stat.S_ISREG(found.st_mode):
        raise DriverError(f"{who} is not a regular file: remove it and run oscarv.virt.deploy, which brings it")
    if found.st_mode & 0o222:
        raise DriverError(f"{who} can be written to, so it may not be what it was: verify its sha256, then chmod 0444")
    header = read_header(path)
    if header is None or header.backing is not None:
        raise DriverError(f"{who} is not a qcow2 file that stands alone: remove it and run oscarv.virt.deploy")
    world.platform.refuse_build(spec.name, path)
    if header.size > size_wanted(disk):
        raise DriverError(
            f"guest {spec.name}: disks.{disk.name}.size: found {disk.size}; its build needs {header.size} bytes"
        )
    return path


def build_under(path: str | None, known: t.Iterable[str | None] = ()) -> str | None:
    """The build that a disk file stands on, through snapshots; None where it stands on none.

    A container's root stands on nothing, but tells the beginning of its build's id: the one of `known` that begins so.
    """
    header = read_header(path) if path and kind_of(path) == CONTAINER_DISK else None
    if header is not None and header.stamp is not None:
        return next((build for build in known if build and build.startswith(header.stamp)), header.stamp)
    return next((build for build in map(build_of, chain(path)[1:]) if build), None)


def refuse_in_use(world: World, spec: GuestSpec, disk: DiskSpec, path: str) -> None:
    """DriverError if another domain has the file, or something that stands on it."""
    users = world.users(path, spec.uuid)
    if users:
        raise DriverError(
            f"guest {spec.name}: disk {disk.name}: {path} is in use by {', '.join(users)}: rename the guest or the disk"
        )


def claimant(plan: Plan, path: str) -> str | None:
    """The other guest whose claim names a file; None where none does."""
    for claim in plan.world.claims.values():
        if claim.uuid != plan.spec.uuid and path in (*claim.files.values(), *claim.doomed):
            return f"guest {claim.guest} (uuid {claim.uuid})"
    return None


def unknown(plan: Plan, disk: DiskSpec, path: str) -> DriverError:
    """What to say of a file that is in the way. On a shared pool it may be the only disk of a guest elsewhere."""
    whose = claimant(plan, path)
    says = f"its claim says that it belongs to {whose}, not to" if whose else "nothing says that it belongs to"
    found = f"disk {disk.name}: {path} is there, and {says} this guest (uuid {plan.spec.uuid})."
    if disk.shared:
        return plan.error(
            f"{found} It lies on the shared pool {disk.pool}, so it may be the only disk of a guest of another HostOS:"
            " do not remove it. Find out who has it (oscarv.virt.status); if no guest does, move it out of the way"
        )
    return plan.error(f"{found} Look at it, then move it away or remove it")


def refuse_shrink(plan: Plan, disk: DiskSpec, size: int) -> None:
    if size_wanted(disk) < size:
        raise plan.error(
            f"disks.{disk.name}.size: found {disk.size}, but the disk has {size} bytes: a disk is never shrunk"
        )


def refuse_format(plan: Plan, disk: DiskSpec, path: str | None) -> None:
    """DriverError where the disk, or the file of it that was kept, at `path` has another format than is wanted.

    Only names of our making tell it: an external snapshot ends with its own name and is qcow2 on whatever it stands on.
    """
    kind = plan.world.platform.dialect.disk_kind(disk.format)
    if path is not None and os.path.lexists(path) and kind_of(path) in DISK_KINDS and kind_of(path) != kind:
        raise plan.error(
            f"disks.{disk.name}.format: found {disk.format!r}, but {path} is there: a disk does not change its format;"
            " put the definition back, or give the new disk another name"
        )


def plan_reuse(plan: Plan, disk: DiskSpec, path: str) -> None:
    """Take a file that was kept, as it is or grown; DriverError if that cannot be."""
    header = read_header(path)
    if header is None:
        raise plan.error(f"disk {disk.name}: {path} was kept but is not qcow2 any more: restore it or move it away")
    refuse_shrink(plan, disk, header.size)
    if header.size < size_wanted(disk):
        run = functools.partial(grow, path, size_wanted(disk), plan.spec.name)
        plan.add(Phase.PREPARE, f"grow disk {disk.name}: {header.size} -> {size_wanted(disk)} bytes", run)


def plan_creation(plan: Plan, disk: DiskSpec, path: str) -> None:
    """A step that makes a disk file, on a build that was checked."""
    require_tools(plan.spec)
    backing = backing_of(plan.world, plan.spec, disk)
    run = maker(path, size_wanted(disk), backing, plan.spec.name)
    plan.add(Phase.PREPARE, f"create disk {disk.name}", run)
    plan.written.add(pathlib.Path(path).parent)


def maker(path: str, size: int, backing: str | None, guest: str) -> t.Callable[[], None]:
    """What makes a disk file, by the kind that its name tells."""
    if kind_of(path) == CONTAINER_DISK:
        return functools.partial(_lxc_disk.create, path, size, backing, build_of(backing), guest)
    return functools.partial(create, path, size, backing, guest)


def create(path: str, size: int, backing: str | None, guest: str) -> None:
    """Make a disk file, whole or not at all; what is at `path` is replaced in the same instant.

    Its name is durable once its directory is synced.
    """
    target = pathlib.Path(path)
    target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    words = ["qemu-img", "create", "-q", "-f", format_of(path)]
    if backing is not None:
        words += ["-b", backing, "-F", "qcow2"]
    with whole(target, 0o600, durable_name=False) as partial:
        _qemu_img([*words, str(partial), str(size)], guest, f"create {path}")


def grow(path: str, size: int, guest: str) -> None:
    """Grow the file of a guest that is off; one that runs is grown through libvirt. Never shrinks."""
    if kind_of(path) == CONTAINER_DISK:
        _lxc_disk.grow(path, size, guest)
        return
    header = read_header(path)
    if header is not None and header.size < size:
        _qemu_img(["qemu-img", "resize", "-q", "-f", format_of(path), path, str(size)], guest, f"grow {path}")


def _qemu_img(words: list[str], guest: str, purpose: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise DriverError(f"guest {guest}: cannot {purpose}: {done.stderr.strip() or f'qemu-img: {done.returncode}'}")
