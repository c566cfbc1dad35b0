# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan for a container is made of: one HostOS as it was read, consents, and the steps decided so far."""

from __future__ import annotations

import dataclasses
import enum
import json
import pathlib
import typing as t

from ._driver import Change, DriverError, Mark, Observation, Seen
from ._paths import STATE_DIR
from ._tombstone import Tombstone
from ._vz_conf import read_conf
from ._vz_ids import ctid_of
from ._vz_observe import Native
from ._vz_paused import Paused
from ._vz_run import SHORT, Tools
from ._vz_settings import Tuning

#: What role hostos_openvz writes into the state directory, and what holds without it.
POOLS = "pools.json"
_POOLS = {"local": "/var/lib/oscarv"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the caller consents to, and where the files are."""

    state_dir: str = STATE_DIR
    root: str = ""  #: put before every path that OpenVZ's tools name; for the tests
    template_prefix: str = "debian"  #: vzctl takes a template's name up to the first dash for its distribution
    remove_disks: bool = False
    force_stop: bool = False
    shutdown_timeout: float = 120.0  #: seconds; vzctl has a limit of its own, so only 0 counts: do not ask
    contacted: frozenset[str] = frozenset()  #: names of guests whose seed may be deleted
    builds_expected: frozenset[str] = frozenset()  #: in check mode: builds that a run would have fetched before
    host_keys_private: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    tuning: Tuning = Tuning()

    @property
    def conf_dir(self) -> pathlib.Path:
        return self.path("/etc/vz/conf")

    @property
    def pools(self) -> dict[str, str]:
        """Name -> directory, as role hostos_openvz has noted them: where builds are put."""
        try:
            text = (pathlib.Path(self.state_dir) / POOLS).read_text(encoding="utf-8")
        except FileNotFoundError:
            return dict(_POOLS)
        return {str(name): str(path) for name, path in json.loads(text).items()}

    @property
    def template_dir(self) -> pathlib.Path:
        return self.path(self._global("TEMPLATE", "/vz/template")) / "cache"

    @property
    def default_template(self) -> str:
        """What vzctl makes a container of where nobody says anything; empty if vz.conf does not tell."""
        return self._global("DEF_OSTEMPLATE", "")

    def private(self, ctid: str) -> pathlib.Path:
        """Where `create` will put a container's files."""
        return self.path(self._global("VE_PRIVATE", "/vz/private/$VEID", ctid))

    def mount_point(self, ctid: str) -> pathlib.Path:
        """Where a container's files are while it is mounted."""
        return self.path(self._global("VE_ROOT", "/vz/root/$VEID", ctid))

    def path(self, shown: str) -> pathlib.Path:
        """Where a path that a tool or a configuration names really is."""
        return pathlib.Path(self.root + shown)

    def _global(self, key: str, default: str, ctid: str = "0") -> str:
        """A setting of vz.conf."""
        try:
            text = self.path("/etc/vz/vz.conf").read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            text = ""
        return read_conf(text, ctid).get(key) or read_conf(f'X="{default}"', ctid)["X"]

    def template(self, build_id: str) -> str:
        return f"{self.template_prefix}-{build_id}"

    @property
    def seed_work(self) -> pathlib.Path:
        return pathlib.Path(self.state_dir) / "seeds"


@dataclasses.dataclass(frozen=True)
class World:
    """One HostOS, read once before anything is planned."""

    tools: Tools
    options: Options
    observation: Observation
    tombstones: t.Mapping[str, Tombstone]
    paused: Paused
    leaving: frozenset[str] = frozenset()

    @property
    def everybody(self) -> tuple[Seen, ...]:
        return (*self.observation.guests.values(), *self.observation.foreign)


class Phase(enum.IntEnum):
    """The order in which the steps of one guest are taken."""

    STOP = 0
    DEFINE = 1
    PREPARE = 2  #: files inside a container that was made
    POWER = 3


@dataclasses.dataclass(frozen=True)
class Step:
    phase: Phase
    words: str  #: for people; empty for what is of no interest to them
    run: t.Callable[[], object]


def _needed(name: str) -> t.Any:
    raise TypeError(f"Plan needs {name}")


@dataclasses.dataclass
class Plan(Change):
    """A Change whose steps can be taken. `apply` runs `todo`, nothing else."""

    world: World = dataclasses.field(default_factory=lambda: _needed("world"), repr=False)
    todo: list[Step] = dataclasses.field(default_factory=list, repr=False)

    def add(self, phase: Phase, words: str, run: t.Callable[[], object]) -> None:
        self.todo.append(Step(phase, words, run))
        self.todo.sort(key=lambda step: step.phase)
        self.steps = [step.words for step in self.todo if step.words]

    @property
    def ctid(self) -> str:
        return ctid_of(self.spec.uuid, self.world.tools.dialect)

    @property
    def native(self) -> Native:
        return t.cast(Native, t.cast(Seen, self.seen).native)

    @property
    def mark(self) -> Mark:
        return t.cast(Mark, t.cast(Seen, self.seen).mark)

    def run(self, words: t.Sequence[str], good: t.Container[int] = (0,), timeout: float = SHORT) -> str:
        return self.world.tools.run(words, self.spec.name, good=good, timeout=timeout).stdout

    def error(self, text: str) -> DriverError:
        return DriverError(f"guest {self.spec.name}: {text}")
