# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is wrong with a definition, collected, so that one look shows all of it."""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

from ._model import Where


@dataclasses.dataclass(frozen=True)
class DefinitionError:
    """One thing that is wrong. `found` is what stands there (None: nothing does); `message` says what is allowed."""

    where: Where
    found: str | None
    message: str

    def __str__(self) -> str:
        shown = "" if self.found is None else f"found {short(self.found)}; "
        return f"{self.where}: {shown}{self.message}"


class DefinitionErrors(Exception):
    """A definition that cannot be used: all its errors, sorted by file and line, one per line as text."""

    def __init__(self, errors: t.Iterable[DefinitionError]) -> None:
        unique = dict.fromkeys(errors)
        self.errors = sorted(unique, key=lambda error: (error.where.file, error.where.line, error.where.path))
        super().__init__("\n".join(map(str, self.errors)))


def short(value: t.Any) -> str:
    """A value for a message: long ones are cut."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def meant(name: str, known: t.Iterable[str]) -> str:
    """The words of a message that help with a name that is not known."""
    names = sorted(known)
    if not names:
        return "none is defined"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
