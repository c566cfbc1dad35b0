# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import typing as t

import pytest
from xen_played import INFO, PlayedConnection

if t.TYPE_CHECKING:
    from ansible_collections.oscarv.virt.plugins.module_utils._xen_platform import XenPlatform


@pytest.fixture
def platform(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> XenPlatform:
    """A HostOS whose Xen has HAP and, as Debian's, no shadow paging; GRUB for guests is installed."""
    from ansible_collections.oscarv.virt.plugins.module_utils import _xen_platform as module
    from ansible_collections.oscarv.virt.plugins.module_utils import _xen_xml

    grub = {name: str(tmp_path / f"{name}.bin") for name in _xen_xml.GRUB}
    for path in grub.values():
        pathlib.Path(path).touch()
    monkeypatch.setattr(_xen_xml, "GRUB", grub)
    made = module.XenPlatform(PlayedConnection(), str(tmp_path))
    made.info = module.parse_info(INFO)
    return made
