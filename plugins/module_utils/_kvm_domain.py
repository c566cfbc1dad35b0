# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few ways in which a domain's configuration is read and written."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._driver import Mark
from ._kvm_connection import require_libvirt, told
from ._kvm_mark import NAMESPACE, PREFIX, mark_xml
from ._kvm_parse import PENDING_NAMESPACE, PENDING_PREFIX, parse


def text_of(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


def persistent_xml(domain: t.Any) -> ET.Element:
    """The persistent configuration with its secrets: what is defined again without them has lost them."""
    lib = require_libvirt()
    return parse(domain.XMLDesc(lib.VIR_DOMAIN_XML_INACTIVE | lib.VIR_DOMAIN_XML_SECURE))


def running_xml(domain: t.Any) -> ET.Element:
    """The running configuration with its secrets; for a transient domain the only one."""
    lib = require_libvirt()
    return parse(domain.XMLDesc(lib.VIR_DOMAIN_XML_SECURE))


def define(connection: t.Any, guest: str, xml: ET.Element) -> t.Any:
    """Write a persistent configuration; returns the virDomain."""
    with told(guest, "define it"):
        return connection.defineXML(text_of(xml))


def edit(connection: t.Any, guest: str, domain: t.Any, edits: t.Iterable[t.Callable[[ET.Element], None]]) -> t.Any:
    """Change a domain's persistent configuration by these edits, all at once."""
    with told(guest, "read its configuration"):
        xml = persistent_xml(domain)
    for change in edits:
        change(xml)
    return define(connection, guest, xml)


def mark_running(guest: str, domain: t.Any, mark: Mark) -> None:
    """The mark of the running configuration, which `define` does not touch and a live move takes along."""
    lib = require_libvirt()
    with told(guest, "write its mark"):
        domain.setMetadata(
            lib.VIR_DOMAIN_METADATA_ELEMENT, mark_xml(mark), PREFIX, NAMESPACE, lib.VIR_DOMAIN_AFFECT_LIVE
        )


def note_pending(guest: str, domain: t.Any, keys: t.Iterable[str]) -> None:
    """Remember in the running configuration what waits for a restart; the restart forgets it."""
    lib = require_libvirt()
    note = ET.Element("pending", {"keys": " ".join(sorted(set(keys)))})
    with told(guest, "note what waits for a restart"):
        domain.setMetadata(
            lib.VIR_DOMAIN_METADATA_ELEMENT,
            text_of(note),
            PENDING_PREFIX,
            PENDING_NAMESPACE,
            lib.VIR_DOMAIN_AFFECT_LIVE,
        )
