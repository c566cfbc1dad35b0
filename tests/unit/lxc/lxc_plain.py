# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container as plain data, and a build to make its root of."""

from __future__ import annotations

import copy
import pathlib
import subprocess
import typing as t

MIB = 2**20
UUID = "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11"
BUILD = "ab" * 32
BIOS_BOOT, LINUX = "21686148-6449-6E6F-744E-656564454649", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
PATHS = {"root": "/pool/demo/ct001-root.ext4", "scratch": "/pool/demo/ct001-scratch.ext4"}

PLAIN: dict[str, t.Any] = {
    "cluster": "demo",
    "name": "ct001",
    "uuid": UUID,
    "partition": "boxes",
    "epoch": 1,
    "hypervisor": "lxc",
    "state": "running",
    "vcpus": 2,
    "memory": 512 * MIB,
    "disks": [
        {"name": "root", "size": 64 * MIB, "pool": "local", "build_id": BUILD},
        {"name": "scratch", "size": 16 * MIB, "pool": "local"},
    ],
    "nics": [
        {
            "name": "eth0",
            "network": "compute",
            "mac": "52:54:00:00:00:01",
            "bridge": "br0",
            "addresses": ["10.0.4.21/22"],
            "gateways": ["10.0.4.1"],
            "nameservers": ["10.0.4.2"],
            "mtu": 9000,
        }
    ],
    "seed": {"hostname": "ct001.example.org", "authorized_keys": ["ssh-ed25519 AAAA admin"]},
}


def plain(**changes: t.Any) -> dict[str, t.Any]:
    return {**copy.deepcopy(PLAIN), **changes}


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def make_build(folder: pathlib.Path, *, cloud_init: bool, table: str = "gpt") -> str:
    """A small disk with a boot partition and, behind it, a root of ext4: <folder>/builds/<BUILD>.qcow2."""
    tree = folder / "tree"
    for name in ("etc/ssh", "usr/bin", "root"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "etc/fstab").write_text("UUID=1234 / ext4 defaults 0 1\n")
    (tree / "etc/hostname").write_text("image\n")
    if cloud_init:
        (tree / "usr/bin/cloud-init").write_text("#!/bin/sh\n")
    disk, root = folder / "disk", folder / "rootfs"
    root.touch()
    run("truncate", "-s", "24M", str(root))
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(root))
    run("truncate", "-s", "40M", str(disk))
    boot, linux = ("83", "83") if table == "dos" else (BIOS_BOOT, LINUX)
    script = f"label: {table}\nsize=4M, type={boot}\nstart=8M, size=24M, type={linux}\n"
    subprocess.run(["sfdisk", "-q", str(disk)], input=script, text=True, check=True, capture_output=True)
    run("dd", f"if={root}", f"of={disk}", "bs=1M", "seek=8", "conv=notrunc", "status=none")
    build = folder / "builds" / f"{BUILD}.qcow2"
    build.parent.mkdir(exist_ok=True)
    run("qemu-img", "convert", "-c", "-O", "qcow2", str(disk), str(build))
    return str(build)
