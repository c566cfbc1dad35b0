# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A HostOS with one guest and a target, both played: for what two equal real HostOSes cannot show."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import typing as t
import xml.etree.ElementTree as ET

import libvirt
from ansible_collections.oscarv.virt.plugins.module_utils._driver import Capability, Mark, MoveRequest, Seen
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import mark_element
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_observe import Native
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import view
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import Tombstones

UUID = "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11"
BUILD = "ab" * 32
MIB = 2**20


def error(code: str, text: str = "no") -> libvirt.libvirtError:
    """A libvirtError as libvirt would raise it."""
    made = libvirt.libvirtError(text)
    made.err = (getattr(libvirt, code), 0, text, 0, "", None, None, 0, 0)
    return made


def plain(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "cluster": "demo",
        "name": "wn1",
        "uuid": UUID,
        "partition": "workers",
        "epoch": 2,
        "hypervisor": "kvm",
        "state": "running",
        "vcpus": 1,
        "memory": 64 * MIB,
        "disks": [
            {"name": "root", "size": 64 * MIB, "pool": "local", "build_id": BUILD},
            {"name": "data", "size": 8 * MIB, "pool": "local"},
        ],
        **changes,
    }


def mark(epoch: int = 1, **changes: t.Any) -> Mark:
    values = {"cluster": "demo", "guest": "wn1", "uuid": UUID, "partition": "workers", "build_id": BUILD}
    return Mark(epoch=epoch, **{**values, **changes})


class Played:
    """Answers to libvirt's names: isActive() is is_active()."""

    def __getattr__(self, name: str) -> t.Any:
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        if snake == name:
            raise AttributeError(name)
        return getattr(self, snake)


class Domain(Played):
    """A virDomain with what moves ask of it."""

    def __init__(self, state: int = libvirt.VIR_DOMAIN_RUNNING, epoch: int | None = 1, cpu: str = "") -> None:
        self.code = state
        self.epoch = epoch
        self.cpu = cpu
        self.snapshots = self.saved = 0
        self.autostarts: list[bool] = []
        self.calls: list[str] = []
        self.persistent = True

    def xmldesc(self, _flags: int = 0) -> str:
        root = ET.fromstring(
            f"<domain type='kvm'><name>wn1</name><uuid>{UUID}</uuid><metadata/><memory unit='MiB'>64</memory>"
            f"<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>{self.cpu}<devices/></domain>"
        )
        if self.epoch is not None:
            t.cast(ET.Element, root.find("metadata")).append(mark_element(mark(self.epoch)))
        return ET.tostring(root, encoding="unicode")

    def state(self) -> tuple[int, int]:
        return (self.code, 0)

    def is_active(self) -> bool:
        return self.code not in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)

    def is_persistent(self) -> bool:
        return self.persistent

    def snapshot_num(self) -> int:
        return self.snapshots

    def has_managed_save_image(self) -> int:
        return self.saved

    def set_autostart(self, on: bool) -> None:
        self.autostarts.append(bool(on))

    def undefine_flags(self, _flags: int) -> None:
        self.calls.append("undefine")

    def create(self) -> None:
        self.code = libvirt.VIR_DOMAIN_RUNNING
        self.calls.append("create")

    def resume(self) -> None:
        self.code = libvirt.VIR_DOMAIN_RUNNING
        self.calls.append("resume")

    def job_stats(self, _flags: int = 0) -> dict[str, int]:
        return {"downtime": 7, "memory_processed": 3 * MIB}

    def abort_job(self) -> None:
        self.calls.append("abort")


class Connection(Played):
    """A virConnect that knows kinds of domains and compares CPUs."""

    def __init__(self, kinds: t.Collection[str] = ("kvm", "qemu"), fits: bool = True) -> None:
        self.kinds = kinds
        self.fits = fits

    def get_domain_capabilities(self, _path: t.Any, _arch: str, _machine: str, kind: str, _flags: int) -> str:
        if kind not in self.kinds:
            raise error("VIR_ERR_INVALID_ARG", f"unsupported virttype {kind}")
        model = "<model>Skylake</model><feature name='avx' policy='require'/>"
        mode = f"<mode name='host-model' supported='yes'>{model}</mode>"
        return f"<domainCapabilities><cpu>{mode}</cpu></domainCapabilities>"

    def compare_hypervisor_cpu(self, *_arguments: t.Any) -> int:
        return libvirt.VIR_CPU_COMPARE_SUPERSET if self.fits else libvirt.VIR_CPU_COMPARE_INCOMPATIBLE


class PlayedFolder:
    def __init__(self, files: dict[str, tuple[int, int]]) -> None:
        self.files = files

    def sizes(self) -> dict[str, tuple[int, int]]:
        return dict(self.files)

    def delete(self, name: str) -> bool:
        return self.files.pop(name, None) is not None


