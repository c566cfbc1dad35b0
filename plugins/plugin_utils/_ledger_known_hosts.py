# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`.oscarv/known_hosts` beside the definition: so that people's own ssh verifies guests from the first contact on.

    ssh -o UserKnownHostsFile=.oscarv/known_hosts -o HostKeyAlias=wn001 root@10.0.4.21

Ansible itself does not need the file: the inventory plugin gives each guest its key.
"""

from __future__ import annotations

import os
import pathlib
import re
import tempfile

from ._ledger_rows import LedgerState
from ._model import Cluster

_HEADER = "# Written by oscarv.virt from the ledger of cluster {}; changes are lost.\n"
_WORD = re.compile(r"[A-Za-z0-9.:_-]+")


def path_of(cluster: Cluster) -> pathlib.Path:
    return pathlib.Path(cluster.definition).parent / ".oscarv" / "known_hosts"


def text_of(state: LedgerState) -> str:
    """One line per guest that has a key and was not released: name, addresses, key."""
    addresses: dict[str, list[str]] = {}
    for nic in sorted(state.nics.values(), key=lambda nic: nic.position):
        if nic.position >= 0 and nic.free_after is None:  # neither detached nor resting
            addresses.setdefault(nic.guest, []).extend(nic.addresses)
    lines = []
    for row in sorted(state.guests.values(), key=lambda row: row.name):
        key = state.host_keys.get(row.uuid)
        names = [row.name, *addresses.get(row.uuid, ())]
        # Names come from the definition; a ledger that somebody edited must not add patterns or lines here.
        if key and row.state != "released" and all(_WORD.fullmatch(name) for name in names):
            lines.append(f"{','.join(names)} {key.key}\n")
    return _HEADER.format(state.cluster) + "".join(lines) if lines else ""


def outdated(cluster: Cluster, text: str) -> bool:
    """Whether the file has to be written."""
    try:
        return path_of(cluster).read_text(encoding="utf-8") != text
    except FileNotFoundError:
        return bool(text)


def write(cluster: Cluster, text: str) -> None:
    """May raise OSError."""
    path = path_of(cluster)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, 0o644)


def write_whole(path: pathlib.Path, text: str, mode: int) -> None:
    """Replace the file at once: a reader sees the old one or the new one, whole. May raise OSError.

    Every writer has a temporary name of its own: two runs may end at the same time.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        pathlib.Path(temporary).replace(path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
