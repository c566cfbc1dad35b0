# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles on the controller: where they are, what they need, what is in them, and how they are packed for the builder.

What is hashed is what is packed: a role of an image cannot differ from the one that its recipe_id speaks of.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import tarfile
import typing as t

import yaml

#: Not part of what a role does.
_LEFT_OUT = ("__pycache__", ".git", ".svn", ".hg", ".pytest_cache", ".ansible")
_LEFT_OUT_SUFFIXES = (".pyc", ".pyo", "~", ".swp")
#: At the top of a role: for people, and for its tests.
_FOR_PEOPLE = ("README", "CHANGELOG", "LICENSE", "COPYING", "molecule", "tests", "docs", ".")
#: Of a collection, what its roles can use.
_COLLECTION_PARTS = ("plugins", "roles", "meta", "MANIFEST.json", "galaxy.yml")
_INCLUDES = tuple(
    f"{prefix}{verb}_role" for prefix in ("", "ansible.builtin.", "ansible.legacy.") for verb in ("include", "import")
)


class RoleError(ValueError):
    """A role that cannot be found or read; the message names it and where it was looked for."""


@dataclasses.dataclass(frozen=True)
class Role:
    name: str  #: as it was asked for
    path: pathlib.Path
    collection: str | None = None  #: "namespace.name" if it is part of one

    @property
    def packed(self) -> tuple[str, pathlib.Path, tuple[str, ...]]:
        """Name in the archive, folder, and which of its entries (none: all)."""
        if self.collection is None:
            return f"roles/{self.name}", self.path, ()
        place = f"collections/ansible_collections/{self.collection.replace('.', '/')}"
        return place, self.path.parents[1], _COLLECTION_PARTS


#: name -> folder and collection (None: of no collection), or None: not found
Finder = t.Callable[[str], "tuple[pathlib.Path, str | None] | None"]


def collect(names: t.Iterable[str], find: Finder) -> dict[str, Role]:
    """These roles and all that they depend on (meta) or name in include_role and import_role, by name.

    A name that is a template is known only when the role runs; such a role must be named in the recipe.
    """
    found: dict[str, Role] = {}
    wanted: list[tuple[str, str | None]] = [(name, None) for name in names]
    while wanted:
        name, asker = wanted.pop(0)
        candidates = [f"{asker}.{name}"] if asker and "." not in name else []
        if any(candidate in found for candidate in (*candidates, name)):
            continue
        role = next((role for role in (_locate(word, find) for word in (*candidates, name)) if role), None)
        if role is None:
            raise RoleError(
                f"role {name} is not found: put it into a folder roles/ beside the definition's folder, or say in"
                " ansible.cfg where it is (roles_path, collections_path)"
            )
        found[role.name] = role
        wanted += [(needed, role.collection) for needed in _needed(role)]
    return found


def _locate(name: str, find: Finder) -> Role | None:
    place = find(name)
    return Role(name, place[0], place[1]) if place else None


def _needed(role: Role) -> list[str]:
    names: list[str] = []
    for path in sorted((role.path / "meta").glob("main.y*ml")):
        meta = _read(path)
        dependencies = meta.get("dependencies") if isinstance(meta, dict) else None
        for entry in dependencies or []:
            names.append(entry if isinstance(entry, str) else str(entry.get("role") or entry.get("name") or ""))
    for part in ("tasks", "handlers"):
        for path in sorted((role.path / part).rglob("*.y*ml")):
            names += _included(_read(path))
    return [name for name in names if name and "{{" not in name]


def _included(node: t.Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _included(item)]
    if not isinstance(node, dict):
        return []
    names = []
    for key, value in node.items():
        if key in _INCLUDES and isinstance(value, dict):
            names.append(str(value.get("name") or value.get("role") or ""))
        else:
            names += _included(value)
    return names


class _Loader(yaml.SafeLoader):
    """Reads Ansible's YAML for its structure: what stands behind a tag (!vault, !unsafe) does not matter here."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


def _read(path: pathlib.Path) -> t.Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RoleError(f"{path} cannot be read: {error}") from error


def digest(role: Role) -> str:
    """sha256 over everything in a role (of a collection: over all that its roles can use)."""
    _name, folder, parts = role.packed
    total = hashlib.sha256()
    for relative, path in _files(folder, parts):
        executable = os.access(path, os.X_OK)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{relative}\0{int(executable)}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def pack(roles: t.Iterable[Role], target: str) -> None:
    """Write an archive of `roles` for the module image_build."""
    done = set()
    with tarfile.open(target, "w:gz", compresslevel=1, dereference=True) as tar:
        for role in roles:
            name, folder, parts = role.packed
            if name in done:
                continue
            done.add(name)
            for relative, path in _files(folder, parts):
                tar.add(path, f"{name}/{relative}", recursive=False, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose files they are on the controller is nobody's business."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def _files(folder: pathlib.Path, parts: tuple[str, ...]) -> list[tuple[str, pathlib.Path]]:
    """(path relative to `folder`, file) of every file, in a fixed order; links are followed."""
    found = []
    seen: set[str] = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        here = os.path.relpath(top, folder)
        if here == ".":
            folders[:] = [name for name in folders if _belongs(name, parts)]
            names = [name for name in names if _belongs(name, parts)]
        real = os.path.realpath(top)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in names:
            path = pathlib.Path(top, name)
            if not name.endswith(_LEFT_OUT_SUFFIXES) and path.is_file():
                found.append((os.path.normpath(os.path.join(here, name)), path))
    return sorted(found)


def _belongs(name: str, parts: tuple[str, ...]) -> bool:
    """Whether an entry at the top of a collection (`parts`) or role has to do with what it does."""
    return name in parts if parts else not name.startswith(_FOR_PEOPLE)
