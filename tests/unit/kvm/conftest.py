# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from kvm_plain import PLAIN

if t.TYPE_CHECKING:
    from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec


@pytest.fixture
def spec() -> GuestSpec:
    from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec  # the finder is installed by now

    return GuestSpec.from_plain(PLAIN)
