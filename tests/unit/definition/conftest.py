# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import typing as t

import pytest


@pytest.fixture
def define(tmp_path: pathlib.Path) -> t.Any:
    from definer import Definer  # the collection can be imported only after the tests' own set-up

    return Definer(tmp_path)
