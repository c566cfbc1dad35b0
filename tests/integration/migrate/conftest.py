# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab called t-mig with two KVM HostOSes (root); up for the session, gone after it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import typing as t

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tiny
from rack import Beacons, Rack
from rack_lab import CACHE, lab_up


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: too slow for CI; `make test-long` runs it")


@pytest.fixture(scope="session")
def rack(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rack]:
    if os.geteuid() != 0:
        pytest.fail("these tests make real machines: run them as root")
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = os.environ.get("OSCARV_TEST_RACK")
    if kept:  # for work on these tests: made in this folder by the first session, and left there
        folder = pathlib.Path(kept)
        folder.mkdir(parents=True, exist_ok=True)
        left = Rack("t-mig", folder, tiny.build(CACHE))
        if not (folder / "hosts.yml").exists():
            contextlib.ExitStack().enter_context(lab_up(left))
        yield left
        return
    with lab_up(Rack("t-mig", tmp_path_factory.mktemp("rack"), tiny.build(CACHE))) as up:
        yield up


@pytest.fixture(scope="session")
def beacons(rack: Rack) -> t.Iterator[Beacons]:
    listening = Beacons()
    yield listening
    listening.close()
