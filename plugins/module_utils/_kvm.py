# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The KVM driver: libvirt's QEMU domains behind the words of this collection."""

from __future__ import annotations

import dataclasses
import typing as t

from ._driver import Capability, Change, Driver, MoveRequest, MoveResult, Observation, Seen
from ._kvm_connection import DEFAULT_URI, open_connection
from ._kvm_observe import observe_all, observe_one, pool_paths
from ._paths import STATE_DIR
from ._spec import GuestSpec


@dataclasses.dataclass(frozen=True)
class Options:
    """What the caller consents to and how long it waits."""

    uri: str = DEFAULT_URI
    state_dir: str = STATE_DIR
    allow_restart: bool = False
    remove_disks: bool = False
    force_stop: bool = False
    shutdown_timeout: float = 120.0  #: seconds
    contacted: frozenset[str] = frozenset()  #: names of guests whose seed may be ejected
    host_keys_private: t.Mapping[str, str] = dataclasses.field(default_factory=dict)  #: guest -> OpenSSH private key


class KvmDriver(Driver):
    """One libvirt connection; safe to use from several threads, as libvirt's connections are."""

    hypervisor = "kvm"

    def __init__(self, options: Options, connection: t.Any = None) -> None:
        self.options = options
        self.connection = connection if connection is not None else open_connection(options.uri)
        self._pools: dict[str, str] | None = None

    @property
    def pools(self) -> dict[str, str]:
        """Name -> directory of the active storage pools; read once."""
        if self._pools is None:
            self._pools = pool_paths(self.connection)
        return self._pools

    def capabilities(self) -> dict[str, Capability]:
        raise NotImplementedError

    def observe_all(self) -> Observation:
        return observe_all(self.connection, self.pools)

    def observe_one(self, uuid: str) -> Seen | None:
        """One guest as it is now; None if it is not there."""
        return observe_one(self.connection, uuid, self.pools)

    def plan(self, spec: GuestSpec, seen: Seen | None) -> Change:
        raise NotImplementedError

    def apply(self, change: Change) -> Seen | None:
        raise NotImplementedError

    def move(self, request: MoveRequest) -> MoveResult:
        from . import _kvm_move  # written and shipped on its own; only guest_migrate needs it

        return t.cast(MoveResult, _kvm_move.move(self, request))

    def close(self) -> None:
        self.connection.close()
