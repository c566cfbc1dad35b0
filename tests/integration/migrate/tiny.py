# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest image of some 20 MB that boots by its own boot loader in a few seconds under TCG and runs beacon.c.

Needs gcc, libc6-dev, syslinux, syslinux-common, mtools, dosfstools, cpio, qemu-utils, and Debian's cloud kernel from
the distribution's registry. No mount, no loop device.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import struct
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
#: A name that the kernel has built in is not there and not needed.
MODULES = [
    *("virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"),
    *("failover", "net_failover", "virtio_net", "button", "evdev"),
]
SECTOR = 512
START, SIZE = 2048, 40 * 2**20  #: of the partition: first sector, bytes
DISK = 64 * 2**20  #: the beacon writes behind the partition


def run(*command: str | pathlib.Path, cwd: pathlib.Path | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, cwd=cwd)


def kernel(folder: pathlib.Path) -> pathlib.Path:
    """Debian's cloud kernel unpacked into `folder`, fetched once."""
    if not list(folder.glob("boot/vmlinuz-*")):
        depends = subprocess.run(
            ["apt-cache", "depends", "linux-image-cloud-amd64"], check=True, capture_output=True, text=True
        ).stdout
        package = next(line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line)
        folder.mkdir(parents=True, exist_ok=True)
        run("apt-get", "download", package, cwd=folder)
        run("dpkg-deb", "-x", next(folder.glob("linux-image-*.deb")), folder)
    return folder


def initrd(root: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    tree = work / "tree"
    tree.mkdir()
    run("gcc", "-O2", "-static", "-o", tree / "init", HERE / "beacon.c")
    files = {path.name: path for path in root.rglob("*.ko")}
    wanted = [name for name in MODULES if f"{name}.ko" in files]
    for name in wanted:
        shutil.copy(files[f"{name}.ko"], tree / f"{name}.ko")
    (tree / "modules.list").write_text("".join(f"/{name}.ko\n" for name in wanted))
    (tree / "dev").mkdir()
    image = work / "initrd"
    with image.open("wb") as out:
        subprocess.run("find . | cpio -o -H newc --quiet | gzip -9", shell=True, check=True, cwd=tree, stdout=out)
    return image


def build(cache: pathlib.Path) -> pathlib.Path:
    """The finished build, made once: `cache`/BUILD_ID.qcow2, BUILD_ID being its sha256."""
    for path in sorted(cache.glob("*.qcow2")):
        if len(path.stem) == 64:
            return path
    root = kernel(cache / "kernel")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        work = pathlib.Path(folder)
        fat, raw, qcow2 = work / "fat", work / "raw", work / "qcow2"
        with fat.open("wb") as out:
            out.truncate(SIZE)
        run("mkfs.vfat", "-F", "16", "-i", "0A580500", "-h", str(START), fat)
        run("mcopy", "-i", fat, next(root.glob("boot/vmlinuz-*")), "::vmlinuz")
        run("mcopy", "-i", fat, initrd(root, work), "::initrd")
        config = work / "syslinux.cfg"
        config.write_text(
            "DEFAULT l\nPROMPT 0\nTIMEOUT 1\nLABEL l\n KERNEL vmlinuz\n INITRD initrd\n"
            " APPEND console=ttyS0 quiet panic=1 net.ifnames=0 mitigations=off\n"
        )
        run("mcopy", "-i", fat, config, "::syslinux.cfg")
        run("syslinux", "--install", fat)
        with raw.open("wb") as out:
            out.write(pathlib.Path("/usr/lib/SYSLINUX/mbr.bin").read_bytes())
            out.seek(446)
            out.write(struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x0E, b"\xfe\xff\xff", START, SIZE // SECTOR))
            out.seek(510)
            out.write(b"\x55\xaa")
            out.truncate(DISK)
            out.seek(START * SECTOR)
            out.write(fat.read_bytes())
        run("qemu-img", "convert", "-c", "-O", "qcow2", raw, qcow2)
        final = cache / f"{hashlib.sha256(qcow2.read_bytes()).hexdigest()}.qcow2"
        qcow2.rename(final)
    return final


if __name__ == "__main__":
    import sys

    sys.stdout.write(f"{build(pathlib.Path(sys.argv[1]))}\n")
