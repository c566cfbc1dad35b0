# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action of this collection begins with: the definition, the ledger, the clock, and who asks."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import os
import typing as t

from ansible.errors import AnsibleActionFail

from ._ledger import Ledger, LedgerError, open_ledger
from ._ledger_outcome import Refused, Stamp
from ._ledger_rows import HistoryRow
from ._model import Cluster

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

#: The options that all actions share; for `validate_argument_spec`.
ARGUMENTS: dict[str, dict[str, t.Any]] = {"definition": {"type": "path"}, "ledger": {"type": "str", "no_log": True}}


@dataclasses.dataclass(frozen=True)
class Context:
    """One run of one action. `now` is read once, so that all rows of one run carry the same time."""

    cluster: Cluster
    ledger: Ledger
    now: str  #: UTC, ISO 8601, seconds
    who: str  #: the user who started the run
    job: str | None  #: AWX's job id
    check: bool
    diff: bool

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.now, self.who, self.job)

    def history(self, what: str, subject: str, why: str) -> HistoryRow:
        return self.stamp.history(what, subject, why)


def open_context(action: ActionBase, task_vars: t.Mapping[str, t.Any] | None) -> Context:
    """Definition from the argument `definition`, else from the variable `oscarv_definition`; AnsibleActionFail says
    what is wrong with it or with the ledger."""
    from ._definition import DefinitionErrors, load

    variables = task_vars or {}
    with failing():
        path = definition_path(action, variables)
        try:
            cluster = load(path)
        except DefinitionErrors as errors:
            raise AnsibleActionFail(f"the definition {path} cannot be used:\n{errors}") from errors
        url = action._task.args.get("ledger")
        ledger = open_ledger(cluster, str(url) if url else None)
    return Context(
        cluster=cluster,
        ledger=ledger,
        now=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        who=who_asks(variables, os.environ),
        job=os.environ.get("JOB_ID") or None,
        check=bool(action._task.check_mode),
        diff=bool(action._task.diff),
    )


@contextlib.contextmanager
def failing() -> t.Iterator[None]:
    """Turns what the ledger says into a failed task without a traceback."""
    try:
        yield
    except (LedgerError, Refused) as error:
        raise AnsibleActionFail(str(error)) from error


def definition_path(action: ActionBase, variables: t.Mapping[str, t.Any]) -> str:
    """Absolute path of the definition; a relative one is relative to the playbook, as Ansible has it everywhere."""
    given = action._task.args.get("definition") or variables.get("oscarv_definition")
    if not given:
        raise AnsibleActionFail(
            "no definition: the variable oscarv_definition is not set. Use an inventory source *.oscarv.yml (the"
            " inventory plugin oscarv.virt.cluster sets it), or pass `definition: PATH`"
        )
    path = str(action._loader.path_dwim(str(action._templar.template(given))))
    if not os.path.isfile(path):
        raise AnsibleActionFail(f"the definition {path} is not there: check `definition` or oscarv_definition")
    return path


def who_asks(variables: t.Mapping[str, t.Any], environment: t.Mapping[str, str]) -> str:
    """A person rather than an account: AWX's user, the one behind sudo, the login."""
    for name in (variables.get("awx_user_name"), variables.get("tower_user_name"), environment.get("SUDO_USER")):
        if name and isinstance(name, str):
            return str(name)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return f"uid {os.getuid()}"


def plain(value: t.Any) -> t.Any:
    """Ansible's tagged strings and lazy containers as ordinary ones: what databases and pure functions expect."""
    if isinstance(value, t.Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)
