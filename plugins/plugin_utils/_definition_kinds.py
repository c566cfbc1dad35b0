# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of values that a definition holds. One object per kind reads a value, describes itself to people and to
JSON Schema, so that loader, schema and reference cannot disagree.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from . import _definition_units as units
from ._definition_errors import meant
from ._definition_ranges import RangeError, expand
from ._definition_values import SecretError
from ._definition_yaml import Context, Node, free, is_template, is_true, join, kind_of, pairs
from ._model import Where


class _Bad:
    """What `read` returns for a value that cannot be used; the error is in the context already."""

    def __bool__(self) -> bool:
        return False


BAD = _Bad()


class Record(dict[str, t.Any]):
    """A checked mapping: only good values, with defaults filled in; it knows where each key stands.

    A key whose value was bad is in `lines` but not in the mapping, so that it gets no default either.
    """

    def __init__(self, where: Where) -> None:
        super().__init__()
        self.place = where
        self.lines: dict[str, int] = {}

    def where(self, key: str | None = None) -> Where:
        if key is None:
            return self.place
        line = self.lines.get(key, self.place.line)
        return Where(self.place.file, line, join(self.place.path, key))


class Kind:
    """A kind of value. `words` says in the reference what is allowed."""

    words: str = "anything"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        """The value, or BAD with errors in the context."""
        raise NotImplementedError

    def schema(self) -> dict[str, t.Any]:
        raise NotImplementedError

    def wrong(self, node: Node, path: str, context: Context) -> _Bad:
        kind = kind_of(node)
        found = node.value if kind in ("text", "integer", "number", "truth") else kind
        message = "has no value; give it one or remove the key" if kind == "nothing" else f"expected {self.words}"
        context.error(node, path, None if kind == "nothing" else found, message)
        return BAD


class Text(Kind):
    """A text. Templates are refused: nobody would evaluate them."""

    def __init__(self, pattern: str | None = None, words: str = "a text", *, length: int = 1000) -> None:
        self.pattern, self.words, self.length = pattern, words, length
        self._match = re.compile(pattern).fullmatch if pattern else None

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        kind = kind_of(node)
        if kind in ("integer", "number"):
            context.error(node, path, node.value, f"expected {self.words}; write a number in quotes to make it a text")
            return BAD
        if kind != "text":
            return self.wrong(node, path, context)
        text = node.value
        if is_template(text):
            context.error(node, path, text, "templates are not evaluated in a definition; write the value itself")
            return BAD
        if not text.strip() or len(text) > self.length or (self._match and not self._match(text)):
            context.error(node, path, text, f"expected {self.words}")
            return BAD
        return self.convert(text, node, path, context)

    def convert(self, text: str, node: Node, path: str, context: Context) -> t.Any:
        return text

    def schema(self) -> dict[str, t.Any]:
        schema: dict[str, t.Any] = {"type": "string", "minLength": 1}
        return {**schema, "pattern": self.pattern} if self.pattern else schema


class Converted(Text):
    """A text that a function turns into a value; its ValueError says what is allowed."""

    def __init__(
        self, function: t.Callable[[str], t.Any], words: str, pattern: str | None = None, *, length: int = 1000
    ) -> None:
        super().__init__(None, words, length=length)
        self.function, self.shown = function, pattern

    def convert(self, text: str, node: Node, path: str, context: Context) -> t.Any:
        try:
            return self.function(text)
        except ValueError as error:
            context.error(node, path, None if isinstance(error, SecretError) else text, str(error))
            return BAD

    def schema(self) -> dict[str, t.Any]:
        return {"type": "string", "minLength": 1, **({"pattern": self.shown} if self.shown else {})}


class Quantity(Converted):
    """A size, a time or a share: a text with a unit. A bare number gets the message that says so."""

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) in ("integer", "number"):
            return self.convert(node.value, node, path, context)
        return super().read(node, path, context)


class Size(Quantity):
    def __init__(self, minimum: int = units.ALIGNMENT) -> None:
        super().__init__(self._size, "a size such as '4 GiB' or '500 MB'", units.SIZE_PATTERN)
        self.minimum = minimum
        if minimum > units.ALIGNMENT:
            self.words += f", at least {units.show_size(minimum)}"

    def _size(self, text: str) -> int:
        value = units.size(text)
        if not self.minimum <= value <= 2**60:
            raise ValueError(f"expected {self.words}")
        return value


