# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builder's store of finished images.

    STORE/BUILD_ID/disk.qcow2 vmlinuz initrd.img base.tar.zst packages.txt manifest.json
    STORE/.tmp.RECIPE_ID.XXXXXX/     a build at work, for root's eyes only
    STORE/.lock.RECIPE_ID            held (flock) by every process of that build and by nobody else
    STORE/.log.RECIPE_ID             what the last build of the recipe printed

A folder named by 64 hexadecimal digits is a finished image and nothing else is: it comes into being whole, by one
rename. A temporary folder whose lock is free belongs to nobody and is removed by the next build.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import pathlib
import re
import shutil
import tempfile
import time
import typing as t

from ._files import sync_directory, sync_file, write_json

_BUILD_ID = re.compile(r"^[0-9a-f]{64}$")
_TEMPORARY = re.compile(r"^\.tmp\.([0-9a-f]{64})\.")
#: Seconds between two tries for a lock.
_LOCK_SLEEP = 0.5


@dataclasses.dataclass(frozen=True)
class Build:
    """A finished image, as its manifest has it."""

    build_id: str
    image: str
    recipe_ids: tuple[str, ...]  #: every recipe that came out as these very bits; usually one
    size: int  #: bytes of disk.qcow2
    virtual_size: int  #: bytes of the disk that a guest sees
    created: str  #: UTC, ISO 8601
    path: str  #: of disk.qcow2 on the builder
    manifest: t.Mapping[str, t.Any]


class Store:
    """The store below `path`. Nothing here trusts a folder without a manifest that fits its files."""

    def __init__(self, path: str) -> None:
        self.path = pathlib.Path(path)

    def builds(self) -> list[Build]:
        """All finished images, oldest first."""
        if not self.path.is_dir():
            return []
        found = [self._read(entry) for entry in self.path.iterdir() if _BUILD_ID.match(entry.name)]
        return sorted((build for build in found if build), key=lambda build: (build.created, build.build_id))

    def find(self, recipe_id: str) -> Build | None:
        """The newest finished image of this recipe."""
        return next((build for build in reversed(self.builds()) if recipe_id in build.recipe_ids), None)

    def _read(self, folder: pathlib.Path) -> Build | None:
        disk = folder / "disk.qcow2"
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if disk.stat().st_size != manifest["size"]:
                return None  # damaged: build it again
            return Build(
                build_id=folder.name,
                image=manifest["image"],
                recipe_ids=tuple(manifest["recipe_ids"]),
                size=manifest["size"],
                virtual_size=manifest["virtual_size"],
                created=manifest["created"],
                path=str(disk),
                manifest=manifest,
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @contextlib.contextmanager
    def locked(self, recipe_id: str, wait: t.Callable[[float], t.Any] = time.sleep) -> t.Iterator[None]:
        """Hold the recipe's lock. While somebody else has it `wait` is called, which may raise to give up."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(self.path / f".lock.{recipe_id}", "w", encoding="utf-8") as lock:
            while not _try_lock(lock):
                wait(_LOCK_SLEEP)
            yield

    def temporary(self, recipe_id: str) -> pathlib.Path:
        """A new folder for a build at work. The caller holds the recipe's lock."""
        return pathlib.Path(tempfile.mkdtemp(prefix=f".tmp.{recipe_id}.", dir=self.path))

    def clean(self, held: str) -> list[str]:
        """Remove the temporary folders of builds that ended early; the caller holds the lock of recipe `held`."""
        removed = []
        for entry in self.path.iterdir():
            match = _TEMPORARY.match(entry.name)
            if not match:
                continue
            with contextlib.ExitStack() as stack:
                if match.group(1) != held:
                    lock = stack.enter_context(open(self.path / f".lock.{match.group(1)}", "w", encoding="utf-8"))
                    if not _try_lock(lock):
                        continue
                remove_tree(entry)
                removed.append(entry.name)
        return removed

    def log(self, recipe_id: str) -> pathlib.Path:
        return self.path / f".log.{recipe_id}"

    def publish(self, folder: pathlib.Path, manifest: t.Mapping[str, t.Any]) -> Build:
        """Make `folder`, which holds disk.qcow2 and the other files, a finished image.

        `manifest` has image, recipe_ids, virtual_size, created and whatever the builder wants to remember.
        The same bits twice are one image: the one that is there stays and learns the new recipe.
        """
        build_id = sha256(folder / "disk.qcow2")
        final = self.path / build_id
        present = self._read(final)
        if present:
            known = [*present.recipe_ids, *(new for new in manifest["recipe_ids"] if new not in present.recipe_ids)]
            write_json(final / "manifest.json", {**present.manifest, "recipe_ids": known}, 0o444)
            return t.cast(Build, self._read(final))
        remove_tree(final)
        size = (folder / "disk.qcow2").stat().st_size
        full = {"build_id": build_id, "size": size, **manifest}
        full["files"] = {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", full, 0o444)
        for entry in folder.iterdir():
            entry.chmod(0o444)
            sync_file(entry)
        folder.chmod(0o755)
        sync_directory(folder)
        folder.rename(final)
        sync_directory(self.path)
        return t.cast(Build, self._read(final))


def _try_lock(lock: t.TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_tree(path: pathlib.Path) -> None:
    """Remove a folder, if it is there. A killed build's last processes may still be writing: try again then."""
    for attempt in range(10):
        try:
            if path.exists():
                shutil.rmtree(path)
            return
        except OSError:
            if attempt == 9:
                raise
            time.sleep(0.2)


def sha256(path: pathlib.Path) -> str:
    """sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            piece = file.read(1 << 20)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)
