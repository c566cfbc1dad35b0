# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of containers, made by the real tools, and what the first boot is told in them."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import stat

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_disks as disks
from ansible_collections.oscarv.virt.plugins.module_utils import _lxc_disk, _lxc_seed
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._qcow2 import read_header
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from lxc_plain import BUILD, MIB, make_build, plain, run


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_build(tmp_path_factory.mktemp("build"), cloud_init=True)


def sound(path: str) -> None:
    run("e2fsck", "-f", "-n", path)


def inside(path: str, name: str) -> str:
    return run("debugfs", "-R", f"cat {name}", path)


def blocks_of(path: str) -> int:
    """Bytes of the file system."""
    said = run("dumpe2fs", "-h", path)
    count, size = (int(said.split(f"Block {what}:")[1].split()[0]) for what in ("count", "size"))
    return count * size


def mode_of(path: str, name: str) -> str:
    shown = run("debugfs", "-R", f"stat {name}", path)
    return shown.split("Mode:")[1].split()[0]


def test_a_root_is_the_builds_in_its_own_size(build: str, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "demo/ct001-root.ext4")
    disks.maker(path, 64 * MIB, build, "ct001")()
    sound(path)
    assert inside(path, "/etc/hostname") == "image\n"
    found = pathlib.Path(path).stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (64 * MIB, 0o600)
    assert found.st_blocks * 512 < 30 * MIB, "holes are kept"
    assert blocks_of(path) == 64 * MIB


def test_a_root_tells_its_build(build: str, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "ct001-root.ext4")
    disks.maker(path, 64 * MIB, build, "ct001")()
    header = read_header(path)
    assert header is not None and (header.size, header.backing, header.stamp) == (64 * MIB, None, BUILD[:32])
    assert disks.build_under(path, ("cd" * 32, None, BUILD)) == BUILD
    assert disks.build_under(path, ("cd" * 32,)) == BUILD[:32]


def test_an_empty_disk_grows(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "ct001-scratch.ext4")
    disks.maker(path, 16 * MIB, None, "ct001")()
    sound(path)
    disks.grow(path, 32 * MIB, "ct001")
    sound(path)
    assert pathlib.Path(path).stat().st_size == 32 * MIB
    assert blocks_of(path) == 32 * MIB
    disks.grow(path, 16 * MIB, "ct001")
    assert pathlib.Path(path).stat().st_size == 32 * MIB, "nothing is shrunk"


def test_many_look_into_a_build_at_once(build: str) -> None:
    folder = pathlib.Path(build).parent
    before = sorted(folder.iterdir())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        roots = set(pool.map(lambda number: _lxc_disk.root_of(build, f"ct{number:03}"), range(32)))
    assert len(roots) == 1 and sorted(folder.iterdir()) == before


def test_a_build_without_a_root_is_refused(tmp_path: pathlib.Path) -> None:
    build = make_build(tmp_path, cloud_init=False, table="dos")
    path = tmp_path / "ct001-root.ext4"
    with pytest.raises(DriverError, match="no GPT with a Linux partition"):
        _lxc_disk.create(str(path), 64 * MIB, build, BUILD, "ct001")
    assert not path.exists()
    assert [name.name for name in (tmp_path / "builds").iterdir()] == [f"{BUILD}.qcow2"], "nothing is left beside it"


def test_a_file_that_is_no_file_system_is_no_disk(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ct001-root.ext4"
    path.write_bytes(b"\0" * MIB)
    assert read_header(str(path)) is None


def test_cloud_init_gets_its_documents(build: str, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "ct001-root.ext4")
    disks.maker(path, 64 * MIB, build, "ct001")()
    spec = GuestSpec.from_plain(plain())
    _lxc_seed.write(path, spec, tmp_path / "seeds")
    public = _lxc_seed.write(path, spec, tmp_path / "seeds")  # again: an interrupted run
    sound(path)
    user = inside(path, "/var/lib/cloud/seed/nocloud/user-data")
    assert json.loads(user.partition("\n")[2])["ssh_keys"]["ed25519_public"].startswith(public)
    assert mode_of(path, "/var/lib/cloud/seed/nocloud/user-data") == "0600"
    assert json.loads(inside(path, "/var/lib/cloud/seed/nocloud/meta-data"))["local-hostname"] == "ct001.example.org"
    assert "UUID" not in inside(path, "/etc/fstab")
    assert list((tmp_path / "seeds").iterdir()) == [], "nothing secret stays on the HostOS"


def test_without_cloud_init_files_are_written(tmp_path: pathlib.Path) -> None:
    build = make_build(tmp_path, cloud_init=False)
    path = str(tmp_path / "ct001-root.ext4")
    disks.maker(path, 64 * MIB, build, "ct001")()
    spec = GuestSpec.from_plain(plain())
    public = _lxc_seed.write(path, spec, tmp_path / "seeds")
    sound(path)
    assert inside(path, "/etc/hostname") == "ct001.example.org\n"
    assert inside(path, "/root/.ssh/authorized_keys") == "ssh-ed25519 AAAA admin\n"
    assert inside(path, "/etc/ssh/ssh_host_ed25519_key.pub").startswith(public)
    assert (mode_of(path, "/etc/ssh/ssh_host_ed25519_key"), mode_of(path, "/root/.ssh")) == ("0600", "0700")
    network = inside(path, "/etc/systemd/network/10-eth0.network").splitlines()
    for line in (
        "MACAddress=52:54:00:00:00:01",
        "MTUBytes=9000",
        "Address=10.0.4.21/22",
        "Gateway=10.0.4.1",
        "DNS=10.0.4.2",
    ):
        assert line in network
    with pytest.raises(DriverError, match="no cloud-init"):
        spec = GuestSpec.from_plain(plain(seed={"hostname": "ct001", "cloud_init": {"packages": ["hello"]}}))
        _lxc_seed.write(path, spec, tmp_path / "seeds")
