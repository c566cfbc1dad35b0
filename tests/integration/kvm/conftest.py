# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

import libvirt
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from private_libvirtd import PrivateLibvirtd, bridge, no_bridge
from run_module import run_module

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIB = 2**20
CLUSTER = "tkvm"


@dataclasses.dataclass
class HostOS:
    """A HostOS under test: private libvirtd, one pool, two bridges, two builds."""

    daemon: PrivateLibvirtd
    bridges: tuple[str, str]
    state_dir: pathlib.Path
    builds: tuple[str, str] = ("", "")

    @property
    def pool(self) -> pathlib.Path:
        return self.daemon.pool

    def spec(self, number: int = 1, **changes: t.Any) -> dict[str, t.Any]:
        """The plain spec of guest wn00N; `changes` replace its keys."""
        name = f"wn{number:03}"
        plain: dict[str, t.Any] = {
            "cluster": CLUSTER,
            "name": name,
            "uuid": f"6f7a3f1e-0f0e-4d55-9d3c-{number:012x}",
            "partition": "workers",
            "epoch": 1,
            "hypervisor": "kvm",
            "state": "stopped",
            "vcpus": 1,
            "memory": 64 * MIB,
            "disks": [{"name": "root", "size": 32 * MIB, "pool": "local", "build_id": self.builds[0]}],
            "nics": [self.nic(number)],
            "seed": {"hostname": name, "authorized_keys": ["ssh-ed25519 AAAAtest someone"]},
        }
        return {**plain, **changes}

    def nic(self, number: int, name: str = "eth0", **changes: t.Any) -> dict[str, t.Any]:
        position = int(name[3:])
        plain = {
            "name": name,
            "network": "compute",
            "mac": f"52:54:00:00:{position:02x}:{number:02x}",
            "bridge": self.bridges[0],
            "addresses": [f"10.88.4.{number}/24"],
            "gateways": ["10.88.4.254"],
        }
        return {**plain, **changes}

    def guest(
        self, specs: t.Sequence[t.Mapping[str, t.Any]], *, check: bool = False, **options: t.Any
    ) -> dict[str, t.Any]:
        return run_module("guest", self.arguments(specs, **options), check=check)

    def arguments(self, specs: t.Sequence[t.Mapping[str, t.Any]], **options: t.Any) -> dict[str, t.Any]:
        return {
            "uri": self.daemon.qemu_uri,
            "state_dir": str(self.state_dir),
            "cluster": CLUSTER,
            "specs": list(specs),
            "shutdown_timeout": 0,
            "force_stop": True,
            **options,
        }

    def info(self, **options: t.Any) -> dict[str, t.Any]:
        return run_module("guest_info", {"uri": self.daemon.qemu_uri, "state_dir": str(self.state_dir), **options})

    @contextlib.contextmanager
    def libvirt(self) -> t.Iterator[t.Any]:
        with contextlib.closing(libvirt.open(self.daemon.qemu_uri)) as connection:
            yield connection

    def files(self) -> set[str]:
        """Everything in the pool but builds, relative to it."""
        found = (path.relative_to(self.pool) for path in self.pool.rglob("*") if path.is_file())
        return {str(path) for path in found if path.parts[0] != "builds"}

    def take_build(self, path: pathlib.Path) -> str:
        """A finished build, brought here."""
        target = self.pool / "builds" / path.name
        shutil.copy(path, target)
        target.chmod(0o444)
        return path.stem

    def wait_for_console(self, text: str, number: int = 1, seconds: float = 120) -> None:
        """Until the guest has said it on its serial console."""
        log = self.daemon.logs / f"wn{number:03}-serial.log"
        deadline = time.monotonic() + seconds
        while not (log.exists() and text in log.read_text(errors="replace")):
            if time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
                pytest.fail(f"{log.name} does not say {text!r} within {seconds} s; it says: {said}")
            time.sleep(0.2)

    def build(self, content: str, size: int = 16 * MIB) -> str:
        """A build in the pool: a qcow2 named by its own sha256."""
        folder = self.pool / "builds"
        folder.mkdir(exist_ok=True)
        draft = folder / "draft"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(draft), str(size)], check=True)
        subprocess.run(["qemu-io", "-c", f"write -P {len(content)} 0 64k", str(draft)], check=True, capture_output=True)
        build_id = hashlib.sha256(draft.read_bytes()).hexdigest()
        draft.chmod(0o444)
        draft.rename(folder / f"{build_id}.qcow2")
        return build_id


@pytest.fixture(scope="session")
def daemon() -> t.Iterator[PrivateLibvirtd]:
    if os.geteuid() != 0:
        pytest.fail("these tests start a libvirtd and make bridges: run them as root")
    started = PrivateLibvirtd(pathlib.Path(tempfile.mkdtemp(prefix="oscarv-kvm-")))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def bridges() -> t.Iterator[tuple[str, str]]:
    alive = {int(entry.name) % 100000 for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()}
    for link in pathlib.Path("/sys/class/net").iterdir():
        found = re.fullmatch(r"tk([0-9]+)[ab]", link.name)
        if found and int(found[1]) not in alive:  # of tests that were killed
            no_bridge(link.name)
    names = (f"tk{os.getpid() % 100000}a", f"tk{os.getpid() % 100000}b")
    for name in names:
        bridge(name)
    yield names
    for name in names:
        no_bridge(name)


@pytest.fixture(scope="session")
def tiny() -> pathlib.Path:
    """A build that boots in seconds, lets go of devices and heeds the power button (see tests/integration/migrate)."""
    sys.path.insert(0, str(ROOT / "tests/integration/migrate"))
    import tiny as builder

    cache = ROOT / ".cache/tiny"
    cache.mkdir(parents=True, exist_ok=True)
    return builder.build(cache)


@pytest.fixture
def host(daemon: PrivateLibvirtd, bridges: tuple[str, str], tmp_path: pathlib.Path) -> t.Iterator[HostOS]:
    made = HostOS(daemon, bridges, tmp_path / "state")
    made.builds = (made.build("a"), made.build("bb"))
    yield made
    daemon.clear()
