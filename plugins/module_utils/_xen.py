# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Xen driver: libvirt's libxl domains behind the words of this collection.

What a libvirt driver does is the same as under KVM; `_xen_platform` and `_dialect` hold what is not. What libxl cannot
do is refused with its reason: live growth of disks, live moves of disks, and of PV guests where Xen has no shadow
paging.
"""

from __future__ import annotations

import functools
import typing as t

from ._driver import Capability, Seen
from ._kvm import KvmDriver, Options
from ._kvm_capabilities import capabilities
from ._kvm_connection import told
from ._kvm_observe import Native
from ._xen_platform import XenPlatform, missing_for, running_uuids

__all__ = ["URI", "Options", "XenDriver"]

URI = "xen:///system"


class XenDriver(KvmDriver):
    """One libvirt connection to a Xen HostOS."""

    hypervisor = "xen"

    @functools.cached_property
    def platform(self) -> XenPlatform:
        return XenPlatform(self.connection, self.options.state_dir, self.options.emulation)

    def capacity(self) -> dict[str, int]:
        """All of the machine but what dom0 has taken for itself; dom0's own files would tell of dom0 only."""
        info = self.platform.info
        with told("(any)", "ask libvirt how much memory dom0 has"):
            dom0 = self.connection.lookupByID(0).maxMemory() * 1024
        return {"vcpus": info.processors, "memory": info.memory - min(dom0, info.memory)}

    def capabilities_of(self, seen: Seen) -> dict[str, Capability]:
        """What can be done with this guest: its type decides."""
        config = t.cast(Native, seen.native).config
        missing = missing_for(self.platform.type_of(config), self.platform.info.caps)
        return capabilities(self.platform, missing)

    def strays(self, uuid: str) -> list[str]:
        """Xen's own word: a domain that is still dying, or that somebody made beside libvirt."""
        return [uuid] if uuid in running_uuids() else []
