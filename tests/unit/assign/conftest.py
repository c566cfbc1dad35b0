# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh world for each test."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

if t.TYPE_CHECKING:
    from world import World


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    from world import World  # the collection can be imported only when pytest is configured

    return World(tmp_path)
