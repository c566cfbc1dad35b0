# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the files of guests lie on a HostOS. Whatever is not named like this is not ours and is never removed.

<pool>/builds/<build_id>.qcow2           a build: read-only, under many overlays
<pool>/<cluster>/<guest>-<disk>.qcow2    a guest's disk; .raw for a container
<pool>/<cluster>/<guest>-seed.iso        what its first boot is told (in the pool of the root disk)
<pool>/<cluster>/<guest>.claim.json      whose the disks are while no domain says so (beside the root disk)
"""

from __future__ import annotations

import pathlib
import re

STATE_DIR = "/var/lib/oscarv-host"

_BUILD = re.compile(r"^([0-9a-f]{64})\.qcow2$")
_CLAIM = ".claim.json"
_DISKS = (".qcow2", ".raw")


def cluster_dir(pool_path: str, cluster: str) -> pathlib.Path:
    return pathlib.Path(pool_path) / cluster


def disk_path(pool_path: str, cluster: str, guest: str, disk: str, suffix: str = ".qcow2") -> str:
    return str(cluster_dir(pool_path, cluster) / f"{guest}-{disk}{suffix}")


def seed_path(pool_path: str, cluster: str, guest: str) -> str:
    return str(cluster_dir(pool_path, cluster) / f"{guest}-seed.iso")


def claim_path(pool_path: str, cluster: str, guest: str) -> pathlib.Path:
    return cluster_dir(pool_path, cluster) / f"{guest}{_CLAIM}"


def claim_paths(pool_path: str, cluster: str) -> list[pathlib.Path]:
    """All claims of a cluster in a pool."""
    return sorted(cluster_dir(pool_path, cluster).glob(f"[a-z0-9]*{_CLAIM}"))


def build_path(pool_path: str, build_id: str) -> str:
    return str(pathlib.Path(pool_path) / "builds" / f"{build_id}.qcow2")


def build_of(backing: str | None) -> str | None:
    """The build_id of a backing file that lies where builds lie."""
    if backing is None:
        return None
    path = pathlib.PurePosixPath(backing)
    match = _BUILD.match(path.name)
    return match.group(1) if match and path.parent.name == "builds" else None


def disk_name_of(path: str | None, cluster: str, guest: str) -> str | None:
    """The name of the guest's disk that a file is by its path; None where the path is not of our making."""
    if path is None:
        return None
    pure = pathlib.PurePosixPath(path)
    prefix = f"{guest}-"
    if pure.parent.name != cluster or pure.suffix not in _DISKS or not pure.name.startswith(prefix):
        return None
    return pure.stem[len(prefix) :] or None