class Choice(Text):
    """One of a few words; `later` maps a word that will come to what is missing."""

    def __init__(self, *choices: str, later: t.Mapping[str, str] | None = None) -> None:
        super().__init__(None, f"{'one of ' if len(choices) > 1 else ''}{', '.join(choices)}")
        self.choices, self.later = choices, later or {}

    def convert(self, text: str, node: Node, path: str, context: Context) -> t.Any:
        if text in self.choices:
            return text
        if text in self.later:
            context.error(node, path, text, f"not yet: {self.later[text]}; allowed now: {', '.join(self.choices)}")
        else:
            context.error(node, path, text, f"expected {self.words}")
        return BAD

    def schema(self) -> dict[str, t.Any]:
        return {"enum": list(self.choices)}


class Integer(Kind):
    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum, self.maximum = minimum, maximum
        self.words = f"a whole number from {minimum} to {maximum}"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) != "integer":
            return self.wrong(node, path, context)
        if len(node.value.lstrip("+-")) > 1 and node.value.lstrip("+-").startswith("0"):
            context.error(node, path, node.value, "write it without a leading zero, which some readers take for octal")
            return BAD
        if len(node.value) > 18 or not self.minimum <= int(node.value) <= self.maximum:
            return self.wrong(node, path, context)
        return int(node.value)

    def schema(self) -> dict[str, t.Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


class Number(Kind):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum
        self.words = f"a number from {minimum:g} to {maximum:g}"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) not in ("integer", "number") or len(node.value) > 18:
            return self.wrong(node, path, context)
        if ".nan" in node.value.lower() or ".inf" in node.value.lower():
            return self.wrong(node, path, context)
        value = float(node.value)
        return value if self.minimum <= value <= self.maximum else self.wrong(node, path, context)

    def schema(self) -> dict[str, t.Any]:
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


class Flag(Kind):
    words = "true or false"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        return is_true(node) if kind_of(node) == "truth" else self.wrong(node, path, context)

    def schema(self) -> dict[str, t.Any]:
        return {"type": "boolean"}


class Ref(Text):
    """The name of something that is defined elsewhere; checked when everything is known."""

    def __init__(self, to: str) -> None:
        super().__init__(None, f"the name of {'an' if to[0] in 'aeiou' else 'a'} {to}")
        self.to = to

    def convert(self, text: str, node: Node, path: str, context: Context) -> t.Any:
        context.references.append((self.to, text, context.where(node, path)))
        return text


class ListOf(Kind):
    """A list as a tuple. With `lone`, a single value may stand without its list."""

    def __init__(self, kind: Kind, *, lone: bool = False, least: int = 0) -> None:
        self.kind, self.lone, self.least = kind, lone, least
        self.words = f"a list, each {kind.words}" + ("; a single one may stand alone" if lone else "")

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        kind = kind_of(node)
        if kind != "list":
            if not self.lone or kind in ("nothing", "mapping" if not isinstance(self.kind, Mapping) else ""):
                return self.wrong(node, path, context)
            value = self.kind.read(node, path, context)
            return BAD if value is BAD else (value,)
        if len(node.value) < self.least:
            context.error(node, path, None, f"expected a list of at least {self.least}")
            return BAD
        values = [self.kind.read(item, f"{path}[{index}]", context) for index, item in enumerate(node.value)]
        return BAD if any(value is BAD for value in values) else tuple(values)

    def schema(self) -> dict[str, t.Any]:
        many: dict[str, t.Any] = {"type": "array", "items": self.kind.schema()}
        if self.least:
            many["minItems"] = self.least
        return {"anyOf": [self.kind.schema(), many]} if self.lone else many


class Names(Kind):
    """Names of machines: ranges, as a text or a list of texts. A name given twice is an error."""

    def __init__(self, what: str, pattern: str, words: str, example: str) -> None:
        self.what, self.detail = what, words
        self.words = (
            f"names of {what}{'e' if what.endswith('S') else ''}s, such as '{example}', 'a,b' or a list of these"
        )
        self._match = re.compile(pattern).fullmatch

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        kind = kind_of(node)
        items = list(enumerate(node.value)) if kind == "list" else [(-1, node)]
        if kind not in ("list", "text") or not items:
            return self.wrong(node, path, context)
        seen: dict[str, int] = {}
        good = True
        for index, item in items:
            where = path if index < 0 else f"{path}[{index}]"
            text = Text(words=self.words, length=10_000).read(item, where, context)
            good = self._add(text, item, where, context, seen) and good if text is not BAD else False
        return tuple(seen) if good else BAD

    def _add(self, text: str, node: Node, path: str, context: Context, seen: dict[str, int]) -> bool:
        try:
            names = expand(text)
        except RangeError as error:
            context.error(node, path, text, str(error))
            return False
        bad = [name for name in names if not self._match(name)]
        if bad:
            context.error(node, path, bad[0], f"is no name of a {self.what}: {self.detail}")
        twice = ""
        for name in names:
            twice = twice or (name if name in seen else "")
            seen[name] = node.line
        if twice:
            context.error(node, path, twice, "is listed twice; ranges must not overlap")
        return not bad and not twice

    def schema(self) -> dict[str, t.Any]:
        one = {"type": "string", "minLength": 1}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


