# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our mark as a container's description, the one free text that the tools keep and list in bulk.

    oscarv.virt:1:demo/wn001:eNqrVkrLz1eyUkpKLFKqBQAeOQUL

The last part is the mark as compressed JSON in URL-safe base64: vzlist does not escape strings and the configuration is
read as shell, so nothing but letters, digits and harmless signs may stand there. The part before it is for people.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import typing as t
import zlib

from ._driver import Mark

PREFIX = "oscarv.virt:1:"
#: A mark that unpacks to more is not ours.
_LARGEST = 64 * 1024


def describe(mark: Mark, ctid: str) -> str:
    """The description. `ctid`: a copy of the configuration under another number is not ours."""
    data = {**dataclasses.asdict(mark), "ctid": ctid}
    packed = zlib.compress(json.dumps(data, sort_keys=True, separators=(",", ":")).encode(), 9)
    return f"{PREFIX}{mark.cluster}/{mark.guest}:{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def read_mark(description: str | None, ctid: str) -> Mark | None:
    """None where there is none, where it cannot be understood, and where it is another container's."""
    if not description or not description.startswith(PREFIX):
        return None
    packed = description.rpartition(":")[2]
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), _LARGEST)
        data: dict[str, t.Any] = json.loads(plain)
        if data.pop("ctid") != ctid or not isinstance(data["epoch"], int):
            return None
        return Mark(**{**data, "nics": tuple(data["nics"])})
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None
