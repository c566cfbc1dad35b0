# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import typing as t

import pytest

if t.TYPE_CHECKING:
    from stage import Stage


@pytest.fixture
def play(tmp_path: pathlib.Path) -> Stage:
    from stage import stage  # the finder is installed by now

    return stage(tmp_path)
