# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver is: the only code that knows a hypervisor.

Modules talk to a driver in this order: `capabilities` -> `observe_all` -> `plan` for every guest -> refuse or
`apply`. A driver never decides where a guest runs, and never changes what `plan` did not show.
"""

from __future__ import annotations

import abc
import dataclasses
import typing as t

from ._difference import Difference
from ._spec import GuestSpec

#: Every capability that a driver must answer for, with what it means. The matrix in the docs is made from this.
CAPABILITIES: dict[str, str] = {
    "define": "define and undefine a guest",
    "start_stop": "start, shut down and power off",
    "pause": "pause and resume a running guest",
    "save": "save the memory of a running guest to disk, and go on from there",
    "autostart": "start a guest when its HostOS boots",
    "live_vcpus": "change the number of vCPUs of a running guest",
    "live_memory": "change the memory of a running guest",
    "live_nic": "add, change and remove NICs of a running guest",
    "live_disk": "add and remove data disks of a running guest",
    "live_disk_growth": "grow a disk of a running guest",
    "cold_move": "move a stopped guest",
    "live_move": "move a running guest",
    "live_move_local_disk": "move a running guest whose disks are on a local pool",
    "uefi": "boot with UEFI",
    "overlay": "root disk as an overlay on a build",
    "rebuild": "make the root disk of a guest anew, which stays the guest that it is",
}


@dataclasses.dataclass(frozen=True)
class Capability:
    """Whether a HostOS can do something, and if not, why."""

    supported: bool
    reason: str = ""


class DriverError(Exception):
    """Something that a driver refused or that failed; the message names the guest, what was wrong and what to do."""


class Unsupported(DriverError):
    """A spec asks for what this driver or HostOS cannot do."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """Our metadata on a domain or container. Enough to rebuild a lost ledger."""

    cluster: str
    guest: str
    uuid: str
    partition: str
    epoch: int
    build_id: str | None
    image: str | None = None
    host_key: str | None = None  #: public ed25519 host key: "ssh-ed25519 AAAA..."
    nics: tuple[dict[str, t.Any], ...] = ()  #: name, network, mac, addresses of each NIC


@dataclasses.dataclass(frozen=True)
class Seen:
    """A guest as a HostOS has it. `mark` is None for a foreign one."""

    name: str
    uuid: str
    state: str  #: running | paused | stopped | saved | crashed | moving
    mark: Mark | None
    vcpus: int
    memory: int  #: bytes, persistent configuration
    vcpus_live: int | None = None  #: None: not running
    memory_live: int | None = None  #: bytes; None: not running
    autostart: bool = False
    persistent: bool = True
    restart_required: bool = False  #: the running configuration differs from the persistent one
    disks: tuple[dict[str, t.Any], ...] = ()  #: name, path, pool, size (bytes), backing
    nics: tuple[dict[str, t.Any], ...] = ()  #: mac, bridge, model
    seed: str | None = None  #: path of the seed, if one is attached
    console_log: str | None = None  #: path of the log of its console, where one is kept
    native: t.Any = dataclasses.field(default=None, repr=False, compare=False)  #: the driver's own object


@dataclasses.dataclass(frozen=True)
class Observation:
    """Everything on one HostOS, read in bulk."""

    guests: t.Mapping[str, Seen]  #: by uuid; ours, of every cluster
    foreign: tuple[Seen, ...]

    def find(self, spec: GuestSpec) -> Seen | None:
        return self.guests.get(spec.uuid)


@dataclasses.dataclass
class Change:
    """What `plan` decided for one guest: the differences and the steps, in order, that make them true."""

    spec: GuestSpec
    seen: Seen | None
    difference: Difference
    steps: list[str] = dataclasses.field(
        default_factory=list
    )  #: words for people, e.g. "define", "create disk root", "start"
    restart_required: bool = False
    build_outdated: bool = False


#: What may change while a guest's memory is saved. A restore brings everything else as it was saved.
_BESIDE_SAVED = ("state", "autostart")


def refuse_beside_saved(change: Change) -> None:
    """DriverError for changes of a guest whose memory is saved. Its devices must be what its memory knows."""
    wrong = [entry.key for entry in change.difference.entries if entry.key not in _BESIDE_SAVED]
    if wrong:
        raise DriverError(
            f"guest {change.spec.name}: its memory is saved, and {', '.join(wrong)} cannot change under it: start it as"
            " it was (state: running), then change it"
        )


@dataclasses.dataclass(frozen=True)
class MoveRequest:
    """One guest to be moved away from this HostOS. `epoch` is the new one, already in the ledger as intent."""

    spec: GuestSpec  #: as it shall be on the target: the new epoch
    target: str  #: inventory name of the target HostOS, for messages and marks
    target_address: str  #: what the source uses to reach the target
    mode: str  #: live | cold
    bandwidth: int | None = None  #: bytes per second
    timeout: int | None = None  #: seconds for the whole move
    plaintext: bool = False  #: consent to move memory and disks unencrypted
    move: str = ""  #: id of the move in the ledger
    hypervisor: str = ""  #: of the target; empty: the same as here
    acceleration: str = ""  #: of the target, as its hostos_info has found; matters where it has another hypervisor
    coming: tuple[str, ...] = ()  #: builds that the target lacks and would have got; check mode only


@dataclasses.dataclass(frozen=True)
class MoveResult:
    """What was proved after a move."""

    guest: str
    moved: bool
    state: str  #: of the guest on the target
    gone_from_source: bool
    seconds: float
    downtime_ms: int | None = None
    message: str = ""  #: what went wrong after the move itself, in words
    mode: str = ""  #: live | cold: what was done, whatever was asked for
    already: bool = False  #: it was there before, with this epoch
    memory_bytes: int | None = None  #: that were sent
    disks: tuple[dict[str, t.Any], ...] = ()  #: name, pool, path, copied, bytes
    warnings: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()  #: files of the guest that were removed from the source
    pending: tuple[
        dict[str, t.Any], ...
    ] = ()  #: {host, action, uuid, guest, epoch, move} that must follow, in this order


class Driver(abc.ABC):
    """A hypervisor behind the words of this collection."""

    hypervisor: t.ClassVar[str]

    @abc.abstractmethod
    def capabilities(self) -> dict[str, Capability]:
        """One entry for each of CAPABILITIES, for this HostOS as it is now."""

    @abc.abstractmethod
    def observe_all(self) -> Observation:
        """Read all guests in bulk; the cost must not grow with a round trip per guest where it can be avoided."""

    @abc.abstractmethod
    def plan(self, spec: GuestSpec, seen: Seen | None) -> Change:
        """Compare; change nothing. Raises DriverError or Unsupported where the spec cannot be made true."""

    @abc.abstractmethod
    def apply(self, change: Change) -> Seen | None:
        """Make the change true and return what is there afterwards (None: removed)."""

    @abc.abstractmethod
    def move(self, request: MoveRequest) -> MoveResult:
        """Move one guest and prove that it runs exactly once."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back connections."""
