# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of a move: the target's libvirt over TLS, and folders there that are reached through it.

The source has no shell on the target, and needs none: libvirt lists, makes, fills and deletes files in a directory that
it knows as a storage pool. Our folders lie below the pools of the definition, so each is made a transient pool for
as long as one operation lasts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import threading
import time
import typing as t
import uuid
import xml.etree.ElementTree as ET

from ._dialect import DIALECTS
from ._driver import DriverError
from ._kvm_connection import error_name, open_connection, require_libvirt, unless
from ._paths import format_of

PORT_TLS, PORT_TCP = 16514, 16509
#: Seconds for a target to answer at all; libvirt itself would wait for minutes.
CONNECT_TIMEOUT = 10.0
#: Seconds between two questions whether the other side lives, and how many it may leave unanswered.
KEEP_ALIVE = (5, 4)
#: What one libvirt stream packet carries.
PACKET = 262120
#: Somebody else's operation may close a folder under us; then it is opened again.
_ATTEMPTS = 5
_POOL = uuid.UUID("7d2a4e0e-9d0c-4f5e-8d2e-5f0c1b6a9e11")

Pause = t.Callable[[int], None]  #: is told the bytes of each packet; may sleep (bandwidth) or raise (time limit)
Answer = t.TypeVar("Answer")


class TargetError(DriverError):
    """The target cannot be reached or used; the message says what to do."""


def bracketed(address: str) -> str:
    """An address as URIs want it."""
    return f"[{address}]" if ":" in address else address


