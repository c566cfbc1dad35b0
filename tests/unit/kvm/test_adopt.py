# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of a fenced HostOS comes up with its disks from a shared pool: real files, domains on libvirt's simulator."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_create
from ansible_collections.oscarv.virt.plugins.module_utils._claims import Claim, read_claims
from ansible_collections.oscarv.virt.plugins.module_utils._kvm import KvmDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_connection import open_connection
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_world import World
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._report import result_plain
from kvm_plain import MIB, UUID, clear, plain

KEY = "ssh-ed25519 " + "A" * 68
OTHER = "6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c99"
OLD, NEW = "ab" * 32, "cd" * 32


class HostOS:
    """One that had nothing to do with the guest until now. Pool `san` is what all HostOSes see."""

    def __init__(self, base: pathlib.Path) -> None:
        self.connection = open_connection("test:///default")
        self.state_dir = str(base / "state")
        self.pools = {name: str(base / name) for name in ("local", "san")}
        for pool in self.pools.values():
            for directory in ("builds", "demo"):
                (pathlib.Path(pool) / directory).mkdir(parents=True)
            for build in (OLD, NEW):
                image(pathlib.Path(pool) / "builds" / f"{build}.qcow2", 8 * MIB).chmod(0o444)
        clear(self.connection)

    def run(self, spec: dict[str, t.Any], check: bool = False) -> dict[str, t.Any]:
        driver = KvmDriver(Options(state_dir=self.state_dir), "demo", self.connection)
        driver.pools = self.pools
        result = reconcile(driver, Wish("demo", [spec]), check=check)
        return result_plain(result, "demo", check=check, prune="report")["guests"]["wn001"]

    def file(self, pool: str, disk: str, build: str | None = None, size: int = 8 * MIB) -> pathlib.Path:
        """A disk that the guest had on the HostOS that is lost: no claim names it."""
        directory = pathlib.Path(self.pools[pool])
        backing = directory / "builds" / f"{build}.qcow2" if build else None
        return image(directory / "demo" / f"wn001-{disk}.qcow2", size, backing)

    def files(self, pool: str) -> set[str]:
        return set(os.listdir(pathlib.Path(self.pools[pool]) / "demo"))

    def refused(self, spec: dict[str, t.Any]) -> str:
        """What check mode and a run say, which is the same; nothing was made."""
        before = [self.files(pool) for pool in self.pools]
        told = [self.run(spec, check)["msg"] for check in (True, False)]
        assert told[0] == told[1]
        assert [self.files(pool) for pool in self.pools] == before
        assert self.connection.listAllDomains() == []
        return str(told[0])

    def thrice(self, spec: dict[str, t.Any]) -> dict[str, t.Any]:
        """Check mode says what a run does, and a second run does nothing."""
        checked, done, again = self.run(spec, check=True), self.run(spec), self.run(spec)
        for key in ("steps", "changed", "build_outdated"):
            assert checked[key] == done[key], key
        assert not done.get("msg"), done["msg"]
        assert (done["changed"], again["changed"], again["steps"]) == (True, False, [])
        assert not list(pathlib.Path(self.pools["san"]).glob("demo/*.claim.json"))
        return done


def image(path: pathlib.Path, size: int, backing: pathlib.Path | None = None) -> pathlib.Path:
    under = ["-b", str(backing), "-F", "qcow2"] if backing else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *under, str(path), str(size)], check=True)
    return path


def guest(**changes: t.Any) -> dict[str, t.Any]:
    """Reached before, fenced once, all disks on the shared pool."""
    base = {"epoch": 2, "first_contact": True, "seed": None, "host_key": KEY, "nics": []}
    return plain(**{**base, "disks": [disk(build_id=OLD)], **changes})


def disk(name: str = "root", pool: str = "san", **changes: t.Any) -> dict[str, t.Any]:
    return {"name": name, "size": 8 * MIB, "pool": pool, "shared": pool == "san", **changes}


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[HostOS]:
    monkeypatch.setattr(World, "has_files", True)
    made = HostOS(tmp_path)
    read = KvmDriver.observe_all

    def with_claims(driver: KvmDriver) -> t.Any:
        found = read(driver)
        world = driver._seen_world()
        object.__setattr__(world, "claims", read_claims(made.pools.values(), "demo"))
        return found

    monkeypatch.setattr(KvmDriver, "observe_all", with_claims)
    yield made
    clear(made.connection)
    made.connection.close()


def test_a_guest_of_a_fenced_hostos_comes_up_with_its_disks(host: HostOS) -> None:
    root, data = host.file("san", "root", OLD), host.file("san", "data")
    before = root.read_bytes(), data.read_bytes()
    done = host.thrice(guest(disks=[disk(build_id=OLD), disk("data")]))
    assert (root.read_bytes(), data.read_bytes()) == before
    assert not any(word in step for step in done["steps"] for word in ("create", "seed"))
    assert (done["state"], done["epoch"], done["build_id"], done["host_key"]) == ("running", 2, OLD, KEY)
    assert host.files("san") == {"wn001-root.qcow2", "wn001-data.qcow2"}


def test_its_root_may_stand_on_an_older_build_and_is_grown(host: HostOS) -> None:
    host.file("san", "root", OLD)
    done = host.thrice(guest(disks=[disk(build_id=NEW, size=16 * MIB)]))
    assert (done["build_id"], done["build_outdated"]) == (OLD, True)
    assert any(step.startswith("grow disk root") for step in done["steps"])


def test_a_disk_is_never_shrunk(host: HostOS) -> None:
    host.file("san", "root", OLD, size=32 * MIB)
    assert "a disk is never shrunk" in host.refused(guest())


