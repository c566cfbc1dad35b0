# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vzlist`: text and JSON. Strings in JSON are not escaped, as in 4.11."""

from __future__ import annotations

import fnmatch
import typing as t

from . import conf, fields, paths
from .backend import backend
from .container import Container, owner_of
from .getopt import BadOption, getopt_long
from .say import Failure, Say

_LONG = {
    "all": False,
    "stopped": False,
    "name": False,
    "no-header": False,
    "no-trim": False,
    "json": False,
    "output": True,
    "sort": True,
    "hostname": True,
    "name_filter": True,
    "description": True,
    "list": False,
    "help": False,
}
_SHORT = "aSnHtj1Lo:s:h:N:d:"
_LETTERS = {
    "a": "all",
    "S": "stopped",
    "n": "name",
    "H": "no-header",
    "t": "no-trim",
    "j": "json",
    "o": "output",
    "s": "sort",
    "h": "hostname",
    "N": "name_filter",
    "d": "description",
    "L": "list",
}
_DEFAULT = "ctid,numproc,status,ip,hostname"
_DEFAULT_NAMES = "smart_name,numproc,status,ip,hostname"


def main(argv: t.Sequence[str]) -> int:
    say = Say()
    try:
        return _main(argv[1:], say)
    except Failure as failure:
        return failure.code


def _main(words: t.Sequence[str], say: Say) -> int:
    given: dict[str, str] = {}
    wanted: list[str] = []
    try:
        for option, value in getopt_long(words, _LONG, say, "vzlist", _SHORT):
            if option == "":
                wanted.append(value)
            elif option == "1":
                given.update({"all": "", "no-header": "", "output": "ctid"})
            else:
                given[_LETTERS.get(option, option)] = value
    except BadOption:
        raise say.fail(1) from None
    if "list" in given:
        for name, field in fields.FIELDS.items():
            say.out(f"{name:<15} {field.header}")
        return 0
    as_json = "json" in given
    order = _order(given, as_json, say)
    containers = _chosen(given, wanted, say)
    if as_json:
        say.out(_json(containers, order))
        return 0 if containers or not wanted else 1
    if not containers:
        raise say.fail(1, "Container(s) not found")
    _text(containers, order, given, say)
    return 0


def _order(given: t.Mapping[str, str], as_json: bool, say: Say) -> list[str]:
    if "output" not in given:
        return list(fields.JSON) if as_json else (_DEFAULT_NAMES if "name" in given else _DEFAULT).split(",")
    order = given["output"].split(",")
    for name in order:
        if as_json and "." in name:
            raise say.fail(1, f"Field {name} is not available with -j")
        if name not in fields.FIELDS:
            raise say.fail(1, f"Unknown field: {name}")
    return order


def _chosen(given: t.Mapping[str, str], wanted: t.Sequence[str], say: Say) -> list[fields.Row]:
    chosen = _named(wanted, say) if wanted else _everybody()
    rows = [fields.Row(ct) for ct in chosen]
    if not wanted and "all" not in given:
        stopped = "stopped" in given
        rows = [row for row in rows if (row.status != "running") == stopped]
    for option, key in (("hostname", "HOSTNAME"), ("name_filter", "NAME"), ("description", "DESCRIPTION")):
        if option in given:
            rows = [row for row in rows if fnmatch.fnmatchcase(row.ct.conf.get(key, ""), given[option])]
    sort = given.get("sort", "ctid")
    if sort.lstrip("-") not in fields.FIELDS:
        raise say.fail(1, f"Unknown field: {sort.lstrip('-')}")
    key = fields.FIELDS[sort.lstrip("-")]
    rows.sort(key=lambda row: (row.ct.ctid if sort.lstrip("-") in ("ctid", "veid", "vpsid") else 0, key.text(row)))
    return rows[::-1] if sort.startswith("-") else rows


def _everybody() -> list[Container]:
    directory = paths.real(paths.CONF_DIR)
    numbers = (path.stem for path in directory.glob("*.conf")) if directory.is_dir() else ()
    # An orphan configuration, without a private area, is nobody.
    found = (Container(int(number), backend()) for number in numbers if number.isdigit() and number != "0")
    return [ct for ct in found if ct.exists]


def _named(wanted: t.Sequence[str], say: Say) -> list[Container]:
    found = []
    for word in wanted:
        number = int(word) if word.isdigit() else owner_of(word)
        if number is None:
            raise say.fail(1, f"Invalid CT ID: {word}")
        ct = Container(number, backend())
        if conf.read(ct.conf_path) is not None and ct.exists:
            found.append(ct)
    return found


def _json(rows: t.Sequence[fields.Row], order: t.Sequence[str]) -> str:
    if not rows:
        return "[]"
    items = []
    for row in rows:
        lines = ",\n".join(f'    "{name}": {fields.FIELDS[name].json(row)}' for name in order)
        items.append(f"  {{\n{lines}\n  }}")
    return "[\n" + ",\n".join(items) + "\n]"


def _text(rows: t.Sequence[fields.Row], order: t.Sequence[str], given: t.Mapping[str, str], say: Say) -> None:
    if "no-header" not in given:
        say.out(" ".join(fields.FIELDS[name].head() for name in order).rstrip())
    for row in rows:
        say.out(" ".join(fields.FIELDS[name].cell(row) for name in order).rstrip())
