# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs the containers under the double. The tools' contract is above this line, a container's life below it."""

from __future__ import annotations

import abc
import json
import os
import shutil
import subprocess
import typing as t

from . import paths

if t.TYPE_CHECKING:
    from .container import Container


class Backend(abc.ABC):
    """A container's life, without words and exit codes."""

    #: Whether the memory of a running container can be taken along. Nothing here can; Recording has none to lose.
    checkpoints = False

    @abc.abstractmethod
    def running(self, ct: Container) -> bool: ...

    @abc.abstractmethod
    def mounted(self, ct: Container) -> bool: ...

    @abc.abstractmethod
    def mount(self, ct: Container) -> None: ...

    @abc.abstractmethod
    def umount(self, ct: Container) -> None: ...

    @abc.abstractmethod
    def start(self, ct: Container) -> None:
        """Limits and NICs are in `ct.conf`."""

    @abc.abstractmethod
    def stop(self, ct: Container, *, fast: bool) -> None: ...

    @abc.abstractmethod
    def freeze(self, ct: Container) -> None: ...

    @abc.abstractmethod
    def thaw(self, ct: Container) -> None: ...

    @abc.abstractmethod
    def change(self, ct: Container, changes: t.Mapping[str, str]) -> None:
        """Make new values of the configuration effective in a running container."""

    @abc.abstractmethod
    def execute(self, ct: Container, argv: t.Sequence[str]) -> int:
        """Run it inside; stdin, stdout and stderr are passed on."""


class Recording(Backend):
    """Nothing runs; what would is written down in /vz/double. Commands "inside" run here: unit tests only."""

    checkpoints = True

    def _path(self, ct: Container) -> t.Any:
        return paths.real(f"/vz/double/{ct.ctid}.json")

    def _state(self, ct: Container) -> dict[str, t.Any]:
        path = self._path(ct)
        if not path.exists():
            return {"running": False, "mounted": False, "frozen": False, "acts": []}
        return t.cast("dict[str, t.Any]", json.loads(path.read_text(encoding="utf-8")))

    def _act(self, ct: Container, act: str, **changes: t.Any) -> None:
        state = {**self._state(ct), **changes}
        state["acts"].append(act)
        path = self._path(ct)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(state), encoding="utf-8")

    def running(self, ct: Container) -> bool:
        return bool(self._state(ct)["running"])

    def mounted(self, ct: Container) -> bool:
        return bool(self._state(ct)["mounted"])

    def mount(self, ct: Container) -> None:
        self._act(ct, "mount", mounted=True)

    def umount(self, ct: Container) -> None:
        self._act(ct, "umount", mounted=False)

    def start(self, ct: Container) -> None:
        self._act(ct, "start", running=True)

    def stop(self, ct: Container, *, fast: bool) -> None:
        self._act(ct, "kill" if fast else "stop", running=False, frozen=False)

    def freeze(self, ct: Container) -> None:
        self._act(ct, "freeze", frozen=True)

    def thaw(self, ct: Container) -> None:
        self._act(ct, "thaw", frozen=False)

    def change(self, ct: Container, changes: t.Mapping[str, str]) -> None:
        self._act(ct, f"change {json.dumps(dict(changes), sort_keys=True)}")

    def execute(self, ct: Container, argv: t.Sequence[str]) -> int:
        self._act(ct, f"execute {' '.join(argv)}")
        return subprocess.run(list(argv), check=False, cwd="/").returncode


def backend() -> Backend:
    name = os.environ.get("OPENVZ_DOUBLE_BACKEND", "lxc")
    if name == "recording":
        return Recording()
    if name == "lxc":
        from .lxc import Lxc  # it is built on this file

        return Lxc()
    raise SystemExit(f"openvz double: OPENVZ_DOUBLE_BACKEND is {name!r}; there are: lxc, recording")


def remove_tree(path: t.Any) -> None:
    shutil.rmtree(path, ignore_errors=True)
