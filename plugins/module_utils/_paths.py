# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the files of guests lie on a HostOS. Whatever is not named like this is not ours and is never removed.

<pool>/builds/<build_id>.qcow2           a build: read-only, under many overlays
<pool>/builds/<build_id>.vmlinuz         its kernel, where guests boot that from outside their disk
<pool>/builds/<build_id>.initrd.img      its initramfs, likewise
<pool>/<cluster>/<guest>-<disk>.qcow2    a guest's disk; .raw if its format is raw, .ext4 if a container's
<pool>/<cluster>/<guest>-seed.iso        what its first boot is told (in the pool of the root disk)
<pool>/<cluster>/<guest>.claim.json      whose the disks are while no domain says so (beside the root disk)
"""

from __future__ import annotations

import pathlib
import re

STATE_DIR = "/var/lib/oscarv-host"

_BUILD = re.compile(r"^([0-9a-f]{64})\.qcow2$")
_CLAIM = ".claim.json"
#: A container's disk is a file system without a partition table, in a raw file.
CONTAINER_DISK = "ext4"
DISK_KINDS = ("qcow2", "raw", CONTAINER_DISK)

#: What a builder's store has beside the disk of a build, and a HostOS where guests boot it.
KERNEL_FILES = ("vmlinuz", "initrd.img")


def cluster_dir(pool_path: str, cluster: str) -> pathlib.Path:
    return pathlib.Path(pool_path) / cluster


def disk_path(pool_path: str, cluster: str, guest: str, disk: str, kind: str = "qcow2") -> str:
    """`kind`: as the name ends, which `Dialect.disk_kind` says."""
    return str(cluster_dir(pool_path, cluster) / f"{guest}-{disk}.{kind}")


def kind_of(path: str) -> str:
    """How the name of a disk ends: one of DISK_KINDS, or what somebody called an external snapshot."""
    return pathlib.PurePosixPath(path).suffix[1:]


def format_of(path: str) -> str:
    """qcow2 | raw: a disk's format is in its name; what a guest wrote into a raw disk is never asked."""
    return "raw" if kind_of(path) in ("raw", CONTAINER_DISK) else "qcow2"


def seed_path(pool_path: str, cluster: str, guest: str) -> str:
    return str(cluster_dir(pool_path, cluster) / f"{guest}-seed.iso")


def claim_path(pool_path: str, cluster: str, guest: str) -> pathlib.Path:
    return cluster_dir(pool_path, cluster) / f"{guest}{_CLAIM}"


def claim_paths(pool_path: str, cluster: str) -> list[pathlib.Path]:
    """All claims of a cluster in a pool."""
    return sorted(cluster_dir(pool_path, cluster).glob(f"[a-z0-9]*{_CLAIM}"))


def build_path(pool_path: str, build_id: str) -> str:
    return str(pathlib.Path(pool_path) / "builds" / f"{build_id}.qcow2")


def kernel_path(disk: str, name: str) -> str:
    """Where the file `name` (of KERNEL_FILES) of a build lies, by the path of the build's disk."""
    return f"{disk.removesuffix('.qcow2')}.{name}"


def kernel_paths(pool_path: str, build_id: str) -> tuple[str, str]:
    """Kernel and initramfs of a build on a HostOS."""
    disk = build_path(pool_path, build_id)
    return kernel_path(disk, KERNEL_FILES[0]), kernel_path(disk, KERNEL_FILES[1])


def build_of(backing: str | None) -> str | None:
    """The build_id of a backing file that lies where builds lie."""
    if backing is None:
        return None
    path = pathlib.PurePosixPath(backing)
    match = _BUILD.match(path.name)
    return match.group(1) if match and path.parent.name == "builds" else None


def build_of_kernel(path: str | None) -> str | None:
    """The build_id of a kernel that lies where those of builds lie."""
    suffix = f".{KERNEL_FILES[0]}"
    return build_of(f"{path.removesuffix(suffix)}.qcow2") if path and path.endswith(suffix) else None


def disk_name_of(path: str | None, cluster: str, guest: str) -> str | None:
    """The name of the guest's disk that a file is by its path; None where the path is not of our making."""
    if path is None:
        return None
    pure = pathlib.PurePosixPath(path)
    prefix = f"{guest}-"
    if pure.parent.name != cluster or pure.suffix[1:] not in DISK_KINDS or not pure.name.startswith(prefix):
        return None
    return pure.stem[len(prefix) :] or None
