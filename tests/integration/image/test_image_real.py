# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real image, built once for all these tests by a recipe whose role does what roles do, well behaved or not."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import tarfile
import typing as t

import pytest
from conftest import Builder
from qemu import Guest

ROOT_OFFSET = 128 * 2**20
#: A word that is nowhere by accident, in a place that images must not know.
TASKS: list[dict[str, t.Any]] = [
    {
        "name": "See a machine, not the builder",
        "ansible.builtin.assert": {
            "that": [
                "ansible_facts['service_mgr'] == 'systemd'",
                "ansible_facts['hostname'] == 'localhost'",
                "oscarv_image_build",
                "inventory_hostname == 'worker'",
            ]
        },
    },
    {
        "name": "Install by apt",
        "ansible.builtin.apt": {"name": "tree", "update_cache": True},
    },
    {"name": "Write", "ansible.builtin.template": {"src": "note.j2", "dest": "/etc/note", "mode": "0644"}},
    {"name": "Add", "ansible.builtin.lineinfile": {"path": "/etc/hosts", "line": "10.9.8.7 storage"}},
    {"name": "Leave a daemon", "ansible.builtin.shell": {"cmd": "setsid sleep 4321 >/dev/null 2>&1 &"}},
    {"name": "Enable", "ansible.builtin.systemd_service": {"name": "fstrim.timer", "enabled": False}},
    {"name": "Restart", "ansible.builtin.service": {"name": "ssh", "state": "restarted"}},
    {"name": "Make a key", "ansible.builtin.command": {"cmd": "ssh-keygen -A"}},
]
RECIPE = {
    "builder": "debian",
    "release": "bookworm",
    "packages": ["less"],
    "roles": ["site"],
    "vars": {"word": "sesame"},
}


@pytest.fixture(scope="module")
def builder(workshop: pathlib.Path) -> t.Iterator[Builder]:
    made = Builder(workshop / "real")
    made.role("site", TASKS, **{"templates/note.j2": "{{ inventory_hostname }} {{ word }}\n"})
    made.define(worker=RECIPE)
    yield made
    assert not any(made.traces().values()), made.traces()
    shutil.rmtree(made.folder)


@pytest.fixture(scope="module")
def image(builder: Builder) -> pathlib.Path:
    """The folder of the finished image; on the way check mode, the real run, and the run after it."""
    looked = builder.play("--check", "--diff").ok()
    assert looked.recap["changed"] == 1 and "-worker: no build" in looked.text, looked.text
    assert not builder.images() and not builder.log(), "check mode has built"
    made = builder.play().ok()
    assert made.recap["changed"] == 2, "one image, one line in the ledger"
    (found,) = builder.images()
    again = builder.play("--diff").ok()
    assert again.recap["changed"] == 0 and builder.images() == [found], again.text
    assert again.seconds < made.seconds / 3
    return found


@pytest.fixture(scope="module")
def raw(image: pathlib.Path, builder: Builder) -> pathlib.Path:
    target = builder.folder / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image / "disk.qcow2"), str(target)], check=True)
    return target


@pytest.fixture(scope="module")
def tree(raw: pathlib.Path, builder: Builder) -> pathlib.Path:
    """The root file system, unpacked from the disk."""
    target = builder.folder / "tree"
    target.mkdir()
    words = ["debugfs", "-R", f"rdump / {target}", f"{raw}?offset={ROOT_OFFSET}"]
    subprocess.run(words, check=True, capture_output=True)
    return target


def test_the_store_has_all_its_parts_and_nothing_else(image: pathlib.Path, builder: Builder) -> None:
    names = ["base.tar.zst", "disk.qcow2", "initrd.img", "manifest.json", "packages.txt", "vmlinuz"]
    assert sorted(path.name for path in image.iterdir()) == names
    sums = subprocess.run(["sha256sum", str(image / "disk.qcow2")], check=True, capture_output=True, text=True).stdout
    assert sums.split()[0] == image.name
    manifest = builder.manifest(image)
    assert manifest["image"] == "worker" and manifest["firmwares"] == ["bios", "uefi"]
    assert manifest["recipe"]["packages"] == ["less"] and len(manifest["recipe_ids"]) == 1
    assert "tree\t" in (image / "packages.txt").read_text()
    assert not builder.temporary()


def test_the_ledger_knows_it(image: pathlib.Path, builder: Builder) -> None:
    assert (builder.inventory / ".oscarv" / "ledger.sqlite").exists()
    query = "SELECT build_id, image, size, virtual_size FROM oscarv_build"
    words = ["python3", "-c", "import sqlite3, sys; print(list(sqlite3.connect(sys.argv[1]).execute(sys.argv[2])))"]
    ledger = str(builder.inventory / ".oscarv" / "ledger.sqlite")
    said = subprocess.run([*words, ledger, query], check=True, capture_output=True, text=True).stdout
    manifest = builder.manifest(image)
    assert said.strip() == str([(image.name, "worker", manifest["size"], manifest["virtual_size"])])


