# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `ledger`; documented in plugins/modules/ledger.py. What an operation decides stands in plugin_utils."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils import _ledger_known_hosts as known_hosts
from ..plugin_utils._context import ARGUMENTS, Context, failing, open_context, plain
from ..plugin_utils._ledger import refuse
from ..plugin_utils._ledger_changes import applied, effective
from ..plugin_utils._ledger_dispatch import DECIDERS, Arguments, Decide
from ..plugin_utils._ledger_document import document_text
from ..plugin_utils._ledger_outcome import difference
from ..plugin_utils._ledger_rows import LedgerState

#: Options of the operations; which one needs which is checked where it is read.
_OPTIONS: dict[str, dict[str, t.Any]] = {
    "operation": {"type": "str", "required": True, "choices": [*DECIDERS, "export", "import", "upgrade"]},
    "host": {"type": "str"},
    "guests": {"type": "raw"},
    "complete": {"type": "bool"},
    "pruned": {"type": "list", "elements": "dict"},
    "foreign": {"type": "list", "elements": "dict"},
    "observations": {"type": "dict"},
    "info": {"type": "dict"},
    "infos": {"type": "dict"},
    "build": {"type": "dict"},
    "build_ids": {"type": "list", "elements": "str"},
    "host_builds": {"type": "dict"},
    "exact": {"type": "bool", "default": False},
    "moves": {"type": "list", "elements": "dict"},
    "id": {"type": "str"},
    "outcome": {"type": "str", "choices": ["committed", "aborted"]},
    "message": {"type": "str"},
    "resolve": {"type": "dict"},
    "record": {"type": "bool", "default": True},
    "reason": {"type": "str"},
    "fenced": {"type": "list", "elements": "str"},
    "path": {"type": "path"},
    "document": {"type": "dict"},
    "replace": {"type": "bool", "default": False},
}
#: Operations after which people's known_hosts may differ.
_TOUCHES_KEYS = ("observe", "rebuild", "release", "import")


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _result, validated = self.validate_argument_spec(argument_spec={**ARGUMENTS, **_OPTIONS})
        args = plain(validated)
        ctx = open_context(self, task_vars)
        operation = args["operation"]
        with failing():
            if operation in DECIDERS:
                result.update(_decide_and_record(ctx, args, DECIDERS[operation](ctx, args)))
            elif operation == "upgrade":
                result.update(_upgrade(ctx))
            elif operation == "export":
                result.update(_export(ctx, self._path(args)))
            else:
                result.update(_import(ctx, args, self._path(args)))
            if operation in _TOUCHES_KEYS:
                _update_known_hosts(ctx, result)
        result.pop("state_after", None)
        if not (ctx.diff and result["changed"]):
            result.pop("diff", None)
        return result

    def _path(self, args: Arguments) -> pathlib.Path | None:
        return pathlib.Path(self._loader.path_dwim(args["path"])) if args["path"] else None


def _decide_and_record(ctx: Context, args: Arguments, decide: Decide) -> dict[str, t.Any]:
    """Decide on a snapshot; if that changes anything, decide again inside a transaction and record it."""
    state = ctx.ledger.state()
    outcome = decide(state, ctx.ledger.moves)
    changes = effective(state, outcome.changes)
    after = applied(state, changes)
    refuse(state, changes)
    if not (changes.empty or ctx.check or not args["record"]):
        with ctx.ledger.transaction() as tx:
            state = tx.state
            outcome = decide(state, tx.moves)
            changes = effective(state, outcome.changes)
            if not changes.empty:  # another run may have done the same meanwhile
                tx.write(changes)
            after = tx.state
    return {
        **outcome.result,
        "changed": not changes.empty and args["record"],
        "revision": after.revision,
        "diff": [difference(state, changes).before_after()] if ctx.diff and not changes.empty else [],
        "warnings": list(outcome.warnings),
        "state_after": after,
    }


def _update_known_hosts(ctx: Context, result: dict[str, t.Any]) -> None:
    """Bring the file up to date; a prediction in check mode. The ledger is right already if this fails."""
    state: LedgerState = result.get("state_after") or ctx.ledger.state()
    text = known_hosts.text_of(state)
    try:
        outdated = known_hosts.outdated(ctx.cluster, text)
        if outdated and not ctx.check:
            known_hosts.write(ctx.cluster, text)
    except OSError as error:
        warning = f"{known_hosts.path_of(ctx.cluster)} could not be written: {error}"
        result["warnings"] = [*result.get("warnings", ()), warning]
        return
    result["changed"] = result["changed"] or outdated


def _upgrade(ctx: Context) -> dict[str, t.Any]:
    with_version = ctx.ledger.upgrade(ctx.history("upgrade", ctx.cluster.name, "schema"), check=ctx.check)
    before, after = with_version or (None, None)
    diff = {"before": f"schema {before}\n", "after": f"schema {after}\n"}
    return {"changed": before != after, "schema_before": before, "schema_after": after, "diff": [diff]}


def _export(ctx: Context, path: pathlib.Path | None) -> dict[str, t.Any]:
    document = ctx.ledger.export()
    if path is None:
        return {"changed": False, "document": document}
    text = document_text(document)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before != text and not ctx.check:
            known_hosts.write_whole(path, text, 0o600)
    except OSError as error:
        raise AnsibleActionFail(f"export: {path}: {error}") from error
    return {"changed": before != text, "path": str(path), "diff": [{"before": before, "after": text}]}


def _import(ctx: Context, args: Arguments, path: pathlib.Path | None) -> dict[str, t.Any]:
    if (path is None) == (args["document"] is None):
        raise AnsibleActionFail("import: one of `path` and `document` is needed")
    document = args["document"]
    if path is not None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AnsibleActionFail(f"import: {path}: {error}") from error
    history = ctx.history("import", ctx.cluster.name, str(path or "a document"))
    done = ctx.ledger.import_(document, history, replace=args["replace"], check=ctx.check)
    if done is None:
        return {"changed": False}
    before, after = done
    return {"changed": True, "diff": [{"before": document_text(before), "after": document_text(after)}]}
