# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A ledger as one JSON document: for backups, and to go from SQLite to PostgreSQL and back.

The document is sorted, so that two exports of the same ledger are the same text. Reading one checks every field.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import typing as t

from . import _ledger_rows as rows
from . import _ledger_sql as sql
from ._ledger_changes import problems
from ._ledger_outcome import Refused
from ._ledger_rows import Changes
from ._ledger_store import Fetch

FORMAT = "oscarv.virt ledger"
#: Parts of the document, the rows in them, and what they are sorted by. `history` keeps the order of events.
_PARTS: dict[str, tuple[type, tuple[str, ...]]] = {
    "guests": (rows.GuestRow, ("name", "uuid")),
    "nics": (rows.NicRow, ("mac",)),
    "hosts": (rows.HostRow, ("name",)),
    "builds": (rows.BuildRow, ("build_id",)),
    "host_builds": (rows.HostBuildRow, ("host", "build_id")),
    "host_keys": (rows.HostKeyRow, ("guest",)),
    "moves": (rows.MoveRow, ("started", "id")),
    "history": (rows.HistoryRow, ()),
}


def export_document(fetch: Fetch, cluster: str) -> dict[str, t.Any]:
    """Everything of one cluster, moves that are over and history included; `fetch` must be a snapshot."""
    state = sql.read_state(fetch, cluster)
    found: dict[str, t.Sequence[t.Any]] = {
        "guests": list(state.guests.values()),
        "nics": list(state.nics.values()),
        "hosts": list(state.hosts.values()),
        "builds": list(state.builds.values()),
        "host_builds": sql.read_host_builds(fetch, cluster),
        "host_keys": list(state.host_keys.values()),
        "moves": sql.read_moves(fetch, cluster),
        "history": list(reversed(sql.read_history(fetch, cluster))),
    }
    document: dict[str, t.Any] = {
        "format": FORMAT,
        "schema": sql.VERSION,
        "cluster": cluster,
        "revision": state.revision,
    }
    for part, (_row, order) in _PARTS.items():
        ordered = sorted(found[part], key=operator.attrgetter(*order)) if order else found[part]
        document[part] = [_plain(row) for row in ordered]
    return document


def _plain(row: t.Any) -> dict[str, t.Any]:
    plain: dict[str, t.Any] = json.loads(json.dumps(dataclasses.asdict(row), sort_keys=True))
    if isinstance(row, rows.HistoryRow):
        del plain["id"]  # given by the database; the order says it all
    return plain


def document_text(document: t.Mapping[str, t.Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_document(document: t.Any, cluster: str) -> tuple[int, Changes]:
    """Revision and rows of a document for this cluster. Raises Refused with everything that is wrong with it."""
    if not isinstance(document, t.Mapping) or document.get("format") != FORMAT:
        raise Refused([f"import: not an export of a ledger: `format` must be {FORMAT!r}"])
    errors = []
    if document.get("schema") != sql.VERSION:
        errors.append(f"import: schema {document.get('schema')!r}; this collection reads {sql.VERSION}")
    if document.get("cluster") != cluster:
        errors.append(f"import: it is of cluster {document.get('cluster')!r}, the definition is of {cluster!r}")
    revision = document.get("revision")
    if isinstance(revision, bool) or not isinstance(revision, int) or revision < 0:
        errors.append(f"import: revision {revision!r} is not a number")
    unknown = set(document) - {"format", "schema", "cluster", "revision", *_PARTS}
    errors += [f"import: unknown key {key!r}" for key in sorted(unknown)]
    parts: dict[str, tuple[t.Any, ...]] = {}
    for part, (row, _order) in _PARTS.items():
        read = [
            _read_row(row, item, f"import: {part}[{number}]") for number, item in enumerate(document.get(part) or ())
        ]
        errors += [item for item in read if isinstance(item, str)]
        parts[part] = tuple(item for item in read if not isinstance(item, str))
    if not errors:
        changes = Changes(**parts)
        errors = _inconsistencies(cluster, changes)
    if errors:
        raise Refused(errors)
    return t.cast(int, revision), changes


def _read_row(row: type, item: t.Any, where: str) -> t.Any:
    """A row, or the words for what is wrong with it."""
    if not isinstance(item, t.Mapping):
        return f"{where}: expected a mapping, found {type(item).__name__}"
    fields = {field.name: field for field in dataclasses.fields(row)}
    unknown = sorted(set(item) - set(fields))
    if unknown:
        return f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(fields)}"
    values = {}
    for name, field in fields.items():
        if name not in item:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                return f"{where}: key {name!r} is missing"
            continue
        value, hint = item[name], str(field.type)
        if not _fits(value, hint):
            return f"{where}: {name}: found {value!r}; allowed: {hint}"
        values[name] = tuple(value) if hint.startswith("tuple") else value
    return row(**values)


def _fits(value: t.Any, hint: str) -> bool:
    if value is None:
        return hint.endswith("| None")
    if hint.startswith("tuple"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if hint.startswith("t.Mapping"):
        return isinstance(value, t.Mapping)
    if hint.startswith("int"):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str)


def _inconsistencies(cluster: str, changes: Changes) -> list[str]:
    flying = [move.guest for move in changes.moves if move.state == "in_flight"]
    errors = [f"import: guest {guest}: two moves in flight" for guest in sorted(set(flying)) if flying.count(guest) > 1]
    for part, (_row, order) in _PARTS.items():
        key = {"guests": ("uuid",), "moves": ("id",)}.get(part, order)
        seen: set[tuple[t.Any, ...]] = set()
        for row in getattr(changes, part) if key else ():
            this = tuple(getattr(row, name) for name in key)
            if this in seen:
                errors.append(f"import: {part}: {' '.join(map(str, this))} is there twice")
            seen.add(this)
    return errors or [f"import: {text}" for text in problems(sql.empty_state(cluster), changes)]


def same_rows(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> bool:
    """Whether two documents hold the same rows; history and revision may differ. A part that is left out is empty."""
    return all((before.get(part) or []) == (after.get(part) or []) for part in _PARTS if part != "history")


def has_rows(document: t.Mapping[str, t.Any]) -> bool:
    """Whether there is anything that an import would overwrite."""
    return any(document[part] for part in _PARTS if part != "history")
