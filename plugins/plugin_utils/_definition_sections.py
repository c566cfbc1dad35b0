# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections of a root file and its parts, put together; and the words that several checks share."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ._definition_kinds import BAD, Record
from ._definition_table import PART, ROOT, SECTIONS
from ._definition_yaml import Context, compose
from ._model import Where

ROOT_SUFFIX = ".oscarv.yml"
PART_SUFFIX = ".oscarv-part.yml"


@dataclasses.dataclass
class Sections:
    """What the files of one cluster say, checked key by key, not yet against each other."""

    root: Record
    files: list[str]
    networks: dict[str, Record]
    pools: dict[str, Record]
    enclosures: dict[str, Record]
    host_partitions: dict[str, Record]
    guest_partitions: dict[str, Record]
    images: dict[str, Record]
    rules: list[Record]

    def complete(self, context: Context) -> bool:
        """Whether the members of all partitions are known. Where not, an unknown name says nothing."""
        records = [*self.host_partitions.values(), *self.guest_partitions.values()]
        return "partitions" not in context.dropped and all("members" in record for record in records)


def read(path: str, context: Context) -> Sections | None:
    """Read a root file and its parts. None where the root file is no mapping at all."""
    node = compose(path, context)
    if node is None:
        return None
    root = ROOT.read(node, "", context)
    records: list[Record] = [root]
    files = [path]
    for part in root.get("include", ()):
        where = root.where("include")
        name = beside(path, part)
        if not name.endswith(PART_SUFFIX):
            context.error_at(where, part, f"a part is named *{PART_SUFFIX}")
        elif any(os.path.realpath(name) == os.path.realpath(file) for file in files):
            context.error_at(where, part, "is included twice")
        else:
            files.append(name)
            node = compose(name, context)
            if node is not None:
                records.append(PART.read(node, "", context))
    context.file = path
    found: dict[str, dict[str, Record]] = {section: {} for section in SECTIONS if section != "rules"}
    for record in records:
        for section, names in found.items():
            for name, value in record.get(section, {}).items():
                if name in names:
                    context.error_at(value.place, None, f"{name!r} is defined twice, first in {at(names[name].place)}")
                else:
                    names[name] = value
    partitions = found.pop("partitions")
    return Sections(
        root=root,
        files=files,
        networks=found["networks"],
        pools=found["pools"],
        enclosures=found["enclosures"],
        host_partitions={name: record for name, record in partitions.items() if "hypervisor" in record.lines},
        guest_partitions={name: record for name, record in partitions.items() if "hypervisor" not in record.lines},
        images=found["images"],
        rules=[rule for record in records for rule in record.get("rules", ()) if rule is not BAD],
    )


def beside(file: str, path: str) -> str:
    """A path of a definition file, relative to that file."""
    return os.path.normpath(os.path.join(os.path.dirname(file), os.path.expanduser(path)))


def at(where: Where) -> str:
    return f"{where.file}:{where.line}"


def some(names: t.Iterable[str]) -> str:
    """A few names for a message: 'a, b, c and 13 more'."""
    every = list(names)
    shown = ", ".join(every[:3])
    return shown if len(every) <= 3 else f"{shown} and {len(every) - 3} more"
