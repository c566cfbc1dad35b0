# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenVZ driver: containers of vzctl behind the words of this collection."""

from __future__ import annotations

import dataclasses
import typing as t

from . import _vz_argv as argv
from ._driver import CAPABILITIES, Capability, Change, Driver, DriverError, MoveRequest, MoveResult, Observation, Seen
from ._errors import StepFailed
from ._hostos import Acceleration
from ._tombstone import Tombstones
from ._vz_checkpoint import lacking
from ._vz_dialect import read_dialect
from ._vz_ids import ctid_of
from ._vz_jobs import Jobs, read_jobs
from ._vz_observe import observe_all, observe_one
from ._vz_paused import Paused
from ._vz_plan import NO_REBUILD, plan_guest, plan_removal
from ._vz_run import Execute, Tools, execute, legacy_tools
from ._vz_world import Options, Plan, World

__all__ = ["OpenVzDriver", "Options"]

#: Capability -> why no container has it.
CANNOT: dict[str, str] = {
    "live_disk": "a container has the root disk only",
    "uefi": "a container has no firmware",
    "overlay": "a container gets a copy of its template",
    "rebuild": NO_REBUILD,
}


class OpenVzDriver(Driver):
    """The tools of one HostOS. Contract tested against a double; never seen on an OpenVZ kernel."""

    hypervisor = "openvz"

    def __init__(self, options: Options, cluster: str | None = None, run: Execute = execute) -> None:
        self.options = options
        self.cluster = cluster
        dialect = read_dialect(legacy_tools(run).run(argv.version()).stdout)
        self.tools = Tools(dialect, run)
        self.tombstones = Tombstones(options.state_dir)
        self.paused = Paused(options.state_dir)
        self.world: World | None = None

    def capabilities(self) -> dict[str, Capability]:
        missing = {**CANNOT, **lacking(self.tools.dialect, self.options)}
        return {name: Capability(name not in missing, missing.get(name, "")) for name in CAPABILITIES}

    @property
    def pools(self) -> dict[str, str]:
        """Name -> directory of the pools in which builds lie."""
        return self.options.pools

    @property
    def acceleration(self) -> Acceleration:
        """Whether containers run here."""
        return Acceleration("openvz", f"vzctl {self.tools.dialect.version} answers")

    def capacity(self) -> dict[str, int]:
        """The machine's own files tell."""
        return {}

    def versions(self) -> dict[str, str]:
        return {"vzctl": self.tools.dialect.version}

    def observe_all(self) -> Observation:
        observation = observe_all(self.tools, self.options.conf_dir, self.paused, self._jobs())
        self.world = World(self.tools, self.options, observation, self.tombstones.all(), self.paused)
        return observation

    def observe_one(self, uuid: str) -> Seen | None:
        """One guest as it is now; None if it is not there."""
        ctid = ctid_of(uuid, self.tools.dialect)
        return observe_one(self.tools, self.options.conf_dir, self.paused, ctid, self._jobs())

    def job(self, ctid: str, uuid: str) -> str | None:
        """What works on a container's move now, also where `vzlist` does not show the container."""
        return self._jobs()(ctid, uuid)

    def _jobs(self) -> Jobs:
        return read_jobs(self.options.path("/proc"), self.options.mount_point)

    def leaving(self, uuids: t.Iterable[str]) -> None:
        """These guests are removed before anything else."""
        self.world = dataclasses.replace(self._seen_world(), leaving=frozenset(uuids))

    def plan(self, spec: t.Any, seen: Seen | None) -> Plan:
        return plan_guest(self._seen_world(), spec, seen)

    def plan_removal(self, name: str, uuid: str, epoch: int, seen: Seen | None) -> Plan:
        return plan_removal(self._seen_world(), name, uuid, epoch, seen)

    def before(self, changes: t.Iterable[Change]) -> None:
        """Nothing is quicker for all at once: `vzctl stop` waits for each by itself."""

    def apply(self, change: Change) -> Seen | None:
        """StepFailed tells how far it got; the next run goes on from there."""
        plan = t.cast(Plan, change)
        taken: list[str] = []
        for step in plan.todo:
            try:
                step.run()
            except (DriverError, OSError) as error:
                text = str(error) if isinstance(error, DriverError) else f"{step.words or 'bookkeeping'}: {error}"
                raise StepFailed(text, taken) from error
            taken.extend([step.words] if step.words else [])
        return self.observe_one(plan.spec.uuid) if plan.todo else plan.seen

    def move(self, request: MoveRequest) -> MoveResult:
        from . import _vz_move  # it is built on this file

        return _vz_move.move(self, request, _vz_move.Far(request.target, request.target_address))

    def close(self) -> None:
        """There is no connection."""

    def _seen_world(self) -> World:
        if self.world is None:
            raise DriverError("the HostOS was not read yet: call observe_all before plan")
        return self.world
