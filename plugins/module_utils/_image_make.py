# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a recipe to a finished image in the store: look, lock, look again, build or import, publish."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import platform
import shutil
import subprocess
import typing as t

from . import _image_debian as debian
from . import _image_import as imports
from ._image_sandbox import BuildError, Watch, run
from ._image_store import Build, Store, remove_tree

_MACHINES = {"amd64": "x86_64"}
#: Lines of the log that a failure shows.
_TAIL = 25


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An image that shall be in the store."""

    image: str
    recipe_id: str
    recipe: t.Mapping[str, t.Any]
    url: str | None = None  #: of an image that is imported

    @property
    def builder(self) -> str:
        return str(self.recipe["builder"])


@dataclasses.dataclass(frozen=True)
class Ways:
    """How this builder works; nothing of it changes what comes out."""

    roles_archive: str | None
    ansible_playbook: str
    collections_path: tuple[str, ...]
    mirror: str | None
    mirror_security: str | None


def missing_packages(wanted: t.Iterable[Wanted]) -> list[str]:
    """Debian packages that this machine lacks in order to make these images."""
    tools: dict[str, str] = {}
    for one in wanted:
        tools.update(imports.TOOLS if one.builder == "import" else debian.TOOLS)
    return sorted({package for program, package in tools.items() if not shutil.which(program)})


def refuse(wanted: t.Sequence[Wanted], store: Store, ways: Ways) -> None:
    """BuildError if these images cannot be made here; nothing has been changed."""
    if os.geteuid() != 0:
        raise BuildError("images are built as root: use become")
    missing = missing_packages(wanted)
    if missing:
        raise BuildError(f"packages are missing on the builder, the role oscarv.virt.image installs them: {missing}")
    builds = [one for one in wanted if one.builder == "debian"]
    for one in builds:
        needed = _MACHINES.get(one.recipe["architecture"])
        if needed != platform.machine():
            raise BuildError(
                f"image {one.image} is for {one.recipe['architecture']}, the builder is a {platform.machine()}: builds"
                " for other machines are not possible yet"
            )
    if any(one.recipe["roles"] for one in builds):
        _refuse_ansible(ways)
    if builds:
        folder = next(path for path in (store.path, *store.path.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if free < debian.SPACE:
            raise BuildError(
                f"{folder} has {free // 2**20} MiB left, a build needs {debian.SPACE // 2**20} MiB: make room, or set"
                " image_store to a folder elsewhere"
            )


def _refuse_ansible(ways: Ways) -> None:
    program = shutil.which(ways.ansible_playbook)
    if program is None:
        raise BuildError(
            f"roles are applied by Ansible on the builder, and there is no {ways.ansible_playbook}: install it there"
            " with community.general (Debian: package ansible), and say where it is (image_ansible_playbook)"
        )
    # `--version` of a broken installation fails too: better now than after the base system was built.
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{program} does not work on the builder: {done.stderr.strip()[-500:]}")


def make(one: Wanted, store: Store, ways: Ways, watch: Watch) -> tuple[Build, bool]:
    """The finished image of a recipe, and whether it was made now. Raises BuildError, Abandoned."""
    with store.locked(one.recipe_id, watch.wait):
        present = store.find(one.recipe_id)
        if present:  # whoever had the lock has built it
            return present, False
        store.clean(one.recipe_id)
        work = store.temporary(one.recipe_id)
        try:
            manifest = _import(one, work, watch) if one.builder == "import" else _build(one, work, store, ways, watch)
            created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            common = {"image": one.image, "recipe_ids": [one.recipe_id], "recipe": one.recipe, "created": created}
            return store.publish(work / "out", {**common, **manifest}), True
        finally:
            remove_tree(work)


def _build(one: Wanted, work: pathlib.Path, store: Store, ways: Ways, watch: Watch) -> dict[str, t.Any]:
    job = debian.Job(
        image=one.image,
        recipe_id=one.recipe_id,
        recipe=one.recipe,
        roles_archive=ways.roles_archive,
        ansible_playbook=ways.ansible_playbook,
        collections_path=ways.collections_path,
        archive=ways.mirror,
        security=ways.mirror_security,
    )
    log = store.log(one.recipe_id)
    log.unlink(missing_ok=True)
    try:
        return t.cast("dict[str, t.Any]", run(lambda: debian.build(job, work, work / "out"), watch, str(log)))
    except BuildError as error:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:] if log.exists() else []
        raise BuildError("\n".join([f"{error}; its log is {log}, which ends:", *said])) from error


def _import(one: Wanted, work: pathlib.Path, watch: Watch) -> dict[str, t.Any]:
    if not one.url:
        raise BuildError("an image that is imported needs its url")
    (work / "out").mkdir()
    disk = work / "out" / "disk.qcow2"
    imports.fetch(one.url, one.recipe["sha256"], disk, lambda: watch.wait(0))
    return imports.inspect(disk, one.url)
