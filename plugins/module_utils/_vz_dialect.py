# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generation of OpenVZ's tools is here: `legacy` (vzctl 4 and older) or `vz7` (libvzctl, 7 and newer)."""

from __future__ import annotations

import dataclasses
import re

from ._driver import DriverError

LEGACY = "legacy"
VZ7 = "vz7"

_VERSION = re.compile(r"^vzctl version (\d+(?:\.\d+)*)(\S*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The generation, and the version that it was read from."""

    name: str  #: legacy | vz7
    version: str  #: as the tool gives it, e.g. "4.11.1-3.ga3f732ef"

    @property
    def legacy(self) -> bool:
        return self.name == LEGACY

    @property
    def has_pause(self) -> bool:
        """Whether `status` and `vzlist` tell a paused container from a running one."""
        return not self.legacy


def read_dialect(text: str) -> Dialect:
    """From what `vzctl --version` printed. DriverError for a generation that nobody has described."""
    match = _VERSION.search(text)
    if match is None:
        first = text.strip().splitlines()[0] if text.strip() else "nothing"
        raise DriverError(f"`vzctl --version` printed {first!r} instead of its version: is this OpenVZ's vzctl?")
    major = int(match.group(1).split(".")[0])
    version = match.group(1) + match.group(2)
    if major <= 4:
        return Dialect(LEGACY, version)
    if major >= 7:
        return Dialect(VZ7, version)
    raise DriverError(f"vzctl {version}: only versions up to 4 (OpenVZ legacy) and from 7 (OpenVZ 7, VHS) are known")
