# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose files are these, while no domain says so: before a guest is defined, and after it is undefined.

A claim lies beside the root disk and names the guest's uuid and its files. It makes every interruption harmless: what
an interrupted creation left is taken up by the next run, what an interrupted removal left is removed, and disks that
`absent` kept find their guest again. A file at a guest's path without a claim is somebody else's, and is refused.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing as t

from ._driver import Mark
from ._files import write_json
from ._paths import claim_path, claim_paths


@dataclasses.dataclass(frozen=True)
class Claim:
    """Files of one guest that no persistent configuration names."""

    uuid: str
    cluster: str
    guest: str
    pool: str  #: the directory of the pool in which the claim lies: that of the root disk
    fresh: bool = False  #: being made: never defined, so never started, so there is nothing in the disks
    files: t.Mapping[str, str] = dataclasses.field(default_factory=dict)  #: name of the disk -> path; to be kept
    doomed: tuple[str, ...] = ()  #: paths; consent to remove them was given
    seed: str | None = None  #: kept beside the disks, because the guest was not reached yet
    mark: Mark | None = None  #: of the guest that had them, so that it comes back the same

    @property
    def path(self) -> pathlib.Path:
        return claim_path(self.pool, self.cluster, self.guest)

    @property
    def empty(self) -> bool:
        return not (self.files or self.doomed or self.seed)

    @property
    def kept(self) -> dict[str, str]:
        """Disks that are really there, and were not left by an interrupted creation."""
        return {} if self.fresh else {name: path for name, path in self.files.items() if os.path.exists(path)}

    def write(self) -> None:
        """Durable when this returns; replaces the guest's earlier claim. An empty claim is none."""
        if self.empty:
            self.discard()
            return
        self.path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        data = dataclasses.asdict(self)
        del data["pool"]
        write_json(self.path, data)

    def discard(self) -> None:
        """Not synced: if a power failure brings it back, the next run settles and discards it again."""
        self.path.unlink(missing_ok=True)

    def settled(self, named: t.Container[str]) -> Claim:
        """Less what a domain's persistent configuration names now, and less what is gone."""
        return dataclasses.replace(
            self,
            files={name: path for name, path in self.files.items() if path not in named and os.path.lexists(path)},
            doomed=tuple(path for path in self.doomed if os.path.lexists(path)),
            seed=self.seed if self.seed and self.seed not in named and os.path.exists(self.seed) else None,
        )


def read_claims(pools: t.Iterable[str], cluster: str) -> dict[tuple[str, str], Claim]:
    """All claims of a cluster in these directories, by uuid and name; what cannot be read is no claim."""
    found = {}
    for pool in pools:
        for path in claim_paths(pool, cluster):
            claim = _read(path, pool)
            if claim is not None and claim.path == path:
                found[claim.uuid, claim.guest] = claim
    return found


def _read(path: pathlib.Path, pool: str) -> Claim | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        mark = data.pop("mark", None)
        if mark is not None:
            mark = Mark(**{**mark, "nics": tuple(mark.get("nics", ()))})
        data["doomed"] = tuple(data.get("doomed", ()))
        return Claim(mark=mark, pool=pool, **data)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
