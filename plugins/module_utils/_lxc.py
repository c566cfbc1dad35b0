# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The LXC driver: libvirt's system containers behind the words of this collection.

What a libvirt driver does is the same as under KVM; `_lxc_platform` and `_dialect` hold what is not. A container's
memory is a limit, its vCPUs are a share of processor time, and its disk a file system of its own.
"""

from __future__ import annotations

import functools

from ._kvm import KvmDriver, Options
from ._lxc_platform import LxcPlatform, processes_of

__all__ = ["URI", "LxcDriver", "Options"]

URI = "lxc:///system"


class LxcDriver(KvmDriver):
    """One libvirt connection to the containers of a HostOS."""

    hypervisor = "lxc"

    @functools.cached_property
    def platform(self) -> LxcPlatform:
        return LxcPlatform(self.connection, self.options.state_dir, self.options.emulation)

    def strays(self, uuid: str) -> list[int]:
        """What runs of a container here, whether or not libvirt knows."""
        return processes_of(uuid)
