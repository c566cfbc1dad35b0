# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role hostos_openvz takes for an OpenVZ node."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import typing as t

import pytest

PATH = pathlib.Path(__file__).resolve().parents[3] / "roles/hostos_openvz/files/look.py"


@pytest.fixture(scope="module")
def look() -> t.Any:
    spec = importlib.util.spec_from_file_location("hostos_openvz_look", PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kernel", "openvz"),
    [
        ("2.6.32-042stab145.3", True),
        ("3.10.0-1160.105.1.vz7.214.3", True),
        ("5.14.0-427.22.1.vz9.66.10", True),
        ("6.1.0-56-amd64", False),
        ("5.14.0-427.el9.x86_64", False),
    ],
)
def test_a_kernel_tells_by_its_name(look: t.Any, kernel: str, openvz: bool) -> None:
    assert bool(look.KERNEL.search(kernel)) is openvz


def test_versions_and_lists_are_read_strictly(look: t.Any) -> None:
    assert look.version("vzctl version 4.11.1-3.ga3f732ef\n") == "4.11.1-3.ga3f732ef"
    assert look.version("usage: vzctl") is None and look.version(None) is None
    assert look.containers('[{"ctid": 101}]') == 1 and look.containers("[]") == 0
    assert look.containers("") is None and look.containers(None) is None and look.containers("{}") is None


@pytest.mark.parametrize(
    ("text", "caches"),
    [
        ("", ["/vz/template/cache"]),
        ("TEMPLATE=/vz/template\n", ["/vz/template/cache"]),
        ("export TEMPLATE='/a b' # ours\n", ["/a b/cache", "/vz/template/cache"]),
        ('TEMPLATE=/a\n#TEMPLATE=/no\nXTEMPLATE=/no\nTEMPLATE="/b"\n', ["/a/cache", "/b/cache", "/vz/template/cache"]),
        ("TEMPLATE=\nTEMPLATE=relative\n", ["/vz/template/cache"]),
    ],
)
def test_templates_are_where_vz_conf_says_or_said(look: t.Any, text: str, caches: list[str]) -> None:
    assert look.caches(text) == caches


@pytest.mark.parametrize(
    ("folders", "node", "guest"), [((), False, False), (("vz",), True, True), (("vz", "bc"), True, False)]
)
def test_a_container_is_told_from_a_node(
    look: t.Any,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folders: tuple[str, ...],
    node: bool,
    guest: bool,
) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    conf = tmp_path / "vz.conf"
    conf.write_text("# BEGIN ours\n")
    wish = {"proc": str(tmp_path), "conf": str(conf), "marker": "ours"}
    monkeypatch.setattr(sys, "argv", ["look.py", json.dumps(wish)])
    monkeypatch.setattr(look, "output", lambda *command: None)
    look.main()
    said = json.loads(capsys.readouterr().out)
    assert (said["proc_vz"], said["is_guest"], said["vzctl"], said["block"]) == (node, guest, None, True)
