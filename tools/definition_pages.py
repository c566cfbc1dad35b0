# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what is made of the definition's table of keys: the JSON Schemas and the reference page.

python tools/definition_pages.py [--check]     with --check: only say, by exit code 1, that something is out of date
"""

from __future__ import annotations

import json
import pathlib
import sys
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "extensions" / "schema"
REFERENCE = ROOT / "docs" / "reference" / "definition.md"

HEAD = """\
# The definition: every key

One root file per cluster, `NAME.oscarv.yml`, and parts that it includes, `NAME.oscarv-part.yml`. This page is made of
the table that the loader reads by (`tools/definition_pages.py`); [How to define a cluster](../how-to/define.md) goes
through it step by step. Editors complete and check keys with `extensions/schema/oscarv.schema.json` (for parts
`oscarv-part.schema.json`): put `# yaml-language-server: $schema=PATH` on the first line.

Whatever is wrong is reported at once, each with file, line and key path. A key that is not listed here is an error. So
is a template (`{{ ... }}`): a definition says what is, it is not computed.

- **size**: a number and `KiB MiB GiB TiB PiB` (powers of 1024) or `kB MB GB TB PB` (powers of 1000): `4 GiB`, `500 MB`.
  Rounded up to whole MiB. A bare number is an error.
- **time**: a number and `s`, `min`, `h` or `d`: `90 s`, `1 h`. **share**: `10 %`.
- **names**: a range `node[01:20]`, with a step `n[1:9:2]`, with commas `a,b[1:3,7]`, or a list of these. A leading zero
  fixes the width.

Texts follow YAML 1.2: `on` is a key, `52:54:00:00:00:07` is a text, and a truth is `true` or `false`.\
"""


def sections(table: t.Any) -> list[tuple[str, str, str, t.Any]]:
    """Title, anchor, what it is, and the mapping."""
    return [
        ("The root file", "", "Its first line is `plugin: oscarv.virt.cluster`.", table.ROOT),
        ("Network", "networks.NAME", "", table.NETWORK),
        ("Pool", "pools.NAME", "Left out, there is one: `local`, a folder.", table.POOL),
        ("Enclosure", "enclosures.NAME", "A HostOS stands in at most one enclosure of each level.", table.ENCLOSURE),
        ("Host partition", "partitions.NAME", "A partition with `hypervisor`.", table.HOST_PARTITION),
        ("Guest partition", "partitions.NAME", "A partition with `image`.", table.GUEST_PARTITION),
        ("NIC", "partitions.NAME.networks[]", "A plain name is short for `{name: NAME}`.", table.NIC),
        ("Disk", "partitions.NAME.disks[]", "", table.DISK),
        ("Tolerate", "partitions.NAME.tolerate[]", "", table.TOLERATE),
        ("Override", "partitions.NAME.override.GUEST", "Nothing has a default here: what is not said is as the"
         " partition says.", table.OVERRIDE),
        *((f"Rule: {name}", "rules[]", "", kind) for name, kind in table.RULES.items()),
        *((f"Image: {name}", "images.NAME", "", kind) for name, kind in table.BUILDERS.items()),
    ]  # fmt: skip


def default(row: t.Any) -> str:
    if row.required:
        return "**required**"
    if row.shown:
        return (
            row.shown if "`" in row.shown or " " in row.shown or row.shown in ("none", "nothing") else f"`{row.shown}`"
        )
    if row.default is None:
        return ""
    if isinstance(row.default, bool):
        return f"`{str(row.default).lower()}`"
    return "none" if row.default == () else f"`{row.default}`"


def page(table: t.Any) -> str:
    from ansible_collections.oscarv.virt.plugins.plugin_utils._definition_kinds import Mapping

    parts = [HEAD]
    for title, path, words, mapping in sections(table):
        parts.append(f"\n## {title}\n")
        parts.append(f"`{path}`. {words}".strip() + "\n" if path else words + "\n")
        parts.append("| key | value | default | meaning |\n|---|---|---|---|")
        for name, row in mapping.keys.items():
            if not row.later:
                parts.append(f"| `{name}` | {row.kind.words} | {default(row)} | {row.help} |")
        for name, row in mapping.keys.items():
            if isinstance(row.kind, Mapping) and not row.later:
                parts.append(f"\n`{name}`:\n\n| key | value | default | meaning |\n|---|---|---|---|")
                for inner, below in row.kind.keys.items():
                    if not below.later:
                        parts.append(f"| `{inner}` | {below.kind.words} | {default(below)} | {below.help} |")
        later = [f"`{name}` ({row.later})" for name, row in mapping.keys.items() if row.later]
        if later:
            parts.append(f"\nNot yet: {', '.join(later)}.")
    return "\n".join(parts) + "\n"


def schema(kind: t.Any, title: str) -> str:
    body = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title, **kind.schema()}
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    if "ansible_collections.oscarv" not in sys.modules:
        _AnsibleCollectionFinder(paths=[str(ROOT / ".build" / "collections")])._install()
    from ansible_collections.oscarv.virt.plugins.plugin_utils import _definition_table as table

    files = {
        SCHEMAS / "oscarv.schema.json": schema(table.ROOT, "oscarv.virt: definition of a cluster"),
        SCHEMAS / "oscarv-part.schema.json": schema(table.PART, "oscarv.virt: part of a definition"),
        REFERENCE: page(table),
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        sys.stdout.write(f"{path.relative_to(ROOT)}: {'out of date' if '--check' in arguments else 'written'}\n")
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
