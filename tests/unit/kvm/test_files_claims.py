# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import os
import pathlib
import struct

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._claims import Claim, read_claims
from ansible_collections.oscarv.virt.plugins.module_utils._driver import Mark
from ansible_collections.oscarv.virt.plugins.module_utils._files import remove, temporary_beside, whole, write_json
from ansible_collections.oscarv.virt.plugins.module_utils._paths import (
    build_of,
    build_path,
    claim_path,
    disk_name_of,
    disk_path,
)
from ansible_collections.oscarv.virt.plugins.module_utils._qcow2 import read_header
from kvm_plain import UUID


def test_a_file_is_there_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "disk"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path, 0o600) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert not temporary_beside(path).exists()
    with whole(path, 0o640) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["disk"]


def test_what_an_interrupted_run_left_is_overwritten(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "claim.json"
    temporary_beside(path).write_text("{ half")
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["claim.json"]


def test_removing_twice_is_no_error(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x"
    path.write_text("")
    assert remove(path) is True
    assert remove(path) is False


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/pool/demo/wn001-root.qcow2", "root"),
        ("/pool/demo/wn001-a-b.c.qcow2", "a-b.c"),
        ("/pool/demo/wn001-seed.iso", None),
        ("/pool/demo/wn0011-root.qcow2", None),
        ("/pool/other/wn001-root.qcow2", None),
        ("/pool/demo/wn001-.qcow2", None),
        ("/pool/demo/wn001-root.snap1", None),
        (None, None),
    ],
)
def test_only_our_scheme_names_a_disk(path: str | None, name: str | None) -> None:
    assert disk_name_of(path, "demo", "wn001") == name


def test_paths_and_back() -> None:
    assert disk_name_of(disk_path("/pool", "demo", "wn001", "scratch"), "demo", "wn001") == "scratch"
    assert build_of(build_path("/pool", "ab" * 32)) == "ab" * 32
    assert build_of("/pool/elsewhere/" + "ab" * 32 + ".qcow2") is None
    assert build_of("/pool/builds/short.qcow2") is None
    assert build_of(None) is None


def qcow2(path: pathlib.Path, size: int, backing: bytes = b"", magic: bytes = b"QFI\xfb", version: int = 3) -> str:
    offset = 104 if backing else 0
    path.write_bytes(struct.pack(">4sIQIIQ", magic, version, offset, len(backing), 16, size) + b"\0" * 72 + backing)
    return str(path)


def test_a_header_says_size_and_backing(tmp_path: pathlib.Path) -> None:
    header = read_header(qcow2(tmp_path / "a", 12345, b"/pool/builds/x.qcow2"))
    assert header is not None
    assert (header.size, header.backing) == (12345, "/pool/builds/x.qcow2")
    alone = read_header(qcow2(tmp_path / "b", 1))
    assert alone is not None
    assert alone.backing is None


def test_what_is_no_qcow2_has_no_header(tmp_path: pathlib.Path) -> None:
    (tmp_path / "short").write_bytes(b"QFI\xfb")
    os.mkfifo(tmp_path / "pipe")
    assert read_header(qcow2(tmp_path / "raw", 1, magic=b"RAW!")) is None
    assert read_header(qcow2(tmp_path / "new", 1, version=9)) is None
    for name in ("short", "pipe", "missing", "."):
        assert read_header(str(tmp_path / name)) is None


def claim(tmp_path: pathlib.Path, **changes: object) -> Claim:
    files = {"root": str(tmp_path / "demo" / "wn001-root.qcow2")}
    mark = Mark("demo", "wn001", UUID, "workers", 3, "ab" * 32, host_key="k", nics=({"name": "eth0", "addresses": []},))
    made = Claim(UUID, "demo", "wn001", str(tmp_path), files=files, mark=mark)
    return dataclasses.replace(made, **changes)


def test_a_claim_comes_back(tmp_path: pathlib.Path) -> None:
    written = claim(tmp_path, doomed=("/x", "/y"), seed="/pool/seed.iso")
    written.write()
    assert read_claims([str(tmp_path)], "demo") == {(UUID, "wn001"): written}
    assert read_claims([str(tmp_path)], "other") == {}
    assert claim_path(str(tmp_path), "demo", "wn001").stat().st_mode & 0o777 == 0o600


def test_an_empty_claim_is_none(tmp_path: pathlib.Path) -> None:
    claim(tmp_path).write()
    claim(tmp_path, files={}).write()
    assert read_claims([str(tmp_path)], "demo") == {}
    assert os.listdir(tmp_path / "demo") == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"uuid": 3}', '{"uuid": "x", "cluster": "demo", "guest": "elsewhere"}']
)
def test_a_damaged_claim_is_no_claim(tmp_path: pathlib.Path, text: str) -> None:
    claim(tmp_path).write()
    claim_path(str(tmp_path), "demo", "wn001").write_text(text)
    assert read_claims([str(tmp_path)], "demo") == {}


def test_a_claim_forgets_what_a_domain_names_and_what_is_gone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "demo").mkdir()
    paths = {name: tmp_path / "demo" / f"wn001-{name}.qcow2" for name in ("root", "kept", "gone", "doomed")}
    for name in ("root", "kept", "doomed"):
        paths[name].write_text("")
    files = {name: str(paths[name]) for name in ("root", "kept", "gone")}
    settled = claim(tmp_path, files=files, doomed=(str(paths["doomed"]), "/not/there")).settled({str(paths["root"])})
    assert dict(settled.files) == {"kept": str(paths["kept"])}
    assert settled.doomed == (str(paths["doomed"]),)
    assert claim(tmp_path, files=files).kept == {"root": str(paths["root"]), "kept": str(paths["kept"])}
    assert claim(tmp_path, files=files, fresh=True).kept == {}
