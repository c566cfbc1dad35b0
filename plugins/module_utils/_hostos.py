# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine itself says, with or without a hypervisor: processors, memory, disks, and whether KVM works."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import platform
import select
import shutil
import subprocess
import time
import typing as t

from ._files import write_json

KVM_DEVICE = "/dev/kvm"
CPUINFO = "/proc/cpuinfo"
OS_RELEASE = "/etc/os-release"
#: SeaBIOS tells on this I/O port what it does, and says this when it is through.
_DEBUG_PORT = "0x402"
_FIRMWARE_DONE = b"Booting from"
_PROBE_SECONDS = 15.0
#: File systems that several HostOSes see at once, and that one machine alone sees (names as in /proc/self/mounts).
_SHARED_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "gfs2", "ocfs2", "lustre")
_LOCAL_FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "tmpfs", "overlay")

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Acceleration:
    """`kind` is kvm (works), tcg (QEMU emulates: slow) or none (there is no QEMU either)."""

    kind: str
    reason: str


def qemu_binary() -> str | None:
    """QEMU for this machine's architecture; EL has it outside PATH."""
    names = (f"qemu-system-{platform.machine()}", "/usr/libexec/qemu-kvm", "qemu-kvm")
    return next((found for found in map(shutil.which, names) if found), None)


def acceleration(state_dir: str | None = None) -> Acceleration:
    """Whether KVM really works here.

    The device node proves nothing: there are machines where it opens, creates a VM, and the guest hangs for ever. On
    x86 the CPU flag decides; inside another hypervisor, and on other architectures, a guest is started to see. The
    probe's answer is kept in `state_dir` until the next boot.
    """
    qemu = qemu_binary()
    tcg = "tcg" if qemu else "none"
    if not os.path.exists(KVM_DEVICE):
        return Acceleration(
            tcg, f"there is no {KVM_DEVICE}: is the kvm module loaded and virtualisation on in the BIOS?"
        )
    flags = cpu_flags()
    if platform.machine() == "x86_64":
        if not flags & {"vmx", "svm"}:
            return Acceleration(tcg, f"{KVM_DEVICE} is there, but the CPU has neither vmx nor svm: it only pretends")
        if "hypervisor" not in flags:
            return Acceleration("kvm", f"{KVM_DEVICE} and the CPU's flags are there")
    if qemu is None:
        return Acceleration("none", "QEMU is not installed: run oscarv.virt.hostos")
    return _probed(qemu, tcg, state_dir)


def cpu_flags() -> set[str]:
    """The flags of the first processor in /proc/cpuinfo."""
    with open(CPUINFO, encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def probe(qemu: str, accelerator: str = "kvm", seconds: float = _PROBE_SECONDS) -> bool:
    """Whether a guest's firmware runs from its first instruction to where it looks for a disk, within `seconds`.

    The whole way, because a KVM that only pretends has been seen to get through most of it and hang then.
    """
    command = [qemu, "-accel", accelerator, "-M", "q35", "-m", "32", "-nodefaults", "-no-user-config", "-no-reboot"]
    command += ["-display", "none", "-chardev", "stdio,id=firmware"]
    command += ["-device", f"isa-debugcon,iobase={_DEBUG_PORT},chardev=firmware"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return _says(t.cast(t.IO[bytes], process.stdout), _FIRMWARE_DONE, seconds)
        finally:
            process.kill()


def _says(stream: t.IO[bytes], wanted: bytes, seconds: float) -> bool:
    deadline, heard = time.monotonic() + seconds, b""
    while wanted not in heard:
        ready, _writable, _errors = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        more = os.read(stream.fileno(), 4096) if ready else b""
        if not more:  # it is late, or it ended
            return False
        heard += more
    return True


def _probed(qemu: str, tcg: str, state_dir: str | None) -> Acceleration:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    kept = pathlib.Path(state_dir) / "acceleration.json" if state_dir else None
    works = _kept(kept, boot)
    if works is None:
        works = probe(qemu)
        if kept is not None and kept.parent.is_dir():
            write_json(kept, {"boot_id": boot, "works": works}, 0o644)
    if works:
        return Acceleration("kvm", "a probe started a guest with it")
    return Acceleration(tcg, f"{KVM_DEVICE} is there, but a guest started with it does not run: it only pretends")


def _kept(path: pathlib.Path | None, boot: str) -> bool | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return None
    return bool(data["works"]) if data.get("boot_id") == boot and "works" in data else None


def versions() -> dict[str, str]:
    """Name and version of the operating system, and the kernel's release."""
    described: dict[str, str] = {}
    with open(OS_RELEASE, encoding="utf-8") as stream:
        for line in stream:
            key, _equals, value = line.strip().partition("=")
            described[key] = value.strip("\"'")
    system = f"{described.get('ID', 'unknown')} {described.get('VERSION_ID', described.get('VERSION_CODENAME', ''))}"
    return {"os": system.strip(), "kernel": platform.release()}


def processors() -> int:
    """Logical processors that are on."""
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes that the kernel manages (MemTotal)."""
    with open("/proc/meminfo", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return 0


def disk_capacity(directories: t.Iterable[str]) -> int:
    """Bytes that guests may have on local pools: what is free, and what files in the pools take already.

    Each file system counts once. Rounded down to GiB, so that a log file's growth is not news.
    """
    total, seen = 0, set()
    for directory in directories:
        if not os.path.isdir(directory) or is_shared(directory):
            continue
        device = os.stat(directory).st_dev
        if device not in seen:
            seen.add(device)
            space = os.statvfs(directory)
            total += space.f_bavail * space.f_frsize
        total += _allocated(directory)
    return total // GIB * GIB


def _allocated(directory: str) -> int:
    """Bytes on disk of all files below a directory (sparse files count what they really take)."""
    found = 0
    for root, _folders, files in os.walk(directory):
        for name in files:
            try:
                found += os.lstat(os.path.join(root, name)).st_blocks * 512
            except FileNotFoundError:  # removed while we look
                continue
    return found


def is_shared(path: str) -> bool:
    """Whether other HostOSes see the file system that `path` lies on."""
    return mount_of(path)[0] in _SHARED_FILE_SYSTEMS


def may_be_shared(path: str) -> bool:
    """The same for who removes files: taken for local, a file system nobody knows would lose what others live on."""
    return mount_of(path)[0] not in _LOCAL_FILE_SYSTEMS


def mount_of(path: str, mounts: str = "/proc/self/mounts") -> tuple[str, frozenset[str]]:
    """Kind and options of the file system that `path` lies on."""
    best, kind, options = "", "", ""
    with open(mounts, encoding="utf-8") as stream:
        for line in stream:
            _device, mount, file_system, flags, *_rest = line.split(" ")
            mount = mount.replace("\\040", " ")
            inside = mount == "/" or path == mount or path.startswith(mount + "/")
            if inside and len(mount) >= len(best):
                best, kind, options = mount, file_system, flags
    return kind, frozenset(options.split(","))
