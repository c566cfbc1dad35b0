# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a file holds, loading it gives a Cluster or DefinitionErrors, and every error names a place in it."""

from __future__ import annotations

import copy
import os
import pathlib
import tempfile
import typing as t

import yaml
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import DefinitionErrors, load
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster
from definer import GOOD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RICH = GOOD.replace(
    "    vcpus: 2\n",
    """\
    vcpus: 2
    disks: [{name: scratch, size: 1 GiB, pool: san}]
    cloud_init: {timezone: UTC, write_files: [{path: /x, content: y}]}
    roles: [site.node]
    cpu_model: baseline
""",
).replace("wn01: {memory: 8 GiB}", "wn01: {memory: 8 GiB, networks: [{name: compute, ip: 10.0.4.77}]}")
PLAIN = yaml.safe_load(RICH.replace("    on:", '    "on":'))

#: Texts that mean something somewhere in a definition, so that a wrong place is more than nonsense.
TEXTS = """kvmhosts workers wn[01:03] wn02 node01 node[01:04] compute rack host san base 10.0.4.7 10.0.4.0/24 .. me.pub
10.0.4.1-10.0.4.3 fd12:3456::/64 52:54:00:00:00:07 absent sqlite:///x x.oscarv.yml x.oscarv-part.yml debian import xen
nfs [ a,,b /"""
KEY_NAMES = "uses include ledger hypervisor pin to apart over in x"
WORDS = st.sampled_from([*TEXTS.split(), "4 GiB", "10 %", "1 h", "{{ x }}", "", " ", "\u00e9", "\x85"])
KEYS = st.sampled_from(sorted({*PLAIN, *PLAIN["partitions"]["workers"], *KEY_NAMES.split()}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | WORDS, inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(
    max_examples=int(os.environ.get("OSCARV_FUZZ", "100")), deadline=None, suppress_health_check=list(HealthCheck)
)


def places(value: t.Any, path: tuple[t.Any, ...] = ()) -> list[tuple[t.Any, ...]]:
    """The paths of all values below this one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


PLACES = places(PLAIN)


def check(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.oscarv.yml"
        path.write_bytes(data)
        try:
            cluster = load(str(path))
        except DefinitionErrors as caught:
            assert caught.errors
            lines = len(data.decode(errors="replace").splitlines()) + 1  # YAML ends lines at U+0085 too
            for error in caught.errors:
                assert error.where.file.startswith(folder)
                assert 1 <= error.where.line <= lines
                assert error.where.path
                assert error.message
        else:
            assert isinstance(cluster, Cluster)
            assert set(cluster.guests) == {name for part in cluster.guest_partitions.values() for name in part.members}
            assert all(host.partition in cluster.host_partitions for host in cluster.hosts.values())


@st.composite
def _changed(draw: t.Any) -> t.Any:
    """The plain definition with up to three values set, dropped or added."""
    tree = copy.deepcopy(PLAIN)
    hows = st.sampled_from(["set", "drop", "add"])
    for path, how, key, value in draw(st.lists(st.tuples(st.sampled_from(PLACES), hows, KEYS, VALUES), max_size=3)):
        holder = tree
        for step in path[:-1]:
            there = range(len(holder)) if isinstance(holder, list) else holder
            holder = holder[step] if isinstance(holder, (list, dict)) and step in there else holder
        if how == "add" and isinstance(holder, dict):
            holder[key] = value
        elif isinstance(holder, dict) and how == "drop":
            holder.pop(path[-1], None)
        elif isinstance(holder, dict):
            holder[path[-1]] = value
        elif isinstance(holder, list):
            holder.insert(0, value)
    return tree


changed = _changed()


@FUZZ
@given(changed)
def test_a_definition_with_other_values(tree: t.Any) -> None:
    check(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(RICH)), st.integers(0, 12), st.text(max_size=4) | WORDS), max_size=4))
def test_a_text_with_other_letters(changes: list[tuple[int, int, str]]) -> None:
    text = RICH
    for start, length, new in changes:
        text = text[:start] + new + text[start + length :]
    check(text.encode("utf-8", "surrogatepass"))


@FUZZ
@given(st.lists(st.sampled_from(RICH.splitlines(keepends=True)), max_size=40))
def test_lines_in_any_order(lines: list[str]) -> None:
    check("".join(["plugin: oscarv.virt.cluster\n", *lines]).encode())


@FUZZ
@given(st.binary(max_size=60))
def test_bytes(data: bytes) -> None:
    check(data)


def test_the_start_is_good() -> None:
    check(RICH.encode())
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.oscarv.yml"
        for text in (RICH, yaml.safe_dump(PLAIN)):
            path.write_text(text, encoding="utf-8")
            assert len(load(str(path)).guests) == 20, "the mutations would only ever find what is wrong from the start"