def test_with_consent_only_the_local_disk_is_empty(host: HostOS) -> None:
    """What the lost HostOS did not take with it is not lost: the root keeps its key, so it gets no seed."""
    root = host.file("san", "root", OLD)
    before = root.read_bytes()
    seed = {"hostname": "wn001"}
    wish = guest(disks=[disk(build_id=OLD), disk("scratch", "local")], first_contact=False, recreate=True, seed=seed)
    done = host.thrice(wish)
    assert root.read_bytes() == before
    assert "create disk scratch" in done["steps"]
    assert "make seed" not in done["steps"]
    assert done["host_key"] == KEY


def test_with_consent_a_data_disk_on_a_shared_pool_is_kept(host: HostOS) -> None:
    data = host.file("san", "data")
    before = data.read_bytes()
    wish = guest(disks=[disk(pool="local", build_id=OLD), disk("data")], first_contact=False, recreate=True)
    done = host.thrice(wish)
    assert data.read_bytes() == before
    assert "create disk root" in done["steps"]
    assert "create disk data" not in done["steps"]


@pytest.mark.parametrize("reached", [False, True])
def test_the_old_seed_is_kept_until_the_first_contact_and_deleted_after(host: HostOS, reached: bool) -> None:
    host.file("san", "root", OLD)
    seed = pathlib.Path(host.pools["san"]) / "demo" / "wn001-seed.iso"
    seed.write_text("the key that the guest has")
    done = host.thrice(guest(first_contact=reached, seed=None if reached else {"hostname": "wn001"}))
    assert seed.exists() is not reached
    assert "make seed" not in done["steps"]
    assert done["host_key"] == KEY
    assert reached or seed.read_text() == "the key that the guest has"


@pytest.mark.parametrize("consent", [False, True])
def test_an_interruption_loses_no_disk(host: HostOS, monkeypatch: pytest.MonkeyPatch, consent: bool) -> None:
    """The next run finds a claim, and must not take the disk for one that was just made."""
    root = host.file("san", "root", OLD)
    before = root.read_bytes()
    wish = guest(disks=[disk(build_id=NEW)], recreate=consent)

    def fail(*_args: t.Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as broken:
        broken.setattr(_kvm_create, "define", fail)
        assert "the power went" in host.run(wish)["msg"]
    (found,) = list(read_claims([host.pools["san"]], "demo").values())
    assert not found.fresh
    assert found.mark is not None and (found.mark.build_id, found.mark.host_key) == (OLD, KEY)
    done = host.run({**wish, "recreate": False})
    assert root.read_bytes() == before
    assert (done["build_id"], done["host_key"], "make seed" in done["steps"]) == (OLD, KEY, False)


def test_a_local_disk_without_a_claim_is_refused(host: HostOS) -> None:
    host.file("local", "root", OLD)
    text = host.refused(guest(disks=[disk(pool="local", build_id=OLD)]))
    assert "nothing says that it belongs to this guest" in text
    assert "move it away or remove it" in text


def test_a_local_data_disk_without_a_claim_is_refused_beside_a_shared_root(host: HostOS) -> None:
    host.file("san", "root", OLD)
    host.file("local", "scratch")
    wish = guest(disks=[disk(build_id=OLD), disk("scratch", "local")])
    assert "disk scratch" in host.refused(wish)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 1},  # the guest was never elsewhere
        {"first_contact": False, "host_key": None, "seed": {"hostname": "wn001"}},  # nor was it ever made
    ],
)
def test_a_guest_that_had_no_disk_takes_none(host: HostOS, changes: dict[str, t.Any]) -> None:
    host.file("san", "root", OLD)
    text = host.refused(guest(**changes))
    assert "nothing says that it belongs to this guest" in text
    assert "shared pool san" in text
    assert "do not remove it" in text
    assert "or remove it" not in text


def test_a_link_is_not_taken(host: HostOS) -> None:
    path = host.file("san", "root", OLD)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert "do not remove it" in host.refused(guest())


@pytest.mark.parametrize("field", ["files", "doomed"])
def test_a_disk_that_anothers_claim_names_is_refused(host: HostOS, field: str) -> None:
    path = str(host.file("san", "root", OLD))
    named: dict[str, t.Any] = {"files": {"root": path}} if field == "files" else {"doomed": (path,)}
    Claim(OTHER, "demo", "old", host.pools["san"], fresh=True, **named).write()
    text = host.refused(guest())
    assert f"belongs to guest old (uuid {OTHER}), not to this guest (uuid {UUID})" in text
    assert "or remove it" not in text


def test_a_claim_of_its_own_for_another_disk_is_no_hindrance(host: HostOS) -> None:
    """A data disk that was detached, before the HostOS was lost."""
    root, data = host.file("san", "root", OLD), host.file("san", "data")
    Claim(UUID, "demo", "wn001", host.pools["san"], files={"data": str(data)}).write()
    before = root.read_bytes()
    assert host.run(guest())["changed"]
    assert root.read_bytes() == before
    (left,) = list(read_claims([host.pools["san"]], "demo").values())
    assert dict(left.files) == {"data": str(data)}
    assert json.loads(left.path.read_text())["files"] == {"data": str(data)}


def test_a_data_disk_that_is_added_to_a_guest_is_not_found_by_chance(host: HostOS) -> None:
    host.file("san", "root", OLD)
    host.run(guest())
    host.file("san", "data")
    told = host.run(guest(disks=[disk(build_id=OLD), disk("data")]))["msg"]
    assert "disk data" in told
    assert "do not remove it" in told