class PlayedTarget:
    """What Target offers, without a HostOS."""

    host = "node02"
    hypervisor = "kvm"
    address = "10.0.0.2"
    uri = "qemu+tls://10.0.0.2/system"
    encrypted = True

    def __init__(self) -> None:
        self.connection = Connection()
        self.there: Domain | None = None
        self.same_name: Domain | None = None
        self.devices: set[str] | None = {"br0", "lo"}
        self.pool_paths: dict[str, str] = {}
        self.folders: dict[str, dict[str, tuple[int, int]]] = {}
        self.closed = False

    def domain(self, _uuid: str) -> Domain | None:
        return self.there

    def domain_named(self, _name: str) -> Domain | None:
        return self.same_name

    def bridges(self) -> set[str] | None:
        return self.devices

    def pools(self) -> dict[str, str]:
        return self.pool_paths

    def folder(self, path: str) -> PlayedFolder:
        return PlayedFolder(self.folders.setdefault(path, {}))

    def close(self) -> None:
        self.closed = True


@dataclasses.dataclass
class PlayedOptions:
    state_dir: str
    shutdown_timeout: float = 1.0


class PlayedDriver:
    """What moves ask of a KvmDriver. One pool, one guest."""

    hypervisor = "kvm"

    def __init__(self, folder: pathlib.Path) -> None:
        self.pool = folder / "pool"
        self.options = PlayedOptions(str(folder / "state"))
        self.tombstones = Tombstones(self.options.state_dir)
        self.connection = Connection()
        self.pools = {"local": str(self.pool)}
        self.domain: Domain | None = Domain()
        self.changes: dict[str, t.Any] = {}  #: of Seen
        self.native: dict[str, t.Any] = {}  #: of Native
        self.lacking: dict[str, str] = {}  #: capability -> reason
        self.processes: list[int] = []  #: of the guest, that libvirt does not show
        (self.pool / "builds").mkdir(parents=True)
        (self.pool / "demo").mkdir()
        (self.pool / "builds" / f"{BUILD}.qcow2").write_bytes(b"b" * 100)
        for name in ("wn1-root.qcow2", "wn1-data.qcow2", "wn1-seed.iso"):
            (self.pool / "demo" / name).write_bytes(b"x" * 10)

    def path(self, name: str) -> str:
        return str(self.pool / "demo" / name)

    def disks(self) -> tuple[dict[str, t.Any], ...]:
        build = str(self.pool / "builds" / f"{BUILD}.qcow2")
        root, data = self.path("wn1-root.qcow2"), self.path("wn1-data.qcow2")
        common = {"pool": "local"}
        return (
            {**common, "name": "root", "target": "vda", "path": root, "size": 64 * MIB, "backing": build},
            {**common, "name": "data", "target": "vdb", "path": data, "size": 8 * MIB, "backing": None},
        )

    def capabilities(self) -> dict[str, Capability]:
        names = ("live_move", "cold_move", "live_move_local_disk")
        return {name: Capability(name not in self.lacking, self.lacking.get(name, "")) for name in names}

    def capabilities_of(self, _seen: Seen) -> dict[str, Capability]:
        return self.capabilities()

    def strays(self, _uuid: str) -> list[int]:
        return self.processes

    def observe_one(self, _uuid: str) -> Seen | None:
        if self.domain is None:
            return None
        xml = ET.fromstring(self.domain.xmldesc())
        values: dict[str, t.Any] = {"config": view(xml), "live": None, "xml": xml, "active": self.domain.is_active()}
        return Seen(
            **{
                "name": "wn1",
                "uuid": UUID,
                "state": "running" if self.domain.is_active() else "stopped",
                "mark": mark(self.domain.epoch) if self.domain.epoch is not None else None,
                "vcpus": 1,
                "memory": 64 * MIB,
                "disks": self.disks(),
                "nics": ({"mac": "52:54:00:00:00:01", "bridge": "br0", "model": "virtio"},),
                "seed": self.path("wn1-seed.iso"),
                "native": Native(domain=self.domain, **{**values, **self.native}),
                **self.changes,
            }
        )

    def observe_all(self) -> t.Any:
        seen = self.observe_one(UUID)
        return dataclasses.make_dataclass("All", ["guests", "foreign"])({UUID: seen} if seen else {}, ())


@dataclasses.dataclass
class Stage:
    driver: PlayedDriver
    target: PlayedTarget

    @property
    def pool(self) -> str:
        return str(self.driver.pool)

    @property
    def folder(self) -> dict[str, tuple[int, int]]:
        """What lies in the cluster's folder on the target."""
        return self.target.folders.setdefault(f"{self.pool}/demo", {})

    @staticmethod
    def request(**changes: t.Any) -> MoveRequest:
        spec = GuestSpec.from_plain(changes.pop("spec", None) or plain())
        values = {"target": "node02", "target_address": "10.0.0.2", "mode": "auto", "move": "move-1", "plaintext": True}
        return MoveRequest(spec=spec, **{**values, **changes})


def stage(folder: pathlib.Path) -> Stage:
    """Both sides as they are when nothing speaks against a move."""
    driver, target = PlayedDriver(folder), PlayedTarget()
    target.pool_paths = dict(driver.pools)
    target.folders[f"{driver.pool}/builds"] = {f"{BUILD}.qcow2": (100, 64 * MIB)}
    return Stage(driver, target)