class Free(Kind):
    """Data that belongs to somebody else: any mapping (or, with `anything`, any value)."""

    def __init__(self, words: str = "a mapping", *, anything: bool = False) -> None:
        self.words, self.anything = words, anything

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if not self.anything and kind_of(node) != "mapping":
            return self.wrong(node, path, context)
        before = len(context.errors)
        value = free(node, path, context)
        return BAD if len(context.errors) > before else value

    def schema(self) -> dict[str, t.Any]:
        return {} if self.anything else {"type": "object"}


class Opaque(Kind):
    """A key that the inventory plugin hands to Ansible as it is; Ansible checks it."""

    words = "as in every inventory plugin with constructed groups"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        return True

    def schema(self) -> dict[str, t.Any]:
        return {}


@dataclasses.dataclass(frozen=True)
class Key:
    """A row of the table: one key that a mapping may have."""

    kind: Kind
    help: str
    required: bool = False
    default: t.Any = None  #: as the model has it; None: there is none
    shown: str = ""  #: the default in words, where it is not simply the value
    later: str = ""  #: why the key is refused for now


class Mapping(Kind):
    """A mapping with known keys. `short`: the key that a plain text stands for."""

    def __init__(self, keys: t.Mapping[str, Key], *, short: str = "", name: str = "") -> None:
        self.keys, self.short, self.name = keys, short, name
        needed = [key for key, row in keys.items() if row.required]
        self.words = "a mapping" + (f" with {', '.join(needed)}" if needed else "")
        if short:
            self.words = f"{keys[short].kind.words}, or {self.words}"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        record = Record(context.where(node, path))
        if self.short and kind_of(node) in ("text", "integer", "number"):
            value = self.keys[self.short].kind.read(node, path, context)
            if value is BAD:
                return BAD
            record[self.short] = value
            return self._complete(record)
        if kind_of(node) != "mapping":
            return self.wrong(node, path, context)
        for name, (key_node, value_node) in pairs(node, path, context).items():
            where = join(path, name)
            record.lines[name] = value_node.line
            row = self.keys.get(name)
            if row is None:
                context.error(key_node, where, None, f"unknown key {name!r}; {meant(name, self.known)}")
            elif row.later:
                context.error(key_node, where, None, f"{name!r} not yet: {row.later}")
            else:
                value = row.kind.read(value_node, where, context)
                if value is not BAD:
                    record[name] = value
        for name, row in self.keys.items():
            if row.required and name not in record.lines:
                context.error(node, path, None, f"key {name!r} is missing: {row.help}")
        return self._complete(record)

    def _complete(self, record: Record) -> Record:
        for name, row in self.keys.items():
            if row.default is not None and name not in record.lines:
                record.setdefault(name, row.default)
        return record

    @property
    def known(self) -> list[str]:
        return [name for name, row in self.keys.items() if not row.later]

    def schema(self) -> dict[str, t.Any]:
        rows = {name: row for name, row in self.keys.items() if not row.later}
        schema: dict[str, t.Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {**row.kind.schema(), "description": row.help} for name, row in rows.items()},
        }
        needed = [name for name, row in rows.items() if row.required]
        if needed:
            schema["required"] = needed
        return {"anyOf": [self.keys[self.short].kind.schema(), schema]} if self.short else schema


class Named(Kind):
    """A mapping whose keys are names that the user gives: name -> Record."""

    def __init__(self, what: str, kind: Kind, pattern: str, words: str) -> None:
        self.what, self.kind, self.detail, self.pattern = what, kind, words, pattern
        self.words = f"a mapping of {what} names"
        self._match = re.compile(pattern).fullmatch

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) != "mapping":
            return self.wrong(node, path, context)
        found: dict[str, t.Any] = {}
        for name, (key_node, value_node) in pairs(node, path, context).items():
            where = join(path, name)
            value = self.kind.read(value_node, where, context)
            if not self._match(name):
                context.error(key_node, where, name, f"is no name of a {self.what}: {self.detail}")
            elif value is BAD:
                context.dropped.setdefault(path, set()).add(name)
            else:
                found[name] = value
        return found

    def schema(self) -> dict[str, t.Any]:
        return {
            "type": "object",
            "propertyNames": {"pattern": self.pattern},
            "additionalProperties": self.kind.schema(),
        }
