# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs OpenVZ's tools: no shell, the C locale, and patience with locks."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import time
import typing as t

from ._driver import DriverError
from ._vz_codes import LOCKED, MIGRATE_LOCKED
from ._vz_dialect import LEGACY, Dialect
from ._vz_errors import failed, shown

#: Seconds that somebody else may hold a container's lock; a `create` takes some.
PATIENCE = 30.0
#: The first and the longest pause between two tries.
_FIRST, _LONGEST = 0.2, 3.0
#: Seconds for one command; `stop` alone waits up to 120 before it kills.
SHORT = 600.0
#: The same where all memory or all files are copied; to kill that in the middle is worse than to wait.
LONG = 7200.0


@dataclasses.dataclass(frozen=True)
class Output:
    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """For people: errors last."""
        return f"{self.stdout}\n{self.stderr}"


Execute = t.Callable[[t.Sequence[str], float], Output]


def execute(argv: t.Sequence[str], timeout: float) -> Output:
    """Run it once. DriverError when it is not there or takes too long."""
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C"}
    environment["PATH"] = f"{environment.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=environment, check=False
        )
    except FileNotFoundError:
        raise DriverError(f"{argv[0]} is not installed: this is no OpenVZ HostOS. Run oscarv.virt.hostos") from None
    except subprocess.TimeoutExpired:
        raise DriverError(
            f"`{shown(argv)}` took longer than {timeout:g} s and was killed; look at the HostOS"
        ) from None
    return Output(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class Tools:
    """The tools of one HostOS."""

    def __init__(
        self,
        dialect: Dialect,
        execute: Execute = execute,
        patience: float = PATIENCE,
        sleep: t.Callable[[float], None] = time.sleep,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.dialect = dialect
        self._execute = execute
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    def run(
        self, argv: t.Sequence[str], guest: str = "", *, timeout: float = SHORT, good: t.Container[int] = (0,)
    ) -> Output:
        """Run until it is not locked any more. VzError for a code that is not in `good`.

        What a tool prints on stderr is no sign of failure: vz7 warns of its own age, 4.11 of much else.
        """
        output = self._unlocked(argv, timeout)
        if output.code not in good:
            raise failed(argv, output.code, output.said, self.dialect.name, guest)
        return output

    def _unlocked(self, argv: t.Sequence[str], timeout: float) -> Output:
        deadline = self._clock() + self._patience
        pause = _FIRST
        while True:
            output = self._execute(argv, timeout)
            left = deadline - self._clock()
            if output.code != self._locked(argv[0]) or left <= 0:
                return output
            # Not all at the same moment: several guests are worked on at once.
            self._sleep(min(pause * random.uniform(0.75, 1.25), left))
            pause = min(pause * 2, _LONGEST)

    def _locked(self, tool: str) -> int:
        return MIGRATE_LOCKED[self.dialect.name] if tool == "vzmigrate" else LOCKED


def legacy_tools(execute: Execute) -> Tools:
    """For tests and for the first question, before the dialect is known."""
    return Tools(Dialect(LEGACY, "unknown"), execute)
