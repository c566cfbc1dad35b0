# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vzlist -a -j`: asked for explicit fields, and read with care.

The printer of 4.11 does not escape strings: a quote in somebody's description makes the whole list unreadable, or says
something else than is true. It puts one field on a line, so that every string can be escaped afterwards.
"""

from __future__ import annotations

import contextlib
import json
import re
import typing as t

from ._driver import DriverError
from ._vz_dialect import Dialect

_COMMON = (
    "ctid,private,root,hostname,name,description,ostemplate,ip,nameserver,searchdomain,status,physpages,swappages,"
    "diskspace,uptime,cpulimit,cpuunits,cpus,onboot,bootorder,layout,disabled"
)
#: What is asked for. Without -o, 7 leaves out most fields and prints one twice.
LEGACY_FIELDS = _COMMON
VZ7_FIELDS = f"uuid,{_COMMON},netif"

_STRING = re.compile(r'^(\s*"[^"\\]+": )"(.*)"(,?)\s*$')
_LIST = re.compile(r'^(\s*"[^"\\]+": )\["(.*)"\](,?)\s*$')


class ListError(DriverError):
    """What vzlist printed cannot be believed."""


def fields_of(dialect: Dialect) -> str:
    return LEGACY_FIELDS if dialect.legacy else VZ7_FIELDS


def read_list(text: str, dialect: Dialect) -> list[dict[str, t.Any]]:
    """Every container, with the fields normalised to one shape for both dialects. ListError: nothing is known."""
    fields = fields_of(dialect)
    if not text.strip():
        raise ListError(
            "vzlist printed nothing: /proc/vz cannot be read. Is the OpenVZ kernel booted and the service vz started?"
        )
    try:
        rows = _rows(text, dialect)
    except ValueError as error:
        raise ListError(
            f"vzlist printed JSON that cannot be read: {error}. Look at `vzlist -a -j -o {fields}`"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ListError("vzlist printed something else than a list of containers")
    return [_normal(row, fields) for row in rows]


def _rows(text: str, dialect: Dialect) -> t.Any:
    """4.11 never escapes. Of 7 it was not seen: its output is taken as it is if that holds together."""
    if not dialect.legacy:
        with contextlib.suppress(ValueError):
            return json.loads(text, object_pairs_hook=_once)
    return json.loads("\n".join(_escaped(line) for line in text.splitlines()), object_pairs_hook=_once)


def _escaped(line: str) -> str:
    """A line with one string, or a list of them, whose strings were printed as they are."""
    match = _STRING.match(line)
    if match is not None:
        head, value, comma = match.groups()
        return f"{head}{json.dumps(value, ensure_ascii=False)}{comma}"
    match = _LIST.match(line)
    if match is not None:
        head, inner, comma = match.groups()
        return f"{head}{json.dumps(inner.split(chr(34) + ', ' + chr(34)), ensure_ascii=False)}{comma}"
    return line


def _once(pairs: t.Sequence[tuple[str, t.Any]]) -> dict[str, t.Any]:
    """A key that comes twice with two values is a string that got out of its quotes."""
    found: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"key {key!r} twice, with two values")
        found[key] = value
    return found


def _normal(row: dict[str, t.Any], fields: str) -> dict[str, t.Any]:
    missing = [field for field in fields.split(",") if field not in row]
    if missing:
        raise ListError(f"vzlist left out the field {missing[0]!r} of container {row.get('ctid', '?')}")
    row = dict(row)
    row["ctid"] = str(row["ctid"])
    for key in ("name", "description", "hostname", "ostemplate"):
        row[key] = None if row[key] in ("-", "", None) else str(row[key])
    for key in ("ip", "nameserver", "searchdomain"):
        row[key] = _strings(row[key])
    for key in ("cpus", "cpulimit", "cpuunits"):
        row[key] = int(row[key]) if row[key] else None  # 0: no limit, or not set
    row["onboot"] = row["onboot"] is True
    row["uptime"] = float(row["uptime"] or 0) or None  # 0.000: not known
    return row


def _strings(value: t.Any) -> list[str]:
    if isinstance(value, str):
        value = value.split()
    return [str(item) for item in value or () if item != "-"]
