# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML as nodes that know their line, because an error without a line is a riddle.

Scalars of the definition's own keys follow YAML 1.2: `on` is a key and not a truth, a MAC is a text and not a
number to the base of sixty. Free data (`cloud_init`) follows YAML 1.1, as Ansible and cloud-init read it.
"""

from __future__ import annotations

import dataclasses
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
#: Deeper nesting is a mistake, or an attack on the reader's stack.
_DEPTH_LIMIT = 60


@dataclasses.dataclass(eq=False)
class Node:
    """A value as it stands in a file. `value`: the text, the items, or the pairs of key and value."""

    __slots__ = ("shape", "value", "line", "tag", "plain")
    shape: str  #: scalar | list | mapping
    value: t.Any
    line: int  #: from 1
    tag: str | None  #: where one is written
    plain: bool  #: a scalar without quotes


class Context:
    """What is known while files are read: which file, and what was wrong so far."""

    def __init__(self) -> None:
        self.file = ""
        self.errors: list[DefinitionError] = []
        self.references: list[tuple[str, str, Where]] = []  #: (kind, name, where it is used)
        self.dropped: dict[str, set[str]] = {}  #: section -> names whose values were no good: not missing, but broken

    def where(self, node: Node, path: str) -> Where:
        return Where(self.file, node.line, path)

    def error(self, node: Node, path: str, found: t.Any, message: str) -> None:
        self.error_at(self.where(node, path), found, message)

    def error_at(self, where: Where, found: t.Any, message: str) -> None:
        if not where.path:
            where = Where(where.file, where.line, "(file)")
        shown = None if found is None else ", ".join(map(str, found)) if isinstance(found, list) else str(found)
        self.errors.append(DefinitionError(where, shown, message))


def compose(path: str, context: Context) -> Node | None:
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
        node = _compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else 1
        words = [getattr(error, "context", None), getattr(error, "problem", None)]
        what = ", ".join(word for word in words if word) or getattr(error, "reason", None) or "cannot be parsed"
        context.error_at(Where(path, line, "(file)"), None, f"is not YAML: {what}")
        return None
    if node is None or node.shape != "mapping":
        context.error_at(top, None if node is None else kind_of(node), "expected a mapping of keys to values")
        return None
    return node


def _compose(text: str) -> Node | None:
    """The root node. Own code, since PyYAML's resolves every scalar's type at once, and libyaml's can be crashed."""
    root: Node | None = None
    anchors: dict[str, Node] = {}
    open_nodes: list[Node] = []
    keys: list[Node | None] = []  # per open node: the key that waits for its value
    events: t.Iterable[t.Any] = yaml.parse(text, Loader=_LOADER)
    for event in events:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            node = Node("scalar", event.value, event.start_mark.line + 1, event.tag, not event.style)
        elif kind is yaml.MappingStartEvent:
            node = Node("mapping", [], event.start_mark.line + 1, event.tag, False)
        elif kind is yaml.SequenceStartEvent:
            node = Node("list", [], event.start_mark.line + 1, event.tag, False)
        elif kind is yaml.AliasEvent:
            if event.anchor not in anchors:
                raise yaml.MarkedYAMLError(None, None, f"found undefined alias {event.anchor!r}", event.start_mark)
            node = anchors[event.anchor]
        else:
            if kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
                open_nodes.pop()
                keys.pop()
            elif kind is yaml.DocumentStartEvent and root is not None:
                raise yaml.MarkedYAMLError(None, None, "a second document; expected one only", event.start_mark)
            continue
        if event.anchor is not None:
            anchors[event.anchor] = node
        if not open_nodes:
            root = node
        elif open_nodes[-1].shape == "list":
            open_nodes[-1].value.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            open_nodes[-1].value.append((keys[-1], node))
            keys[-1] = None
        if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            open_nodes.append(node)
            keys.append(None)
            if len(open_nodes) > _DEPTH_LIMIT:
                raise yaml.MarkedYAMLError(None, None, f"nested more than {_DEPTH_LIMIT} deep", event.start_mark)
    return root


_OWN_TAGS = {"mapping": (None, "!", _TAGS + "map"), "list": (None, "!", _TAGS + "seq")}


