# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML as nodes that know their line, because an error without a line is a riddle.

Scalars of the definition's own keys follow YAML 1.2: `on` is a key and not a truth, a MAC is a text and not a
number to the base of sixty. Free data (`cloud_init`) follows YAML 1.1, as Ansible and cloud-init read it.
"""

from __future__ import annotations

import math
import pathlib
import re
import typing as t

import yaml

from ._definition_errors import DefinitionError
from ._model import Vaulted, Where

#: libyaml where PyYAML was built with it: ten times faster.
_LOADER: t.Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
#: What an alias may grow to when it is written out. Definitions are small; a bomb is not.
_FREE_LIMIT = 20_000

Node = t.Union[yaml.ScalarNode, yaml.SequenceNode, yaml.MappingNode]


class Context:
    """What is known while files are read: which file, and what was wrong so far."""

    def __init__(self) -> None:
        self.file = ""
        self.errors: list[DefinitionError] = []
        self.references: list[tuple[str, str, Where]] = []  #: (kind, name, where it is used)
        self.dropped: dict[str, set[str]] = {}  #: section -> names whose values were no good: not missing, but broken

    def where(self, node: Node, path: str) -> Where:
        return Where(self.file, node.start_mark.line + 1, path)

    def error(self, node: Node, path: str, found: t.Any, message: str) -> None:
        self.error_at(self.where(node, path), found, message)

    def error_at(self, where: Where, found: t.Any, message: str) -> None:
        shown = None if found is None else ", ".join(map(str, found)) if isinstance(found, list) else str(found)
        self.errors.append(DefinitionError(where, shown, message))


def compose(path: str, context: Context) -> yaml.MappingNode | None:
    """The mapping at the top of a file; None, and an error in the context, where there is none."""
    context.file = path
    top = Where(path, 1, "(file)")
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as error:
        context.error_at(top, None, f"cannot be read: {error.strerror or error}")
        return None
    except UnicodeDecodeError as error:
        context.error_at(top, None, f"is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}")
        return None
    if text.startswith("$ANSIBLE_VAULT;"):
        context.error_at(top, None, "the whole file is vaulted; vault single values instead, it has to be readable")
        return None
    try:
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else 1
        words = [getattr(error, "context", None), getattr(error, "problem", None)]
        what = ", ".join(word for word in words if word) or getattr(error, "reason", None) or "cannot be parsed"
        context.error_at(Where(path, line, "(file)"), None, f"is not YAML: {what}")
        return None
    except (RecursionError, ValueError) as error:
        context.error_at(top, None, f"cannot be read as YAML: {error}")
        return None
    if not isinstance(node, yaml.MappingNode):
        context.error_at(top, None if node is None else kind_of(node), "expected a mapping of keys to values")
        return None
    return node


def kind_of(node: Node) -> str:
    """mapping, list, text, number (int or float), truth, nothing, or the tag that is not ours."""
    if isinstance(node, yaml.MappingNode):
        return "mapping" if node.tag == _TAGS + "map" else f"tag {node.tag}"
    if isinstance(node, yaml.SequenceNode):
        return "list" if node.tag == _TAGS + "seq" else f"tag {node.tag}"
    if not node.tag.startswith(_TAGS):
        return f"tag {node.tag}"
    if node.style is not None and node.style != "" or node.tag == _TAGS + "str":
        return "text"
    text = node.value
    if text in _NULL:
        return "nothing"
    if text in _TRUE or text in _FALSE:
        return "truth"
    if _INTEGER.match(text):
        return "integer"
    return "number" if _FLOAT.match(text) else "text"


def is_true(node: Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value in _TRUE


def pairs(node: Node, path: str, context: Context) -> dict[str, tuple[Node, Node]]:
    """Key text -> (key node, value node) of a mapping, with `<<` merged in. A key given twice is an error."""
    return _pairs(node, path, context, ()) if isinstance(node, yaml.MappingNode) else {}


def _pairs(node: yaml.MappingNode, path: str, context: Context, above: tuple[int, ...]) -> dict[str, tuple[Node, Node]]:
    own: dict[str, tuple[Node, Node]] = {}
    merged: list[Node] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            context.error(key, path, kind_of(key), "a key must be a text")
        elif key.tag == _TAGS + "merge":
            merged.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
        elif key.value in own:
            first = own[key.value][0].start_mark.line + 1
            context.error(key, join(path, key.value), None, f"key {key.value!r} is given twice, first in line {first}")
        else:
            own[key.value] = (key, value)
    for other in merged:
        if not isinstance(other, yaml.MappingNode) or id(other) in above or len(above) > 20:
            context.error(other, join(path, "<<"), kind_of(other), "only mappings that do not contain themselves merge")
            continue
        for name, pair in _pairs(other, path, context, (*above, id(node), id(other))).items():
            own.setdefault(name, pair)
    return own


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


class _Free(yaml.constructor.SafeConstructor):
    """Free data: YAML 1.1 as Ansible reads it, with its tags for vaulted values and for texts that are no templates."""


def _vaulted(constructor: t.Any, node: t.Any) -> Vaulted:
    return Vaulted(constructor.construct_scalar(node))


def _literal(constructor: t.Any, node: t.Any) -> t.Any:
    return constructor.construct_scalar(node)


_Free.add_constructor("!vault", _vaulted)
_Free.add_constructor("!unsafe", _literal)


def free(node: Node, path: str, context: Context) -> t.Any:
    """Plain data of a node that may hold anything; None, and errors in the context, where it cannot be had."""
    before = len(context.errors)
    _inspect(node, path, context, {}, ())
    if len(context.errors) > before:
        return None
    try:
        value = _Free().construct_document(node)
        _refuse_odd(value)
    except yaml.YAMLError as error:
        context.error(node, path, None, f"cannot be read: {getattr(error, 'problem', None) or error}")
    except (ValueError, OverflowError, RecursionError) as error:  # a date or number out of range, or not plain
        context.error(node, path, None, f"cannot be read: {error}")
    else:
        return value
    return None


def _refuse_odd(value: t.Any) -> None:
    """Free data travels as JSON: texts as keys, and no dates, sets, bytes or infinite numbers."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not a text; write it in quotes")
            _refuse_odd(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_odd(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number that can be passed on")
    elif not (value is None or isinstance(value, (str, int, float, Vaulted))):
        raise ValueError(f"{value} is a {type(value).__name__} to YAML; write it in quotes to make it a text")


def _inspect(node: Node, path: str, context: Context, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Refuse what free data must not hold; return how many values the node is when its aliases are written out."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in above or len(above) > 40:
        context.error(node, path, None, "contains itself, or is nested more than 40 deep")
        return 1
    size = 1
    below = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        for key, (_unused, value) in pairs(node, path, context).items():
            size += _inspect(value, join(path, key), context, sizes, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            size += _inspect(item, f"{path}[{index}]", context, sizes, below)
    elif node.tag not in ("!vault", "!unsafe") and ("{{" in node.value or "{%" in node.value):
        context.error(
            node, path, node.value, "templates are not evaluated here; if it is meant literally, tag the text !unsafe"
        )
    if size > _FREE_LIMIT:
        context.error(node, path, None, f"holds more than {_FREE_LIMIT} values when its aliases are written out")
        size = 1  # said once
    sizes[id(node)] = size
    return size
