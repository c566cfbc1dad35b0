# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures that a test orders: lines `VERB CODE [TIMES]` in /etc/vz/double.faults."""

from __future__ import annotations

from . import paths
from .say import Say

#: What the tool says for the codes that the tests order.
_WORDS = {
    9: "Container already locked",
    16: "Checkpointing failed",
    17: 'Container restore failed (try to check kernel messages, e.g. "dmesg | tail")',
    33: "Unable to stop container: operation timed out",
    34: "Unable to add IP: the address could not be set up",
    46: "Not enough disk space to create a private area",
    78: "Unable to add IP: the address is used by another machine on the network",
}


def strike(verb: str, say: Say) -> None:
    """Fail here if somebody ordered it; what was ordered TIMES is used up."""
    path = paths.real(paths.FAULTS)
    if not path.exists():
        return
    kept, code = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if code == 0 and len(words) >= 2 and words[0] == verb:
            code = int(words[1])
            left = int(words[2]) - 1 if len(words) > 2 else None
            if left is None:
                kept.append(line)
            elif left > 0:
                kept.append(f"{verb} {code} {left}")
        else:
            kept.append(line)
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    if code:
        raise say.fail(code, _WORDS.get(code, f"failure {code} was ordered"))
