# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that boots by its own boot loader under BIOS and UEFI, made from a folder without mounting anything.

Some build hosts (containers, small kernels) can map no partition and mount no FAT, so everything is written into
files: sfdisk cuts the disk, mke2fs copies the tree in, mtools fills the EFI partition. GRUB and mke2fs are the
tree's own, run inside it, so that the disk fits the guest's programs whatever the builder has.

    partition 14   1 MiB ..   4 MiB   BIOS boot: GRUB's core image
    partition 15   4 MiB .. 128 MiB   EFI system partition: Debian's signed shim and GRUB
    partition  1 128 MiB ..           root, ext4; last, so that it can grow

From then on the guest looks after itself: Debian's grub-cloud-amd64 installs both boot loaders anew at each update,
which it does where /etc/grub.d/enable_cloud exists.
"""

from __future__ import annotations

import os
import pathlib
import typing as t
import uuid

from ._image_config import COMMAND_LINE
from ._image_sandbox import BuildError, mount, unmount
from ._image_tree import INSIDE, Tree, command

MIB = 2**20
_ROOT_START, _ESP_START, _ESP_SIZE = 128 * MIB, 4 * MIB, 124 * MIB
_CORE_START = MIB
#: Behind the root partition stands the GPT's second copy; the end is kept on a whole MiB.
_TAIL = MIB
#: Of what the root file system is larger than its contents: inodes and journal, and room for the first boot.
_ROOM, _ROOM_FRACTION = 192 * MIB, 0.2
_GRUB_MODULES = ("biosdisk", "part_gpt", "ext2", "search_fs_uuid")


class Identity(t.NamedTuple):
    """The names of the disk and its file systems: made of the recipe_id, so that a build is repeatable."""

    disk: str
    root: str
    esp: str  #: as in /etc/fstab: XXXX-XXXX
    hash_seed: str

    @classmethod
    def of(cls, recipe_id: str) -> Identity:
        disk, root, esp, seed = (str(uuid.uuid5(uuid.NAMESPACE_OID, recipe_id + part)) for part in "dres")
        return cls(disk, root, f"{esp[:4]}-{esp[4:8]}".upper(), seed)


def size_for(contents: int, wanted: int | None) -> int:
    """Size of the whole disk in bytes for a tree of so many bytes; `wanted` is the recipe's."""
    needed = _ROOT_START + _TAIL + int(contents * (1 + _ROOM_FRACTION)) + _ROOM
    needed = -(-needed // (64 * MIB)) * 64 * MIB
    if wanted is None:
        return needed
    if wanted < needed:
        raise BuildError(
            f"the image's size is {wanted // MIB} MiB, but its contents need {needed // MIB} MiB: raise `size` in the"
            " definition, or leave it out"
        )
    return wanted // MIB * MIB


def prepare_boot(tree: Tree, identity: Identity, kernel: str) -> None:
    """Write what the guest boots by into the tree: fstab, grub.cfg, GRUB's modules, the flag of grub-cloud."""
    tree.write(
        "etc/fstab",
        f"UUID={identity.root} / ext4 errors=remount-ro,discard,x-systemd.growfs 0 1\n"
        f"UUID={identity.esp} /boot/efi vfat umask=0077,nofail 0 0\n",
    )
    tree.path("boot/efi").mkdir(exist_ok=True)
    # For BIOS; the signed GRUB of UEFI has what it needs built in.
    tree.path("boot/grub").mkdir(exist_ok=True)
    tree.run("cp", "-rT", "/usr/lib/grub/i386-pc", "/boot/grub/i386-pc")
    # Until the guest's first update-grub writes a longer one.
    tree.write(
        "boot/grub/grub.cfg",
        f"""\
search --no-floppy --fs-uuid --set=root {identity.root}
linux /boot/vmlinuz-{kernel} root=UUID={identity.root} ro {COMMAND_LINE}
initrd /boot/initrd.img-{kernel}
boot
""",
    )
    tree.write("etc/grub.d/enable_cloud", "")


def make(tree: Tree, disk: pathlib.Path, identity: Identity, size: int) -> None:
    """Write the raw disk (sparse) beside the tree, which is not mounted."""
    with disk.open("wb") as file:
        file.truncate(size)
    with tree.mounted(network=False):
        for name, source in (("tree", tree.root), ("out", disk.parent), ("boot", None)):
            tree.path(f"{INSIDE}/{name}").mkdir(parents=True)
            if source:
                mount("--bind", str(source), str(tree.path(f"{INSIDE}/{name}")))
        inside = f"{INSIDE}/out/{disk.name}"
        _partition(tree, inside, identity, size)
        _root(tree, inside, identity, size)
        _bios(tree, inside, identity)
        for name in ("tree", "out"):
            unmount(tree.path(f"{INSIDE}/{name}"))
    _esp(tree, disk, identity)


def _partition(tree: Tree, disk: str, identity: Identity, size: int) -> None:
    rows = [
        (14, _CORE_START, _ESP_START - _CORE_START, "21686148-6449-6E6F-744E-656564454649"),
        (15, _ESP_START, _ESP_SIZE, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
        (1, _ROOT_START, size - _ROOT_START - _TAIL, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
    ]
    script = f"label: gpt\nlabel-id: {identity.disk}\nunit: sectors\nsector-size: 512\n"
    for number, start, length, kind in rows:
        name = uuid.uuid5(uuid.UUID(identity.disk), str(number))
        script += f"{number} : start={start // 512}, size={length // 512}, type={kind}, uuid={name}\n"
    tree.run("sfdisk", "--quiet", disk, stdin=script)


def _root(tree: Tree, disk: str, identity: Identity, size: int) -> None:
    """The file system with the tree in it. Its tables are written whole: a guest has nothing to finish at boot."""
    extended = f"offset={_ROOT_START},hash_seed={identity.hash_seed},lazy_itable_init=0,lazy_journal_init=0"
    blocks = (size - _ROOT_START - _TAIL) // 1024
    tree.run(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-L", "root", "-U", identity.root),
        *("-E", extended, "-d", f"{INSIDE}/tree", disk, f"{blocks}k"),
    )


def _bios(tree: Tree, disk: str, identity: Identity) -> None:
    """GRUB for BIOS into the boot sector and partition 14.

    grub-bios-setup asks which disk the root file system is on, in order to warn of another; the answer is in
    /proc/PID/mountinfo, where a line of ours tells it: on this one.
    """
    boot = f"{INSIDE}/boot"
    tree.write(f"{boot}/core.cfg", f"search.fs_uuid {identity.root} root\nset prefix=($root)/boot/grub\n")
    tree.write(f"{boot}/mountinfo", f"1 0 1:1 / / - ext4 {disk}\n")
    core = ("-O", "i386-pc", "-p", "/boot/grub", "-c", f"{boot}/core.cfg", "-o", f"{boot}/core.img")
    tree.run("grub-mkimage", *core, *_GRUB_MODULES)
    tree.run("cp", "/usr/lib/grub/i386-pc/boot.img", boot)
    script = (
        f"mount --bind {boot}/mountinfo /proc/$$/mountinfo"
        f" && exec /usr/lib/grub/i386-pc/grub-bios-setup --directory={boot} {disk}"
    )
    tree.run("sh", "-c", script)


def _esp(tree: Tree, disk: pathlib.Path, identity: Identity) -> None:
    """The EFI system partition: shim and GRUB as Debian signed them, and GRUB's way to the root file system."""
    esp = tree.work / "esp.img"
    with esp.open("wb") as file:
        file.truncate(_ESP_SIZE)
    environment = {**os.environ, **tree.environment}  # with the date of the build
    # One sector a cluster: this small, FAT32 needs it to have enough clusters.
    number = identity.esp.replace("-", "")
    command("mkfs.vfat", "-F", "32", "-s", "1", "-n", "EFI", "-i", number, esp, env=environment)
    config = tree.work / "esp-grub.cfg"
    config.write_text(
        f"search.fs_uuid {identity.root} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n",
        encoding="utf-8",
    )
    files = {
        "EFI/BOOT/BOOTX64.EFI": tree.path("usr/lib/shim/shimx64.efi.signed"),
        "EFI/BOOT/grubx64.efi": tree.path("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
        "EFI/debian/grub.cfg": config,
    }
    command("mmd", "-i", esp, "::EFI", "::EFI/BOOT", "::EFI/debian", env=environment)
    for target, source in files.items():
        command("mcopy", "-i", esp, source, f"::{target}", env=environment)
    _copy_sparse(esp, disk, _ESP_START)


def _copy_sparse(source: pathlib.Path, target: pathlib.Path, offset: int) -> None:
    """Copy a file into another at `offset`, leaving out what is zero."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        position = offset
        while True:
            piece = reader.read(MIB)
            if not piece:
                return
            if piece.strip(b"\0"):
                writer.seek(position)
                writer.write(piece)
            position += len(piece)


def convert(disk: pathlib.Path, target: pathlib.Path, compression: str = "zstd") -> None:
    """Raw to qcow2, compressed by zstd (a tenth of the time of zlib, and smaller) or by zlib, which all QEMUs read."""
    options = f"compression_type={compression},preallocation=off,compat=1.1"
    command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options, disk, target)
