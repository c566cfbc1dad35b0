# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of packages that all HostOSes of all labs give to and take from."""

from __future__ import annotations

import concurrent.futures
import pathlib
import threading

from oscarv_lab.machine import link_packages

NAMES = [f"package{number:04}_1_all.deb" for number in range(500)]
GIVERS = 6


def test_hostoses_give_the_same_packages_at_the_same_time(tmp_path: pathlib.Path) -> None:
    for giver in range(GIVERS):
        (tmp_path / f"from{giver}").mkdir()
        for name in NAMES:
            (tmp_path / f"from{giver}" / name).touch()
    together = threading.Barrier(GIVERS)

    def give(giver: int) -> None:
        together.wait()
        link_packages(tmp_path / f"from{giver}", tmp_path / "all")

    with concurrent.futures.ThreadPoolExecutor(GIVERS) as pool:
        list(pool.map(give, range(GIVERS)))
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == NAMES
