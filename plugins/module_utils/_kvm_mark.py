# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our mark as an element of a libvirt domain's metadata.

<oscarv:guest xmlns:oscarv="urn:oscarv:virt:guest:1" cluster="demo" guest="wn001" uuid="..." partition="workers"
              epoch="3" build_id="..." image="debian-worker" host_key="ssh-ed25519 AAAA...">
  <oscarv:nic name="eth0" network="compute" mac="52:54:00:00:00:01" addresses="10.0.4.21/22 fd12:3456::15/64"/>
</oscarv:guest>
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._driver import Mark
from ._spec import GuestSpec

NAMESPACE = "urn:oscarv:virt:guest:1"
PREFIX = "oscarv"
TAG = f"{{{NAMESPACE}}}guest"
_NIC = f"{{{NAMESPACE}}}nic"

ET.register_namespace(PREFIX, NAMESPACE)
ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")

_OPTIONAL = ("build_id", "image", "host_key")


def mark_of_spec(spec: GuestSpec, *, build_id: str | None, host_key: str | None) -> Mark:
    """The mark of a guest made from `spec`; `build_id` is what its root disk really stands on."""
    return Mark(
        cluster=spec.cluster,
        guest=spec.name,
        uuid=spec.uuid,
        partition=spec.partition,
        epoch=spec.epoch,
        build_id=build_id,
        host_key=host_key,
        nics=tuple(
            {"name": nic.name, "network": nic.network, "mac": nic.mac, "addresses": list(nic.addresses)}
            for nic in spec.nics
        ),
    )


def mark_element(mark: Mark) -> ET.Element:
    """The element for <metadata>."""
    values: dict[str, t.Any] = {
        "cluster": mark.cluster,
        "guest": mark.guest,
        "uuid": mark.uuid,
        "partition": mark.partition,
        "epoch": str(mark.epoch),
    }
    values.update({key: getattr(mark, key) for key in _OPTIONAL if getattr(mark, key) is not None})
    element = ET.Element(TAG, values)
    for nic in mark.nics:
        ET.SubElement(element, _NIC, {key: _text(value) for key, value in nic.items()})
    return element


def mark_xml(mark: Mark) -> str:
    """What virDomainSetMetadata takes: without a namespace, libvirt puts it on every element itself."""
    element = mark_element(mark)
    for part in element.iter():
        part.tag = part.tag.split("}")[-1]
    return ET.tostring(element, encoding="unicode")


def read_mark(domain: ET.Element) -> Mark | None:
    """The mark in a domain's XML.

    None where there is none, where it cannot be understood, and where its uuid is not the domain's: `virt-clone`
    copies metadata, and a clone is not ours.
    """
    element = domain.find(f"metadata/{TAG}")
    if element is None:
        return None
    try:
        mark = Mark(
            cluster=element.attrib["cluster"],
            guest=element.attrib["guest"],
            uuid=element.attrib["uuid"],
            partition=element.attrib["partition"],
            epoch=int(element.attrib["epoch"]),
            nics=tuple(_nic(nic) for nic in element.findall(_NIC)),
            build_id=element.get("build_id"),
            image=element.get("image"),
            host_key=element.get("host_key"),
        )
    except (KeyError, ValueError):
        return None
    return mark if mark.uuid == domain.findtext("uuid") else None


def replace_mark(domain: ET.Element, mark: Mark) -> None:
    """Put `mark` into a domain's XML in the place of the one that is there, if any."""
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.Element("metadata")
        # libvirt reads elements in any order; after the uuid is where it writes it.
        domain.insert(1, metadata)
    for old in metadata.findall(TAG):
        metadata.remove(old)
    metadata.append(mark_element(mark))


def _text(value: t.Any) -> str:
    return " ".join(value) if isinstance(value, (list, tuple)) else str(value)


def _nic(element: ET.Element) -> dict[str, t.Any]:
    nic: dict[str, t.Any] = dict(element.attrib)
    nic["addresses"] = element.get("addresses", "").split()
    return nic
