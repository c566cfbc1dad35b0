# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud images that others have built: taken as they are, or refused."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pathlib
import subprocess
import threading
import typing as t

import pytest
from conftest import Builder


@pytest.fixture
def disk(builder: Builder) -> pathlib.Path:
    path = builder.folder / "cloud.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "64M"], check=True)
    return path


def recipe(path: pathlib.Path, **other: str) -> dict[str, t.Any]:
    return {"builder": "import", "url": f"file://{path}", "sha256": sha256(path), **other}


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_is_kept_as_it_is(builder: Builder, disk: pathlib.Path) -> None:
    builder.define(cloud=recipe(disk))
    looked = builder.play("--check", "--diff").ok()
    assert looked.recap["changed"] == 1 and not builder.images()
    assert builder.play().ok().recap["changed"] == 2
    (image,) = builder.images()
    assert image.name == sha256(disk) == sha256(image / "disk.qcow2")
    manifest = builder.manifest(image)
    assert (manifest["virtual_size"], manifest["size"]) == (64 * 2**20, disk.stat().st_size)
    assert manifest["files"] == {"disk.qcow2": disk.stat().st_size} and manifest["url"] == f"file://{disk}"
    assert builder.play().ok().recap["changed"] == 0


def test_needs_not_be_fetched_again_from_elsewhere(builder: Builder, disk: pathlib.Path) -> None:
    builder.define(cloud=recipe(disk))
    builder.play().ok()
    builder.define(cloud=recipe(disk, url="https://mirror.invalid/cloud.qcow2"))
    assert builder.play().ok().recap["changed"] == 0


def test_comes_over_http(builder: Builder, disk: pathlib.Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(builder.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            builder.define(cloud=recipe(disk, url=f"http://127.0.0.1:{server.server_port}/cloud.qcow2"))
            builder.play().ok()
        finally:
            server.shutdown()
            thread.join()
    assert [path.name for path in builder.images()] == [sha256(disk)]


def refused(builder: Builder, image: dict[str, t.Any], words: str) -> None:
    builder.define(cloud=image)
    run = builder.play()
    assert run.code != 0 and "image cloud: " in run.text and words in run.text, run.text
    assert not builder.images() and not builder.temporary()


def test_another_checksum_is_refused(builder: Builder, disk: pathlib.Path) -> None:
    words = f"has the sha256 {sha256(disk)}, the definition asks for {'a' * 64}"
    refused(builder, recipe(disk, sha256="a" * 64), words)


def test_a_raw_disk_is_refused_with_the_way_to_convert_it(builder: Builder) -> None:
    raw = builder.folder / "cloud.raw"
    raw.write_bytes(b"\0" * 2**20)
    refused(builder, recipe(raw), "is no qcow2 image. Convert it (qemu-img convert -O qcow2")


def test_a_backing_file_is_refused(builder: Builder, disk: pathlib.Path) -> None:
    overlay = builder.folder / "overlay.qcow2"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk), "-F", "qcow2", str(overlay)]
    subprocess.run(words, check=True)
    refused(builder, recipe(overlay), "has a backing file: only an image that stands by itself")


def test_an_external_data_file_is_refused(builder: Builder) -> None:
    path = builder.folder / "outside.qcow2"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={builder.folder}/data.raw", str(path), "64M"]
    subprocess.run(words, check=True)
    refused(builder, recipe(path), "has an external data file")


def test_what_is_not_there_is_said(builder: Builder, disk: pathlib.Path) -> None:
    refused(builder, recipe(disk, url=f"file://{disk}.gone"), "cannot be fetched")
    refused(builder, recipe(disk, url="http://127.0.0.1:9/x"), "cannot be fetched")


def test_one_that_fails_does_not_stop_the_others(builder: Builder, disk: pathlib.Path) -> None:
    builder.define(first=recipe(disk, sha256="a" * 64), second=recipe(disk))
    run = builder.play()
    assert run.code != 0 and "image first: " in run.text and "image second" not in run.text, run.text
    assert [path.name for path in builder.images()] == [sha256(disk)]


class TestServing:
    """Over HTTP, on a machine without systemd."""

    PORT = 7493

    @pytest.fixture
    def served(self, builder: Builder, disk: pathlib.Path) -> t.Iterator[Builder]:
        builder.variables["image_store_url"] = f"http://127.0.0.1:{self.PORT}"
        builder.define(cloud=recipe(disk))
        yield builder
        self.unserve(builder)
        assert not list(builder.store.glob(".serve*"))

    def unserve(self, builder: Builder) -> str:
        play = builder.folder / "unserve.yml"
        play.write_text(
            "- hosts: oscarv_builder\n  gather_facts: false\n  tasks:\n"
            "  - ansible.builtin.include_role: {name: oscarv.virt.image, tasks_from: unserve}\n"
        )
        words = [".venv/bin/ansible-playbook", "-i", str(builder.inventory), str(play)]
        return subprocess.run(words, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout

    def get(self, path: str, port: int = PORT) -> bytes:
        words = ["curl", "-sf", "--max-time", "10", f"http://127.0.0.1:{port}/{path}"]
        return subprocess.run(words, capture_output=True, check=False).stdout

    def test_hostoses_fetch_by_build_id(self, served: Builder, disk: pathlib.Path) -> None:
        looked = served.play("--check").ok()
        assert looked.recap["changed"] >= 1 and not self.get("")
        assert served.play().ok().recap["changed"] == 3, "image, server, ledger"
        assert self.get(f"{sha256(disk)}/disk.qcow2") == disk.read_bytes()
        assert served.play().ok().recap["changed"] == 0
        assert "changed=1" in self.unserve(served) and not self.get("")
        assert "changed=0" in self.unserve(served)

    @pytest.mark.long
    def test_another_address_replaces_the_server(self, served: Builder, disk: pathlib.Path) -> None:
        served.play().ok()
        served.variables["image_store_url"] = f"http://127.0.0.1:{self.PORT + 1}"
        served.define(cloud=recipe(disk))
        served.play().ok()
        assert self.get(f"{sha256(disk)}/disk.qcow2", self.PORT + 1) == disk.read_bytes()
        assert not self.get("")

    @pytest.mark.long
    def test_a_stale_pidfile_is_not_taken_for_a_server(self, served: Builder, disk: pathlib.Path) -> None:
        served.play().ok()
        (pidfile,) = served.store.glob(".serve*")
        subprocess.run(["kill", "-9", pidfile.read_text().strip()], check=True)
        assert served.play().ok().recap["changed"] == 1
        assert self.get(f"{sha256(disk)}/disk.qcow2") == disk.read_bytes()

    @pytest.mark.long
    def test_builds_at_work_are_nobodys_business(self, served: Builder, disk: pathlib.Path) -> None:
        served.play().ok()
        work = served.store / f".tmp.{'a' * 64}.x"
        work.mkdir(mode=0o700)
        (work / "shadow").write_text("root:secret\n")
        assert not self.get(f"{work.name}/shadow")
