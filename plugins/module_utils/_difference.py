# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one object that decides `changed`, what check mode says, what `--diff` shows, and what needs a restart.

A driver compares a spec with what it saw and records every difference here; it then applies exactly what is
recorded. Nothing else may set `changed`, so check mode and a real run cannot disagree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

#: How a difference can be made true on a guest that is running.
LIVE = "live"
RESTART = "restart"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One key that differs.

    `before` and `after` are plain data (`None`: not there). `effect` is `live` where the hypervisor can change a
    running guest, `restart` where the change reaches only the persistent configuration until the guest restarts.
    """

    key: str
    before: t.Any
    after: t.Any
    effect: str = LIVE
    secret: bool = False


def redacted(value: t.Any) -> t.Any:
    """A stable stand-in for a secret value: tells whether it changed, never what it is."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]


class Difference:
    """All differences of one subject (a guest), in the order in which they were found."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._entries: dict[str, Entry] = {}

    def compare(self, key: str, before: t.Any, after: t.Any, *, effect: str = LIVE, secret: bool = False) -> bool:
        """Record `key` if `before` and `after` differ; return whether they do."""
        if before == after:
            return False
        self._entries[key] = Entry(key, before, after, effect, secret)
        return True

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    @property
    def changed(self) -> bool:
        """Whether the persistent configuration differs."""
        return bool(self._entries)

    @property
    def restart_keys(self) -> tuple[str, ...]:
        """The keys whose change a running guest sees only after a restart."""
        return tuple(entry.key for entry in self._entries.values() if entry.effect == RESTART)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> Entry:
        return self._entries[key]

    def before_after(self) -> dict[str, t.Any]:
        """What Ansible's `--diff` prints: only the keys that differ, secrets as hashes."""
        sides: dict[str, dict[str, t.Any]] = {"before": {}, "after": {}}
        for entry in self._entries.values():
            for side in ("before", "after"):
                value = getattr(entry, side)
                sides[side][entry.key] = redacted(value) if entry.secret else value
        return {
            "before_header": self.subject,
            "after_header": self.subject,
            "before": json.dumps(sides["before"], indent=2, sort_keys=True, default=str) + "\n",
            "after": json.dumps(sides["after"], indent=2, sort_keys=True, default=str) + "\n",
        }
