# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a Debian image: base system, packages and roles (the base layer), then kernel and boot loader, then the disk.

`build` runs as PID 1 of the build's own namespaces and writes only below its work folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import pathlib
import shlex
import shutil
import subprocess
import time
import typing as t

from . import _image_apt as apt
from . import _image_disk as disks
from . import _image_roles as roles
from ._image_config import (
    BASE_PACKAGES,
    BOOT_PACKAGES,
    COMMAND_LINE,
    ENABLED_UNITS,
    FILES,
    MASKED_UNITS,
    RELEASE_PACKAGES,
)
from ._image_sandbox import BuildError, note
from ._image_store import sha256
from ._image_tree import Tree, command
from ._paths import KERNEL_FILES

#: Program -> Debian package that has it: what the builder itself must have.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "zstd": "zstd",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "tar": "tar",
    "mount": "mount",
    "chroot": "coreutils",
    "apt-get": "apt",
}
#: Bytes that a build may need beside what it leaves.
SPACE = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Job:
    """One build: the recipe and the ways of this builder."""

    image: str
    recipe_id: str
    recipe: t.Mapping[str, t.Any]  #: as `plugin_utils/_recipe.py` makes it
    roles_archive: str | None = None  #: what the controller packed
    ansible_playbook: str = "ansible-playbook"
    collections_path: tuple[str, ...] = ()
    archive: str | None = None  #: where to fetch from instead of the builder's own archive
    security: str | None = None


def build(job: Job, work: pathlib.Path, out: pathlib.Path) -> dict[str, t.Any]:
    """Fill `out` with the image's files; return what its manifest says of this build. Raises BuildError."""
    out.mkdir()
    tree = Tree(work)
    seconds: dict[str, float] = {}
    identity = disks.Identity.of(job.recipe_id)

    with _timed(seconds, "base"):
        _bootstrap(job, tree)
    epoch = _epoch(work / "lists")
    tree.environment["SOURCE_DATE_EPOCH"] = str(epoch)
    if job.recipe["roles"]:
        with _timed(seconds, "roles"):
            _roles(job, tree)
    with _timed(seconds, "base layer"):
        _finish_sources(tree)
        tree.clean(epoch)
        _archive(tree, out / "base.tar.zst", epoch)
    with _timed(seconds, "kernel"):
        kernel = _boot_layer(job, tree, out)
        _list_packages(tree, out / "packages.txt")
        tree.clean(epoch)
        disks.prepare_boot(tree, identity, kernel)
    with _timed(seconds, "disk"):
        (work / "raw").mkdir()
        size = disks.size_for(_contents(tree.root), job.recipe.get("size"))
        disks.make(tree, work / "raw" / "disk.raw", identity, size)
        disks.convert(work / "raw" / "disk.raw", out / "disk.qcow2", job.recipe.get("compression", "zstd"))
    return {
        "architecture": job.recipe["architecture"],
        "command_line": f"root=UUID={identity.root} ro {COMMAND_LINE}",
        "firmwares": ["bios", "uefi"],
        "kernel": kernel,
        "root_uuid": identity.root,
        "sha256": {name: sha256(out / name) for name in KERNEL_FILES},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "source_date_epoch": epoch,
        "virtual_size": size,
    }


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> t.Iterator[None]:
    note(f"=== {name}")
    begin = time.monotonic()
    yield
    seconds[name] = time.monotonic() - begin


def _bootstrap(job: Job, tree: Tree) -> None:
    """Base system and packages by mmdebstrap, then our configuration.

    Without a mirror mmdebstrap writes Debian's public archive into the image's sources; while the build runs, the
    builder's own stands in for it.
    """
    recipe, work = job.recipe, tree.work
    sources = []
    if recipe.get("mirror"):
        sources = apt.source_lines(recipe["release"], recipe["components"], recipe["mirror"], None)[:1]
    else:
        archives = (job.archive, job.security) if job.archive else apt.builders_archives()
        if archives:
            lines = apt.source_lines(recipe["release"], recipe["components"], *archives)
            (work / "build.list").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (work / "apt.conf").write_text(apt.outer_configuration(tree.transport), encoding="utf-8")
    kept, own = shlex.quote(str(work / "sources")), shlex.quote(str(work / "build.list"))
    hook = work / "setup-hook"
    hook.write_text(
        f"""\
#!/bin/sh -e
[ -e {own} ] || exit 0
mkdir {kept}
for name in sources.list sources.list.d; do
  [ ! -e "$1/etc/apt/$name" ] || mv "$1/etc/apt/$name" {kept}/
done
mkdir -p "$1/etc/apt/sources.list.d"
cp {own} "$1/etc/apt/sources.list"
""",
        encoding="utf-8",
    )
    hook.chmod(0o755)
    packages = [*BASE_PACKAGES, *RELEASE_PACKAGES[recipe["release"]], *recipe["packages"]]
    command(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        *(f"--architectures={recipe['architecture']}", f"--components={','.join(recipe['components'])}"),
        *(f"--include={','.join(packages)}", f"--aptopt={work / 'apt.conf'}", "--dpkgopt=force-unsafe-io"),
        *("--skip=cleanup/apt/lists", f"--setup-hook={hook}"),
        *(recipe["release"], tree.root, *sources),
        env={"LC_ALL": "C.UTF-8", "TMPDIR": str(work / "tmp"), **tree.outside},
    )
    for path in tree.path("var/lib/apt/lists").glob("*_*"):
        path.rename(work / "lists" / path.name)
    if (work / "build.list").exists():
        tree.path("etc/apt/sources.list").unlink()
    if not tree.path("etc/resolv.conf").is_symlink():  # a copy of the builder's
        tree.path("etc/resolv.conf").unlink(missing_ok=True)
    for name, text in FILES.items():
        tree.write(name, text)
    for unit in MASKED_UNITS:
        tree.path(f"etc/systemd/system/{unit}").symlink_to("/dev/null")
    tree.run("systemctl", "enable", *ENABLED_UNITS)


