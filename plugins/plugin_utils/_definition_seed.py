# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is told at its first boot: login keys and cloud-init data, checked for what must not be there."""

from __future__ import annotations

import functools
import pathlib
import re
import typing as t

from . import _definition_values as values
from ._definition_sections import beside
from ._definition_yaml import Context, join
from ._model import Vaulted, Where

#: Keys of user-data that the collection sets itself, and why.
_TAKEN = {
    "ssh_keys": "the host keys are made before the first boot, so that first contact can be verified",
    "ssh_deletekeys": "the host keys are made before the first boot, so that first contact can be verified",
    "ssh_genkeytypes": "the host keys are made before the first boot, so that first contact can be verified",
    "hostname": "a guest is called by its name in the definition",
    "fqdn": "a guest is called by its name in the definition",
    "network": "addresses come from the ledger; use 'networks'",
}
#: Keys that hold secrets wherever they stand in user-data.
_SECRETS = frozenset(("password", "passwd", "hashed_passwd", "plain_text_passwd", "token", "secret"))
_LOCKED = re.compile(r"^[*!x]{1,2}$")


def read_keys(keys: t.Sequence[str], where: Where, files: list[str], context: Context) -> tuple[str, ...]:
    """Public keys with the paths of `.pub` files replaced by what they hold; such files are added to `files`."""
    found: list[str] = []
    for key in keys:
        if " " in key:
            found.append(key)
            continue
        path = beside(where.file, key)
        if path not in files:
            files.append(path)
        for line in _lines(path, key, where, context):
            try:
                if line.endswith(".pub"):
                    raise ValueError("expected a public key")
                found.append(values.authorized_key(line))
            except ValueError as error:
                context.error_at(where, key, f"{path}: {error}")
    return tuple(dict.fromkeys(found))


def _lines(path: str, key: str, where: Where, context: Context) -> list[str]:
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        context.error_at(where, key, f"{path} cannot be read: {reason}")
        return []
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        context.error_at(where, key, f"{path} holds no key")
    return lines


def check_cloud_init(data: t.Mapping[str, t.Any], where: Where, context: Context) -> None:
    """Refuse what the collection sets itself, and secrets that are not vaulted."""
    for key, reason in _TAKEN.items():
        if key in data:
            message = f"is set by the collection: {reason}"
            context.error_at(_below(where, key), None, message)
    say = functools.partial(_secret, where=where, context=context)
    _walk(data, "", say)


def _walk(value: t.Any, path: str, say: t.Callable[[str, str], None]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            below = join(path, key)
            if key in _SECRETS and isinstance(item, (str, int)) and not _LOCKED.match(str(item)):
                say(below, "is a secret; write it as a !vault value (ansible-vault encrypt_string)")
            elif key == "list" and path.split(".")[-1] == "chpasswd" and not isinstance(item, Vaulted):
                say(below, "holds passwords; write it as a !vault value (ansible-vault encrypt_string)")
            else:
                _walk(item, below, say)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]", say)
    elif isinstance(value, str) and "PRIVATE KEY-----" in value:
        say(path, "holds a private key; write it as a !vault value (ansible-vault encrypt_string)")


def _secret(path: str, message: str, *, where: Where, context: Context) -> None:
    context.error_at(_below(where, path), None, message)


def _below(where: Where, path: str) -> Where:
    return Where(where.file, where.line, join(where.path, path))
