# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loader, JSON Schema and reference say the same, since they are made of one table."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import typing as t

import jsonschema
import pytest
import yaml
from ansible_collections.oscarv.virt.plugins.plugin_utils import _definition_table as table
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import DefinitionErrors, load
from definer import GOOD
from hypothesis import given
from test_definition_errors import CASES, Case
from test_definition_fuzz import FUZZ, changed

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "extensions/schema/oscarv.schema.json").read_text(encoding="utf-8"))
PART_SCHEMA = json.loads((ROOT / "extensions/schema/oscarv-part.schema.json").read_text(encoding="utf-8"))

#: Cases that a schema can see: those about one key, not about several together.
SEEN = """unknown key|unknown key, nothing like it|missing key|no value|later key|later value|bare size|quoted bare size
ambiguous unit|a truth for a text|a number for a text|a text for a truth|a list for a text|a text for a mapping
out of range|a word that is not one of them|bare share|bare time|capacity in part|no kind of partition|rule of no kind
image without builder|image by wishful thinking|image without checksum|both kinds of partition"""
SEEN_CASES = [case for case in CASES if case.name in SEEN.replace("\n", "|").split("|")]


class Yaml12(yaml.SafeLoader):
    """Truths as YAML 1.2 and editors have them: `on` and `yes` are texts."""


Yaml12.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not (tag.endswith(":bool") and letter in "yYnNoO")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str) -> t.Any:
    return yaml.load(text, Loader=Yaml12)


def test_the_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("definition_pages", ROOT / "tools/definition_pages.py")
    assert spec is not None and spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert pages.main(["--check"]) == 0, f"run tools/definition_pages.py: {capsys.readouterr().out}"


def test_the_plugin_documents_every_key_of_the_root_file() -> None:
    source = (ROOT / "plugins/inventory/cluster.py").read_text(encoding="utf-8")
    documented = yaml.safe_load(source.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    inherited = {"compose", "groups", "keyed_groups", "strict", "use_extra_vars", "leading_separator"}
    assert set(documented) | inherited == set(table.ROOT.keys)


@pytest.mark.parametrize("schema", [SCHEMA, PART_SCHEMA])
def test_the_schema_is_one(schema: dict[str, t.Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)


def test_good_files_are_good() -> None:
    jsonschema.validate(read(GOOD), SCHEMA)
    example = ROOT / "inventories/example"
    jsonschema.validate(read((example / "example.oscarv.yml").read_text()), SCHEMA)
    jsonschema.validate(read((example / "parts/login.oscarv-part.yml").read_text()), PART_SCHEMA)


def test_all_such_cases_are_there() -> None:
    assert len(SEEN_CASES) == len(SEEN.replace("\n", "|").split("|"))


@pytest.mark.parametrize("case", SEEN_CASES, ids=lambda case: case.name)
def test_what_the_loader_refuses_for_a_key_the_schema_refuses(case: Case) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(GOOD.replace(case.old, case.new)), SCHEMA)


VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


@FUZZ
@given(tree=changed)
def test_what_the_loader_accepts_the_schema_accepts(tree: t.Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.oscarv.yml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    try:
        load(str(path))
    except DefinitionErrors:
        return
    assert not list(VALIDATOR.iter_errors(json.loads(json.dumps(tree, default=str))))