def _epoch(lists: pathlib.Path) -> int:
    """The newest date of the archive's indices, in seconds since 1970: SOURCE_DATE_EPOCH of this build."""
    dates = []
    for path in lists.glob("*Release"):
        with path.open(encoding="utf-8", errors="replace") as file:
            dates += [line.partition(":")[2].strip() for line in file if line.startswith("Date:")][:1]
    if not dates:
        raise BuildError("apt has fetched no index: see the build's log")
    return max(int(email.utils.parsedate_to_datetime(date).timestamp()) for date in dates)


def _roles(job: Job, tree: Tree) -> None:
    (tree.work / "ansible").mkdir()
    roles.unpack(t.cast(str, job.roles_archive), tree.work / "ansible")
    variables = job.recipe["vars"]
    with tree.mounted():
        roles.apply(tree, job.image, job.recipe["roles"], variables, job.ansible_playbook, job.collections_path)


def _boot_layer(job: Job, tree: Tree, out: pathlib.Path) -> str:
    """Kernel, initramfs and boot loader; returns the kernel's version. A kernel among the recipe's packages wins."""
    own = list(tree.path("boot").glob("vmlinuz-*"))
    packages = BOOT_PACKAGES[job.recipe["architecture"]]
    with tree.mounted():
        # The kernel's package would make an initramfs, and the trigger of initramfs-tools the same again.
        tree.environment["INITRD"] = "No"
        tree.install(*(name for name in packages if not (own and name.startswith("linux-image"))))
        names = [path.name.partition("-")[2] for path in tree.path("boot").glob("vmlinuz-*")]
        if not names:
            raise BuildError("no kernel in /boot after the kernel package was installed: see the build's log")
        kernel = tree.output("linux-version", "sort", "--reverse", *names).split()[0]
        tree.run("update-initramfs", "-c", "-k", kernel)
    for name in KERNEL_FILES:
        shutil.copyfile(tree.path(f"boot/{name}-{kernel}"), out / name)
    return kernel


def _list_packages(tree: Tree, target: pathlib.Path) -> None:
    target.write_text(tree.output("dpkg-query", "-W", "-f", "${Package}\t${Version}\n"), encoding="utf-8")


def _finish_sources(tree: Tree) -> None:
    """The image's own sources.list comes back; what a role has written there stays."""
    kept = tree.work / "sources"
    for path in sorted(kept.rglob("*")) if kept.is_dir() else ():
        target = tree.path("etc/apt") / path.relative_to(kept)
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _archive(tree: Tree, target: pathlib.Path, epoch: int) -> None:
    """The tree as a tar that depends on its contents only."""
    tar = [
        *("tar", "--create", f"--directory={tree.root}", "--sort=name", "--numeric-owner", "--one-file-system"),
        *(f"--mtime=@{epoch}", "--clamp-mtime", "--format=posix"),
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        *("--xattrs", "--xattrs-include=security.capability", "."),
    ]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packer:
        done = subprocess.run(["zstd", "-q", "-T0", "-o", str(target)], stdin=packer.stdout, check=False)
    if packer.returncode or done.returncode:
        raise BuildError(f"packing the base layer failed: tar {packer.returncode}, zstd {done.returncode}")


def _contents(root: pathlib.Path) -> int:
    """Bytes that the tree takes on a disk."""
    words = ["du", "--summarize", "--block-size=1", "--one-file-system", str(root)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0])
