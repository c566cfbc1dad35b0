# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe_id changes with what the image would be, and with nothing else."""

from __future__ import annotations

import pathlib
import tarfile
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _recipe as recipes
from ansible_collections.oscarv.virt.plugins.plugin_utils import _role_files as role_files
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Image

DEBIAN = {"release": "bookworm", "packages": ["tmux", "less"]}


def role(folder: pathlib.Path, name: str, **files: str) -> pathlib.Path:
    """A role of these files; a name like tasks__main_yml means tasks/main.yml."""
    for key, text in {"tasks__main_yml": "- ansible.builtin.ping:\n", **files}.items():
        path = folder / name / key.replace("__", "/").replace("_yml", ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / name


def finder(*folders: pathlib.Path) -> role_files.Finder:
    def find(name: str) -> tuple[pathlib.Path, str | None] | None:
        for folder in folders:
            if "." in name and (folder / name.replace(".", "/")).is_dir():
                namespace, collection, _role = name.split(".")
                return folder / namespace / collection / "roles" / _role, f"{namespace}.{collection}"
            if (folder / name).is_dir():
                return folder / name, None
        return None

    return find


def identity(found: t.Mapping[str, role_files.Role] | None = None, **options: t.Any) -> str:
    builder = options.pop("builder", "debian")
    merged = options if builder == "import" else {**DEBIAN, **options}
    return recipes.recipe_id(recipes.canonical(Image("worker", builder, merged), found or {}))


def test_the_same_recipe_has_the_same_id_always() -> None:
    # A literal: an id that changes by itself would rebuild every image of everybody.
    assert identity() == "b63631374870f1600a092b5cedca75e58c51a543bd749cc371f36b58856eec04"
    assert identity() == identity(packages=["less", "tmux", "less"])
    assert identity() == identity(components=["main"], architecture="amd64", vars={}, roles=[], size=None)
    assert identity() == identity(boot="kernel"), "how guests start from it is not what is in it"
    one, two = Image("a", "debian", DEBIAN), Image("b", "debian", DEBIAN)
    assert recipes.canonical(one, {}) == recipes.canonical(two, {})


@pytest.mark.parametrize(
    "other",
    [
        {"release": "trixie"},
        {"packages": ["tmux"]},
        {"components": ["main", "contrib"]},
        {"mirror": "http://mirror.example/debian"},
        {"size": 4 * 2**30},
        {"vars": {"port": 22}},
        {"roles": ["site"]},
    ],
)
def test_another_recipe_has_another_id(other: dict[str, t.Any]) -> None:
    assert identity(**other) != identity()


def test_roles_keep_their_order() -> None:
    assert identity(roles=["one", "two"]) != identity(roles=["two", "one"])


def test_an_import_is_what_it_contains_not_where_it_lies() -> None:
    one = identity(builder="import", url="https://a.example/x", sha256="a" * 64)
    assert one == identity(builder="import", url="file:///x", sha256="a" * 64)
    assert one != identity(builder="import", url="https://a.example/x", sha256="b" * 64)


def test_what_the_builder_does_not_know_is_refused() -> None:
    with pytest.raises(
        recipes.RecipeError, match="image worker: release sarge is not one that the builder knows: bookworm"
    ):
        identity(release="sarge")
    with pytest.raises(recipes.RecipeError, match="image worker: not yet: sparkle"):
        identity(sparkle=True)
    with pytest.raises(recipes.RecipeError, match="builder rpm: not yet"):
        identity(builder="rpm")


class TestRoles:
    def test_contents_decide(self, tmp_path: pathlib.Path) -> None:
        path = role(tmp_path, "site", files__a="one")
        before = self.id_of(tmp_path)
        assert before == self.id_of(tmp_path)
        (path / "files/a").write_text("two")
        changed = self.id_of(tmp_path)
        assert changed != before
        (path / "files/a").write_text("one")
        assert self.id_of(tmp_path) == before
        (path / "files/a").chmod(0o755)
        assert self.id_of(tmp_path) not in (before, changed)

    @pytest.mark.parametrize(
        "name",
        ["README.md", "molecule/default/x.yml", "tests/test.yml", ".gitignore", "tasks/main.yml~", "x/__pycache__/y"],
    )
    def test_what_is_for_people_does_not(self, tmp_path: pathlib.Path, name: str) -> None:
        path = role(tmp_path, "site")
        before = self.id_of(tmp_path)
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("words")
        assert self.id_of(tmp_path) == before

    def test_what_a_role_needs_counts_too(self, tmp_path: pathlib.Path) -> None:
        role(tmp_path, "site", meta__main_yml="dependencies: [{role: base}, plain]\n", handlers__main_yml=HANDLERS)
        for name in ("base", "plain", "handled", "deep"):
            role(tmp_path, name)
        (tmp_path / "base/tasks/main.yml").write_text(TASKS)
        found = role_files.collect(["site"], finder(tmp_path))
        assert sorted(found) == ["base", "deep", "handled", "plain", "site"]
        before = self.id_of(tmp_path)
        (tmp_path / "deep/tasks/main.yml").write_text("- ansible.builtin.debug:\n")
        assert self.id_of(tmp_path) != before

    def test_a_role_that_is_missing_is_named(self, tmp_path: pathlib.Path) -> None:
        role(tmp_path, "site", meta__main_yml="dependencies: [absent]\n")
        with pytest.raises(role_files.RoleError, match="role absent is not found: put it into a folder roles/"):
            role_files.collect(["site"], finder(tmp_path))

    def test_a_role_that_is_no_yaml_is_named(self, tmp_path: pathlib.Path) -> None:
        role(tmp_path, "site", tasks__more_yml="- [\n")
        with pytest.raises(role_files.RoleError, match=r"site/tasks/more.yml cannot be read"):
            role_files.collect(["site"], finder(tmp_path))

    def test_a_link_in_a_circle_ends(self, tmp_path: pathlib.Path) -> None:
        path = role(tmp_path, "site")
        before = self.id_of(tmp_path)
        (path / "files").mkdir()
        (path / "files/loop").symlink_to(path)
        assert len(self.id_of(tmp_path)) == len(before)

    def test_a_collection_brings_its_plugins_and_siblings(self, tmp_path: pathlib.Path) -> None:
        folder = tmp_path / "site/hpc"
        role(folder / "roles", "node", tasks__main_yml="- ansible.builtin.include_role: {name: sibling}\n")
        role(folder / "roles", "sibling")
        (folder / "plugins/filter").mkdir(parents=True)
        (folder / "plugins/filter/f.py").write_text("one")
        (folder / "docs").mkdir()
        (folder / "docs/x").write_text("words")

        def find(name: str) -> tuple[pathlib.Path, str | None] | None:
            path = folder / "roles" / name.rpartition(".")[2]
            return (path, "site.hpc") if name.startswith("site.hpc.") and path.is_dir() else None

        found = role_files.collect(["site.hpc.node"], find)
        assert sorted(found) == ["site.hpc.node", "site.hpc.sibling"]
        before = role_files.digest(found["site.hpc.node"])
        (folder / "docs/x").write_text("other words")
        assert role_files.digest(found["site.hpc.node"]) == before
        (folder / "plugins/filter/f.py").write_text("two")
        assert role_files.digest(found["site.hpc.node"]) != before
        role_files.pack(found.values(), str(tmp_path / "archive"))
        with tarfile.open(tmp_path / "archive") as tar:
            names = sorted(tar.getnames())
        top = "collections/ansible_collections/site/hpc"
        assert names == [
            f"{top}/plugins/filter/f.py",
            f"{top}/roles/node/tasks/main.yml",
            f"{top}/roles/sibling/tasks/main.yml",
        ]

    def test_what_is_packed_is_what_was_hashed(self, tmp_path: pathlib.Path) -> None:
        path = role(tmp_path / "from", "site", files__a="one", README_md="words")
        (path / "files/run").write_text("#!/bin/sh\n")
        (path / "files/run").chmod(0o700)
        (tmp_path / "elsewhere").write_text("linked")
        (path / "files/link").symlink_to(tmp_path / "elsewhere")
        found = role_files.collect(["site"], finder(tmp_path / "from"))
        role_files.pack(found.values(), str(tmp_path / "archive"))
        with tarfile.open(tmp_path / "archive") as tar:
            members = {member.name: member for member in tar}
            tar.extractall(tmp_path / "to", filter="data")
        assert sorted(members) == [
            f"roles/site/{name}" for name in ("files/a", "files/link", "files/run", "tasks/main.yml")
        ]
        assert members["roles/site/files/run"].mode == 0o755
        assert {(member.uid, member.uname) for member in members.values()} == {(0, "root")}
        assert (tmp_path / "to/roles/site/files/link").read_text() == "linked"
        unpacked = role_files.collect(["site"], finder(tmp_path / "to/roles"))
        assert role_files.digest(unpacked["site"]) == role_files.digest(found["site"])

    @staticmethod
    def id_of(folder: pathlib.Path) -> str:
        return identity(role_files.collect(["site"], finder(folder)), roles=["site"])


HANDLERS = """\
- name: Restart
  ansible.builtin.import_role:
    name: handled
"""
TASKS = """\
- name: A block
  when: secret is defined
  vars:
    secret: !vault |
      $ANSIBLE_VAULT;1.1;AES256
  block:
    - name: Deep
      include_role: {name: deep}
    - name: Known only when it runs
      include_role: {name: "{{ which }}"}
"""