def test_the_file_systems_are_clean(raw: pathlib.Path, builder: Builder) -> None:
    checked = subprocess.run(
        ["e2fsck", "-fn", f"{raw}?offset={ROOT_OFFSET}"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    verified = subprocess.run(["sfdisk", "--verify", str(raw)], capture_output=True, text=True, check=False)
    assert verified.returncode == 0 and "No errors detected" in verified.stdout, verified.stdout + verified.stderr
    table = json.loads(subprocess.run(["sfdisk", "--json", str(raw)], check=True, capture_output=True).stdout)
    parts = table["partitiontable"]["partitions"]
    assert max(parts, key=lambda part: part["start"])["node"].endswith("raw1"), "root is last, so that it can grow"
    esp = builder.folder / "esp.img"
    with raw.open("rb") as disk, esp.open("wb") as file:
        disk.seek(4 * 2**20)
        file.write(disk.read(124 * 2**20))
    fat = subprocess.run(["fsck.vfat", "-n", str(esp)], capture_output=True, text=True, check=False)
    assert fat.returncode == 0, fat.stdout


def test_kernel_and_initrd_beside_the_disk_are_those_in_it(
    image: pathlib.Path, tree: pathlib.Path, builder: Builder
) -> None:
    version = builder.manifest(image)["kernel"]
    assert (tree / f"boot/vmlinuz-{version}").read_bytes() == (image / "vmlinuz").read_bytes()
    assert (tree / f"boot/initrd.img-{version}").read_bytes() == (image / "initrd.img").read_bytes()


def test_the_role_was_there(tree: pathlib.Path) -> None:
    assert (tree / "etc/note").read_text() == "worker sesame\n"
    assert (tree / "usr/bin/tree").exists() and (tree / "usr/bin/less").exists()
    assert not (tree / "etc/systemd/system/timers.target.wants/fstrim.timer").is_symlink()
    hosts = (tree / "etc/hosts").read_text()
    assert hosts.splitlines()[0] == "127.0.0.1 localhost" and hosts.splitlines()[-1] == "10.9.8.7 storage"
    assert "of the build" not in hosts


def test_nothing_of_the_builder_is_inside(tree: pathlib.Path, builder: Builder) -> None:
    """By name, and by any mention of where it was built."""
    assert (tree / "etc/machine-id").read_bytes() == b""
    for name in ("etc/hostname", "usr/sbin/policy-rc.d", "root/.ansible", "etc/.resolv.conf.systemd-resolved.bak"):
        assert not (tree / name).exists(), name
    for pattern in (
        "etc/ssh/ssh_host_*",
        "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "etc/*-",
    ):
        assert not list(tree.glob(pattern)), pattern
    for folder in ("dev", "run", "tmp", "var/tmp"):
        assert not list((tree / folder).iterdir()), folder
    assert [path.name for path in (tree / "var/lib/apt/lists").rglob("*")] == ["partial"]
    assert (tree / "etc/resolv.conf").is_symlink()
    for line in pathlib.Path("/etc/hosts").read_text().splitlines():
        words = line.split("#")[0].split()[1:]
        assert not [
            word for word in words if word not in ("localhost",) and word in (tree / "etc/hosts").read_text().split()
        ]
    # The folder of the build stood in the paths of everything that ran.
    found = subprocess.run(
        ["grep", "-rlaF", str(builder.store), str(tree)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1, found.stdout
    sources = "".join(path.read_text() for path in (tree / "etc/apt").glob("sources.list*") if path.is_file())
    assert sources.count("bookworm") >= 3 and "oscarv" not in sources


def test_the_base_layer_is_the_same_without_kernel_and_boot(image: pathlib.Path) -> None:
    unpack = ["zstd", "-qdc", str(image / "base.tar.zst")]
    with (
        subprocess.Popen(unpack, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        members = {member.name.removeprefix("./"): member for member in tar}
    assert "etc/note" in members and "usr/sbin/sshd" in members and "usr/bin/cloud-init" in members
    assert not [name for name in members if re.match(r"boot/(vmlinuz|grub)|(usr/)?lib/modules/", name)]
    assert not [name for name in members if "ssh_host_" in name or name.startswith(("dev/", "run/", "proc/", "sys/"))]
    assert (
        max(member.mtime for member in members.values())
        <= json.loads((image / "manifest.json").read_text())["source_date_epoch"]
    )
    # ping keeps its capability, or nobody but root could use it.
    assert "SCHILY.xattr.security.capability" in members["usr/bin/ping"].pax_headers


def check_guest(guest: Guest) -> None:
    """What every booted guest must be."""
    status = json.loads(guest.ssh("cloud-init status --wait --format json || true"))
    said = json.dumps([status["status"], status["errors"], status.get("recoverable_errors", {})])
    assert said == '["done", [], {}]', said
    # What may fail without stopping the boot, such as /boot/efi, is not waited for by sshd.
    guest.ssh("systemctl is-system-running --wait || { systemctl --failed; false; }", timeout=300)
    size = int(guest.ssh("df --output=size -B1 / | tail -1"))
    assert size > 2.7 * 2**30, "the root file system fills its disk of 3 GiB"
    efi = guest.ssh(
        "findmnt -no FSTYPE /boot/efi || { systemctl status boot-efi.mount; lsblk -f; journalctl -b -p warning; }"
    )
    assert efi.strip() == "vfat", efi
    assert guest.ssh("hostname").strip() == "guest1"
    assert guest.ssh("cat /etc/note") == "worker sesame\n"
    assert guest.ssh("getent hosts storage").split() == ["10.9.8.7", "storage"]
    guest.ssh("runuser -u nobody -- ping -c 1 -W 5 127.0.0.1")
    assert guest.ssh("sshd -T | grep -i ^passwordauthentication").strip() == "passwordauthentication no"
    assert "10.0.2.3" in guest.ssh("resolvectl dns eth0")
    assert len(guest.ssh("cat /etc/machine-id").strip()) == 32


@pytest.mark.long  # the scenario kvm and the demo boot the same image by its boot loader, under BIOS
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_it_boots_by_its_own_boot_loader(
    image: pathlib.Path, builder: Builder, firmware: str, record_property: t.Callable[[str, object], None]
) -> None:
    with Guest(builder.folder / firmware, image / "disk.qcow2", firmware) as guest:
        seconds = guest.wait_ssh(600)
        record_property("seconds_to_ssh", seconds)
        record_property("cpu_seconds_to_ssh", guest.cpu())
        check_guest(guest)
        assert guest.ssh("test -d /sys/firmware/efi && echo uefi || echo bios").strip() == firmware
        guest.power_off()
    checked = subprocess.run(["qemu-img", "check", str(guest.overlay)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.long
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_it_looks_after_its_kernel_and_boot_loader_itself(image: pathlib.Path, builder: Builder, firmware: str) -> None:
    """What apt does at the next kernel or GRUB update: both boot loaders, a new grub.cfg, and it still boots."""
    with Guest(builder.folder / f"{firmware}-update", image / "disk.qcow2", firmware) as guest:
        guest.wait_ssh(600)
        kernel = guest.ssh("uname -r").strip()
        before = guest.ssh("sha256sum /boot/grub/grub.cfg")
        said = guest.ssh(
            f"dpkg-reconfigure -f noninteractive linux-image-{kernel} 2>&1"
            " && dpkg-trigger --by-package=grub-pc-bin /usr/lib/grub/i386-pc && dpkg --configure --pending 2>&1",
            timeout=900,
        )
        assert said.count("Installation finished. No error reported.") == 2, said
        config = guest.ssh("cat /boot/grub/grub.cfg")
        assert guest.ssh("sha256sum /boot/grub/grub.cfg") != before
        assert f"root=UUID={builder.manifest(image)['root_uuid']}" in config and "console=ttyS0,115200" in config
        guest.power_off(180)
        guest.start()
        guest.wait_ssh(600)
        check_guest(guest)
        guest.power_off(180)


@pytest.mark.long
def test_the_base_layer_is_the_same_bit_by_bit_next_time(image: pathlib.Path, builder: Builder) -> None:
    first = (image / "base.tar.zst").read_bytes()
    aside = builder.folder / "first"
    image.rename(aside)
    builder.play().ok()
    (second,) = builder.images()
    try:
        assert (second / "packages.txt").read_text() == (aside / "packages.txt").read_text(), "the archive has moved"
        assert (second / "base.tar.zst").read_bytes() == first
    finally:
        shutil.rmtree(second)
        aside.rename(image)


@pytest.mark.long
def test_trixie(workshop: pathlib.Path) -> None:
    made = Builder(workshop / "trixie")
    made.role("site", TASKS, **{"templates/note.j2": "{{ inventory_hostname }} {{ word }}\n"})
    made.define(worker={**RECIPE, "release": "trixie"})
    made.play().ok()
    (image,) = made.images()
    for firmware in ("bios", "uefi"):
        with Guest(made.folder / firmware, image / "disk.qcow2", firmware) as guest:
            guest.wait_ssh(600)
            check_guest(guest)
            assert "trixie" in guest.ssh("cat /etc/os-release")
    shutil.rmtree(made.folder)
