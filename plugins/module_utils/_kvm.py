# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The KVM driver: libvirt's QEMU domains behind the words of this collection."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ._claims import read_claims
from ._driver import Capability, Change, Driver, DriverError, MoveRequest, MoveResult, Observation, Seen
from ._errors import StepFailed
from ._hostos import Acceleration
from ._kvm_capabilities import capabilities
from ._kvm_connection import open_connection, require_libvirt, told
from ._kvm_observe import observe_all, observe_one, pool_paths, qemu_processes
from ._kvm_plan import plan_guest, plan_removal
from ._kvm_platform import Platform
from ._kvm_power import ask
from ._kvm_world import Options, Plan, World
from ._spec import GuestSpec
from ._tombstone import Tombstones

__all__ = ["KvmDriver", "Options"]


class KvmDriver(Driver):
    """One libvirt connection; safe to use from several threads, as libvirt's connections are."""

    hypervisor = "kvm"

    def __init__(self, options: Options, cluster: str | None = None, connection: t.Any = None) -> None:
        """`cluster`: whose claims on files are read; needed to plan."""
        self.options = options
        self.cluster = cluster
        self.connection = connection if connection is not None else open_connection(options.uri)
        self.tombstones = Tombstones(options.state_dir)
        self.world: World | None = None

    @functools.cached_property
    def pools(self) -> dict[str, str]:
        """Name -> directory of the active storage pools; read once."""
        return pool_paths(self.connection)

    @functools.cached_property
    def platform(self) -> Platform:
        return Platform(self.connection, self.options.state_dir, self.options.emulation)

    @property
    def acceleration(self) -> Acceleration:
        """What guests run with."""
        return self.platform.acceleration

    def capabilities(self) -> dict[str, Capability]:
        return capabilities(self.platform)

    def capabilities_of(self, seen: Seen) -> dict[str, Capability]:
        """What can be done with this guest, where that differs from guest to guest."""
        return self.capabilities()

    def capacity(self) -> dict[str, int]:
        """What there is for guests where the machine's own files do not tell; bytes and processors."""
        return {}

    def strays(self, uuid: str) -> list[t.Any]:
        """What runs of a guest here, whether or not libvirt knows: the process ids of its QEMUs."""
        return qemu_processes(uuid)

    def versions(self) -> dict[str, str]:
        """Of libvirt's daemon and of the hypervisor."""
        name = self.platform.dialect.tells_hypervisor
        with told("(any)", "ask libvirt for its version"):
            numbers = {"libvirt": self.connection.getLibVersion(), name: self.connection.getVersion()}
        return {name: f"{n // 1000000}.{n // 1000 % 1000}.{n % 1000}" for name, n in numbers.items()}

    def observe_all(self) -> Observation:
        observation = observe_all(self.connection, self.pools)
        has_files = self.cluster is not None and not self.platform.simulator
        self.world = World(
            connection=self.connection,
            platform=self.platform,
            options=self.options,
            pools=self.pools,
            observation=observation,
            tombstones=self.tombstones.all(),
            claims=read_claims(self.pools.values(), t.cast(str, self.cluster)) if has_files else {},
        )
        return observation

    def observe_one(self, uuid: str) -> Seen | None:
        """One guest as it is now; None if it is not there."""
        return observe_one(self.connection, uuid, self.pools)

    def leaving(self, uuids: t.Iterable[str]) -> None:
        """These guests are removed before anything else: their names, addresses and files become free."""
        self.world = dataclasses.replace(self._seen_world(), leaving=frozenset(uuids))

    def plan(self, spec: GuestSpec, seen: Seen | None) -> Plan:
        return plan_guest(self._seen_world(), spec, seen)

    def plan_removal(self, name: str, uuid: str, epoch: int, seen: Seen | None) -> Plan:
        """Remove a guest that has no spec any more; `epoch` is what the ledger calls its newest."""
        return plan_removal(self._seen_world(), name, uuid, epoch, seen)

    def before(self, changes: t.Iterable[Change]) -> None:
        """Ask every guest that is to be shut down at once, so that they do it at the same time."""
        for change in changes:
            plan = t.cast(Plan, change)
            # Not one that restarts (all would be away at once), nor one that is gone once it stops.
            waits = "shut down" in plan.steps and not plan.restarts and plan.seen is not None and plan.seen.persistent
            if waits and plan.native.active and self.options.shutdown_timeout > 0:
                ask(plan)

    def apply(self, change: Change) -> Seen | None:
        """StepFailed tells how far it got; the next run goes on from there."""
        plan = t.cast(Plan, change)
        taken: list[str] = []
        for step in plan.todo:
            try:
                step.run()
            except (DriverError, OSError, require_libvirt().libvirtError) as error:
                text = str(error) if isinstance(error, DriverError) else f"{step.words or 'bookkeeping'}: {error}"
                raise StepFailed(text, taken) from error
            taken.extend([step.words] if step.words else [])
        return self.observe_one(plan.spec.uuid) if plan.todo else plan.seen

    def move(self, request: MoveRequest) -> MoveResult:
        from . import _kvm_move  # written and shipped on its own; only guest_migrate needs it

        result: MoveResult = _kvm_move.move(self, request)
        return result

    def close(self) -> None:
        self.connection.close()

    def _seen_world(self) -> World:
        if self.world is None:
            raise DriverError("the HostOS was not read yet: call observe_all before plan")
        return self.world