def kind_of(node: Node) -> str:
    """mapping, list, text, integer, number, truth, nothing, or the tag that is not ours."""
    if node.shape != "scalar":
        return node.shape if node.tag in _OWN_TAGS[node.shape] else f"tag {node.tag}"
    if node.tag is not None:
        return "text" if node.tag in ("!", _TAGS + "str") else f"tag {node.tag}"
    if not node.plain:
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
    return node.shape == "scalar" and node.value in _TRUE


def pairs(node: Node, path: str, context: Context) -> dict[str, tuple[Node, Node]]:
    """Key text -> (key node, value node) of a mapping, with `<<` merged in. A key given twice is an error."""
    return _pairs(node, path, context, ()) if node.shape == "mapping" else {}


def _pairs(node: Node, path: str, context: Context, above: tuple[int, ...]) -> dict[str, tuple[Node, Node]]:
    own: dict[str, tuple[Node, Node]] = {}
    merged: list[Node] = []
    for key, value in node.value:
        if key.shape != "scalar":
            context.error(key, path, kind_of(key), "a key must be a text")
        elif key.value == "<<" and key.plain:
            merged.extend(value.value if value.shape == "list" else [value])
        elif key.value in own:
            first = own[key.value][0].line
            context.error(key, join(path, key.value), None, f"key {key.value!r} is given twice, first in line {first}")
        else:
            own[key.value] = (key, value)
    for other in merged:
        if other.shape != "mapping" or id(other) in above or len(above) > 20:
            context.error(other, join(path, "<<"), kind_of(other), "only mappings that do not contain themselves merge")
            continue
        for name, pair in _pairs(other, path, context, (*above, id(node), id(other))).items():
            own.setdefault(name, pair)
    return own


def is_template(text: str) -> bool:
    """Whether Ansible would see a template in the text."""
    return "{{" in text or "{%" in text or "{#" in text


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
        value = _Free().construct_document(_as_yaml(node, {}))
        _refuse_odd(value)
    except yaml.YAMLError as error:
        context.error(node, path, None, f"cannot be read: {getattr(error, 'problem', None) or error}")
    except (ValueError, OverflowError, RecursionError) as error:  # a date or number out of range, or not plain
        context.error(node, path, None, f"cannot be read: {error}")
    else:
        return value
    return None


def holds_vaulted(value: t.Any) -> bool:
    """Whether plain data has a vaulted value anywhere."""
    if isinstance(value, dict):
        return any(holds_vaulted(item) for item in value.values())
    if isinstance(value, list):
        return any(holds_vaulted(item) for item in value)
    return isinstance(value, Vaulted)


_RESOLVER = yaml.resolver.Resolver()


def _as_yaml(node: Node, done: dict[int, yaml.Node]) -> yaml.Node:
    """The node as PyYAML's constructors want it, with the tags of YAML 1.1; aliases stay shared."""
    if id(node) not in done:
        if node.shape == "scalar":
            tag = node.tag or _RESOLVER.resolve(yaml.ScalarNode, node.value, (node.plain, not node.plain))
            done[id(node)] = yaml.ScalarNode(tag, node.value)
        elif node.shape == "list":
            items = [_as_yaml(item, done) for item in node.value]
            done[id(node)] = yaml.SequenceNode(node.tag or _TAGS + "seq", items)
        else:
            both = [(_as_yaml(key, done), _as_yaml(value, done)) for key, value in node.value]
            done[id(node)] = yaml.MappingNode(node.tag or _TAGS + "map", both)
    return done[id(node)]


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
    if node.shape == "mapping":
        for key, (_unused, value) in pairs(node, path, context).items():
            size += _inspect(value, join(path, key), context, sizes, below)
    elif node.shape == "list":
        for index, item in enumerate(node.value):
            size += _inspect(item, f"{path}[{index}]", context, sizes, below)
    elif node.tag not in ("!vault", "!unsafe") and (is_template(node.value)):
        context.error(
            node, path, node.value, "templates are not evaluated here; if it is meant literally, tag the text !unsafe"
        )
    if size > _FREE_LIMIT:
        context.error(node, path, None, f"holds more than {_FREE_LIMIT} values when its aliases are written out")
        size = 1  # said once
    sizes[id(node)] = size
    return size