class Target:
    """One connection to the libvirt of a target HostOS."""

    def __init__(self, host: str, address: str, *, plaintext: bool = False, hypervisor: str = "kvm") -> None:
        self.host = host
        self.address = address
        self.hypervisor = hypervisor
        self.uri, self.connection = _connect(host, address, plaintext, DIALECTS[hypervisor].scheme)

    @property
    def encrypted(self) -> bool:
        return "+tls:" in self.uri

    def domain(self, guest_uuid: str) -> t.Any | None:
        """The domain with this uuid, or None."""
        with unless("VIR_ERR_NO_DOMAIN"):
            return self.connection.lookupByUUIDString(guest_uuid)
        return None

    def domain_named(self, name: str) -> t.Any | None:
        with unless("VIR_ERR_NO_DOMAIN"):
            return self.connection.lookupByName(name)
        return None

    def bridges(self) -> set[str] | None:
        """Names of the network devices there, bridges among them; None where its libvirt cannot tell."""
        try:
            return {interface.name() for interface in self.connection.listAllInterfaces(0)}
        except require_libvirt().libvirtError as error:
            if error_name(error) == "VIR_ERR_NO_SUPPORT":
                return None
            raise

    def pools(self) -> dict[str, str]:
        """Directory of each active pool by its name."""
        lib = require_libvirt()
        pools = self.connection.listAllStoragePools(lib.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
        texts = {pool.name(): ET.fromstring(pool.XMLDesc()).findtext("target/path") for pool in pools}
        return {name: path for name, path in texts.items() if path}

    def folder(self, path: str) -> Folder:
        return Folder(self, path)

    def close(self) -> None:
        with contextlib.suppress(require_libvirt().libvirtError):  # the other side may be gone: nothing is owed to it
            self.connection.close()


def _connect(host: str, address: str, plaintext: bool, scheme: str) -> tuple[str, t.Any]:
    """TLS always; plain TCP only with consent, and only where TLS is not to be had."""
    _run_events()
    problems = []
    ways = [("tls", PORT_TLS)] + ([("tcp", PORT_TCP)] if plaintext else [])
    for transport, port in ways:
        uri = f"{scheme}+{transport}://{bracketed(address)}/system"
        try:
            socket.create_connection((address, port), timeout=CONNECT_TIMEOUT).close()
            connection = open_connection(uri)
            connection.setKeepAlive(*KEEP_ALIVE)
            return uri, connection
        except (OSError, DriverError) as error:
            problems.append(f"{address} port {port}: {error}")
    advice = "run oscarv.virt.hostos on both HostOSes: it issues the certificates and opens the ports"
    raise TargetError(f"target {host} cannot be reached for a move ({'; '.join(problems)}): {advice}")


@functools.cache
def _run_events() -> None:
    """Keep-alive needs libvirt's event loop, which must be there before a connection is opened; once per process."""
    lib = require_libvirt()
    lib.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            lib.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()


class Folder:
    """A directory on the target."""

    def __init__(self, target: Target, path: str) -> None:
        self._target = target
        self.path = path

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (bytes of the file, bytes of the disk in it) of everything here; nothing where there is no folder."""
        lib = require_libvirt()

        def read(pool: t.Any) -> dict[str, tuple[int, int]]:
            found = {}
            for volume in pool.listAllVolumes():
                with unless("VIR_ERR_NO_STORAGE_VOL"):  # deleted since it was listed
                    _kind, capacity, physical = volume.infoFlags(lib.VIR_STORAGE_VOL_GET_PHYSICAL)
                    found[volume.name()] = (physical, capacity)
            return found

        try:
            return self._with_pool(read)
        except lib.libvirtError as error:
            if error_name(error) == "VIR_ERR_SYSTEM_ERROR" and error.get_int1() == errno.ENOENT:
                return {}
            raise

    def make_overlay(self, name: str, size: int, backing: str | None) -> None:
        """An empty disk of `size` bytes, on `backing` if given; its name tells its format. Fails if that is taken."""
        volume = _volume(name, size, format_of(name))
        if backing is not None:
            element = ET.SubElement(volume, "backingStore")
            ET.SubElement(element, "path").text = backing
            ET.SubElement(element, "format", type="qcow2")
        self._with_pool(lambda pool: pool.createXML(ET.tostring(volume, encoding="unicode")), build=True)

    def put(self, name: str, content: bytes) -> None:
        """A small file; fails if the name is taken."""

        def fill(volume: t.Any, stream: t.Any) -> None:
            volume.upload(stream, 0, len(content))
            _send(stream, content)

        self._create(name, len(content), fill)

    def upload(self, path: str, name: str, pause: Pause) -> int:
        """Copy the local file `path` with its holes; fails if the name is taken. Returns the bytes sent."""
        lib = require_libvirt()
        with open(path, "rb", buffering=0) as source:
            size = os.fstat(source.fileno()).st_size
            sent = 0

            def fill(volume: t.Any, stream: t.Any) -> None:
                nonlocal sent
                volume.upload(stream, 0, size, lib.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
                for kind, start, end in extents(source.fileno(), size):
                    if kind == "hole":
                        stream.sendHole(end - start)
                        continue
                    for offset in range(start, end, PACKET):
                        packet = os.pread(source.fileno(), min(PACKET, end - offset), offset)
                        _send(stream, packet)
                        sent += len(packet)
                        pause(len(packet))

            self._create(name, size, fill)
        return sent

    def delete(self, name: str) -> bool:
        """False if it was not there."""

        def remove(pool: t.Any) -> bool:
            with unless("VIR_ERR_NO_STORAGE_VOL"):
                pool.storageVolLookupByName(name).delete()
                return True
            return False

        return self._with_pool(remove)

    def _create(self, name: str, size: int, fill: t.Callable[[t.Any, t.Any], None]) -> None:
        text = ET.tostring(_volume(name, size, "raw"), encoding="unicode")

        def create(pool: t.Any) -> None:
            stream = self._target.connection.newStream()
            volume = pool.createXML(text)
            try:
                fill(volume, stream)
                stream.finish()
            except BaseException:
                with contextlib.suppress(require_libvirt().libvirtError):  # the first error is the one to tell
                    stream.abort()
                with contextlib.suppress(require_libvirt().libvirtError):
                    volume.delete()
                raise

        self._with_pool(create, build=True)

    def _with_pool(self, action: t.Callable[[t.Any], Answer], *, build: bool = False) -> Answer:
        lib = require_libvirt()
        for attempt in range(_ATTEMPTS):
            pool, ours = self._open(build)
            try:
                return action(pool)
            except lib.libvirtError as error:
                # Another move's operation closed the folder between our opening and our use of it.
                if error_name(error) != "VIR_ERR_NO_STORAGE_POOL" or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * (attempt + 1))
            finally:
                if ours:
                    with unless("VIR_ERR_NO_STORAGE_POOL", "VIR_ERR_OPERATION_INVALID"):
                        pool.destroy()
        raise TargetError(f"target {self._target.host}: folder {self.path} is taken away again and again")

    def _open(self, build: bool) -> tuple[t.Any, bool]:
        """The pool at our path and whether we made it."""
        lib = require_libvirt()
        connection = self._target.connection
        with unless("VIR_ERR_NO_STORAGE_POOL"):
            pool = connection.storagePoolLookupByTargetPath(self.path)
            pool.refresh()
            return pool, False
        name = f"oscarv-move-{uuid.uuid5(_POOL, self.path)}"
        root = ET.Element("pool", type="dir")
        ET.SubElement(root, "name").text = name
        ET.SubElement(root, "uuid").text = str(uuid.uuid5(_POOL, self.path))
        ET.SubElement(ET.SubElement(root, "target"), "path").text = self.path
        text = ET.tostring(root, encoding="unicode")
        try:
            return connection.storagePoolCreateXML(text, lib.VIR_STORAGE_POOL_CREATE_WITH_BUILD if build else 0), True
        except lib.libvirtError:
            with unless("VIR_ERR_NO_STORAGE_POOL"):  # another move was faster
                return connection.storagePoolLookupByTargetPath(self.path), False
            raise


def _volume(name: str, size: int, format_: str) -> ET.Element:
    """Volume XML: sparse, readable by root only until libvirt gives it to a guest."""
    volume = ET.Element("volume", type="file")
    ET.SubElement(volume, "name").text = name
    ET.SubElement(volume, "capacity", unit="bytes").text = str(size)
    ET.SubElement(volume, "allocation", unit="bytes").text = "0"
    target = ET.SubElement(volume, "target")
    ET.SubElement(target, "format", type=format_)
    ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = "0600"
    return volume


def _send(stream: t.Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.send(bytes(view[:PACKET])) :]


def extents(handle: int, size: int) -> t.Iterator[tuple[str, int, int]]:
    """("data" | "hole", start, end) of an open file, in order and without gaps."""
    offset = 0
    while offset < size:
        try:
            data = os.lseek(handle, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            data = size
        if data > offset:
            yield "hole", offset, data
        if data >= size:
            return
        offset = os.lseek(handle, data, os.SEEK_HOLE)
        yield "data", data, offset
