# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template is made in a folder that does not stay; the programs that make it need a kernel's loop mounts."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_template
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError


def left(cache: pathlib.Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != ".oscarv.lock")


def test_what_a_killed_run_has_left_is_removed_by_the_next(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    template = cache / "debian-ab.tar.gz"

    def killed(_build: str, _template: pathlib.Path, place: pathlib.Path, _guest: str) -> None:
        (place / "root").write_text("a whole disk")
        os.kill(os.getpid(), signal.SIGKILL)

    def made(_build: str, path: pathlib.Path, place: pathlib.Path, _guest: str) -> None:
        assert [entry.name for entry in cache.iterdir() if entry.is_dir()] == [place.name] and not list(place.iterdir())
        path.touch()

    for number in range(2):
        child = os.fork()
        if child == 0:
            try:
                monkeypatch.setattr(_vz_template, "_make", killed)
                _vz_template.make("build", cache / f"debian-{number}.tar.gz", "wn001")
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert left(cache) == [f".oscarv-debian-{number}.tar.gz"]
    (cache / ".oscarv-x8_7gq").mkdir()
    (cache / "other").touch()
    monkeypatch.setattr(_vz_template, "_make", made)
    _vz_template.make("build", template, "wn001")
    assert left(cache) == ["debian-ab.tar.gz", "other"]


def test_one_that_fails_leaves_nothing(tmp_path: pathlib.Path) -> None:
    build = tmp_path / "build.qcow2"
    build.write_bytes(b"no image")
    with pytest.raises(DriverError):
        _vz_template.make(str(build), tmp_path / "cache/debian-ab.tar.gz", "wn001")
    assert left(tmp_path / "cache") == []
