# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: an image is there whole or not at all, and nobody's work is taken for garbage."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import threading
import time
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _image_store as stores
from ansible_collections.oscarv.virt.plugins.modules import image_build

A, B = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path: pathlib.Path) -> stores.Store:
    path = tmp_path / "store"
    path.mkdir()
    return stores.Store(str(path))


def publish(
    store: stores.Store, recipe: str = A, content: bytes = b"disk", created: str = "2026-01-01T00:00:00+00:00"
) -> stores.Build:
    work = store.temporary(recipe)
    (work / "out").mkdir()
    (work / "out" / "disk.qcow2").write_bytes(content)
    (work / "out" / "vmlinuz").write_bytes(b"kernel")
    manifest = {"image": "worker", "recipe_ids": [recipe], "virtual_size": 10, "created": created}
    build = store.publish(work / "out", manifest)
    stores.remove_tree(work)
    return build


def test_a_build_is_named_by_its_disk_and_read_only(store: stores.Store) -> None:
    build = publish(store)
    assert build.build_id == hashlib.sha256(b"disk").hexdigest()
    folder = store.path / build.build_id
    assert sorted(path.name for path in folder.iterdir()) == ["disk.qcow2", "manifest.json", "vmlinuz"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    assert folder.stat().st_mode & 0o777 == 0o755
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == {"disk.qcow2": 4, "vmlinuz": 6} and manifest["size"] == 4
    assert store.find(A) == build and store.find(B) is None
    assert [path.name for path in store.path.iterdir()] == [build.build_id]


def test_the_newest_build_of_a_recipe_is_found(store: stores.Store) -> None:
    new = publish(store, content=b"new", created="2026-02-01T00:00:00+00:00")
    publish(store, content=b"old", created="2026-01-01T00:00:00+00:00")
    assert store.find(A) == new
    assert [build.created[:7] for build in store.builds()] == ["2026-01", "2026-02"]


def test_the_same_bits_of_another_recipe_are_one_build(store: stores.Store) -> None:
    first = publish(store, A)
    second = publish(store, B)
    assert second.build_id == first.build_id and second.recipe_ids == (A, B)
    assert store.find(A) == store.find(B) == second
    assert len(store.builds()) == 1
    assert publish(store, B).recipe_ids == (A, B)


@pytest.mark.parametrize("damage", ["truncate", "manifest", "no manifest", "no disk"])
def test_a_damaged_build_is_none_and_is_replaced(store: stores.Store, damage: str) -> None:
    build = publish(store)
    folder = store.path / build.build_id
    folder.chmod(0o755)
    disk, manifest = folder / "disk.qcow2", folder / "manifest.json"
    actions: dict[str, t.Callable[[], object]] = {
        "truncate": lambda: os.truncate(_writable(disk), 1),
        "manifest": lambda: _writable(manifest).write_text("{"),
        "no manifest": manifest.unlink,
        "no disk": disk.unlink,
    }
    actions[damage]()
    assert store.find(A) is None and store.builds() == []
    assert publish(store) == build
    assert disk.read_bytes() == b"disk"


def _writable(path: pathlib.Path) -> pathlib.Path:
    path.chmod(0o644)
    return path


def test_nothing_without_a_store(tmp_path: pathlib.Path) -> None:
    store = stores.Store(str(tmp_path / "none"))
    assert store.builds() == [] and store.find(A) is None
    assert not (tmp_path / "none").exists()


def test_the_second_waits_for_the_first(store: stores.Store) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        def wait(seconds: float) -> None:
            waiting.set()
            time.sleep(0.01)

        with store.locked(A, wait):
            order.append("second")

    with store.locked(A):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_waiting_can_be_given_up_and_other_recipes_do_not_wait(store: stores.Store) -> None:
    stack = contextlib.ExitStack()

    def refuse(seconds: float) -> None:
        raise RuntimeError("given up")

    with store.locked(A), store.locked(B, refuse), pytest.raises(RuntimeError, match="given up"):
        stack.enter_context(store.locked(A, refuse))


def test_only_folders_whose_lock_is_free_are_removed(store: stores.Store) -> None:
    mine, left, busy = store.temporary(A), store.temporary(B), store.temporary("c" * 64)
    (left / "tree").mkdir()
    (left / "tree" / "file").touch()
    keep = publish(store, "d" * 64)
    (store.path / "mine").mkdir()
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((store.path / f".lock.{'c' * 64}").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        with store.locked(A):
            assert sorted(store.clean(A)) == sorted([mine.name, left.name])
    assert sorted(path.name for path in store.path.iterdir() if not path.name.startswith(".lock")) == sorted(
        ["mine", busy.name, keep.build_id]
    )


class TestModule:
    """image_build where nothing has to be made."""

    @staticmethod
    def params(store: stores.Store, *images: tuple[str, str]) -> dict[str, t.Any]:
        defaults = {name: option.get("default") for name, option in image_build._OPTIONS.items()}
        recipe = {"builder": "import", "sha256": "e" * 64}
        wanted = [{"image": name, "recipe_id": recipe_id, "recipe": recipe, "url": None} for name, recipe_id in images]
        return {**defaults, "store": str(store.path), "store_url": "http://x.example:1/", "images": wanted}

    def test_finds_what_there_is(self, store: stores.Store) -> None:
        build = publish(store)
        result = image_build.reconcile(self.params(store, ("worker", A), ("alias", A)), check=False)
        assert result["changed"] is False and result["built"] == [] and result["failed_images"] == {}
        assert result["builds"]["worker"] | {"manifest": {}} == {
            "build_id": build.build_id,
            "image": "worker",
            "recipe_id": A,
            "size": 4,
            "virtual_size": 10,
            "created": "2026-01-01T00:00:00+00:00",
            "path": f"{store.path}/{build.build_id}/disk.qcow2",
            "url": f"http://x.example:1/{build.build_id}/disk.qcow2",
            "manifest": {},
        }
        assert result["builds"]["alias"]["image"] == "alias"
        assert (
            result["diff"]["before"]
            == result["diff"]["after"]
            == (f"worker: {build.build_id}\nalias: {build.build_id}\n")
        )

    def test_check_mode_says_what_would_be_made_and_makes_nothing(self, store: stores.Store) -> None:
        build = publish(store)
        result = image_build.reconcile(self.params(store, ("worker", A), ("new", B)), check=True)
        assert result["changed"] is True and result["built"] == ["new"] and list(result["builds"]) == ["worker"]
        assert result["diff"]["before"] == f"worker: {build.build_id}\nnew: no build\n"
        assert result["diff"]["after"] == f"worker: {build.build_id}\nnew: to be made ({B[:12]})\n"
        assert [path.name for path in store.path.iterdir()] == [build.build_id]
