# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The LXC driver: libvirt's system containers behind the words of this collection.

What a libvirt driver does is the same as under KVM; `_lxc_platform` and `_dialect` hold what is not. A container's
memory is a limit, its vCPUs are a share of processor time, and its disk a file system of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ._driver import Observation, Seen
from ._kvm import KvmDriver, Options
from ._lxc_platform import LxcPlatform
from ._lxc_process import processes, processes_of

__all__ = ["URI", "LxcDriver", "Options"]

URI = "lxc:///system"


class LxcDriver(KvmDriver):
    """One libvirt connection to the containers of a HostOS."""

    hypervisor = "lxc"

    @functools.cached_property
    def platform(self) -> LxcPlatform:
        return LxcPlatform(self.connection, self.options.state_dir, self.options.emulation)

    def observe_all(self) -> Observation:
        observation = super().observe_all()
        running = processes()
        guests = {uuid: _as_it_is(seen, running) for uuid, seen in observation.guests.items()}
        found = dataclasses.replace(observation, guests=guests)
        self.world = dataclasses.replace(self._seen_world(), observation=found)
        return found

    def observe_one(self, uuid: str) -> Seen | None:
        seen = super().observe_one(uuid)
        return _as_it_is(seen, processes()) if seen is not None else None

    def strays(self, uuid: str) -> list[int]:
        """What runs of a container here, whether or not libvirt knows."""
        return processes_of(uuid)


def _as_it_is(seen: Seen, running: t.Container[str]) -> Seen:
    """A container that libvirt believes to run and that has no process has crashed, as far as libvirt goes."""
    if seen.state in ("running", "paused") and seen.uuid not in running:
        return dataclasses.replace(seen, state="crashed")
    return seen
