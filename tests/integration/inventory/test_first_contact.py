# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First contact with a guest is verified: Ansible's own ssh, with the inventory's variables, against a real sshd.

The sshd is this machine's, or Debian's unpacked into a temporary folder. It runs without rights and lets nobody in:
the host key is checked before that, so `Permission denied` is the sign that the key was accepted.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
NOBODY = 65534

DEFINITION = """\
plugin: oscarv.virt.cluster
cluster: demo
networks: {lan: {bridge: br0, ranges: 127.0.0.0/8}}
partitions:
  hosts: {hypervisor: kvm, members: node01}
  workers: {image: base, members: wn1, on: hosts, vcpus: 1, memory: 1 GiB, disk: 1 GiB, networks: [lan]}
images: {base: {builder: debian, release: bookworm}}
"""


@pytest.fixture(scope="module")
def sshd_program(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Path and environment of an sshd."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return found, {}
    folder = tmp_path_factory.mktemp("sshd")
    subprocess.run(["apt-get", "download", "-qq", "openssh-server", "libwrap0"], cwd=folder, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True)
    for parent in (folder, *folder.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    libraries = next((folder / "root").rglob("libwrap.so.0")).parent
    return str(folder / "root/usr/sbin/sshd"), {"LD_LIBRARY_PATH": str(libraries)}


def make_key(path: pathlib.Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture
def server(sshd_program: tuple[str, dict[str, str]], tmp_path: pathlib.Path) -> t.Iterator[tuple[int, str]]:
    """Port and public host key of a running sshd."""
    program, environment = sshd_program
    key = make_key(tmp_path / "host_key")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\nPidFile none\nUsePAM no\n")
    identity: dict[str, t.Any] = {}
    if os.geteuid() == 0:
        for parent in (tmp_path, *tmp_path.parents):
            if str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        os.chown(tmp_path / "host_key", NOBODY, NOBODY)
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    log = (tmp_path / "sshd.log").open("wb")
    with subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=log, env=environment, **identity) as daemon:
        try:
            wait_for(port, tmp_path / "sshd.log")
            yield port, key
        finally:
            daemon.send_signal(signal.SIGTERM)


def wait_for(port: int, log: pathlib.Path) -> None:
    for _attempt in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"sshd does not answer: {log.read_text()}")


def record(definition: pathlib.Path, key: str | None) -> None:
    from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
    from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
    from ansible_collections.oscarv.virt.plugins.plugin_utils._ledger import open_ledger

    ident = "00000000-0000-4000-8000-000000000001"
    guest = rows.GuestRow(ident, "wn1", "workers", "node01", 1, "running")
    nic = rows.NicRow("52:00:00:00:00:01", ident, 0, "lan", "default", ("127.0.0.1",))
    keys = (rows.HostKeyRow(ident, key, "2026-11-20T00:00:00+00:00"),) if key else ()
    with open_ledger(load(str(definition))).transaction() as tx:
        tx.write(rows.Changes(guests=(guest,), nics=(nic,), host_keys=keys))


def contact(definition: pathlib.Path, port: int) -> str:
    """What Ansible says when it goes to the guest, with a home of its own and strict as it is by default."""
    home = definition.parent / "home"
    home.mkdir()
    known = pathlib.Path(pwd.getpwuid(os.geteuid()).pw_dir, ".ssh", "known_hosts")  # ssh does not ask HOME
    before = known.read_bytes() if known.exists() else None
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "OSCARV_", "SSH_"))
    }
    environment |= {"HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "collections")}
    program = str(pathlib.Path(sys.executable).parent / "ansible")
    command = [program, "wn1", "-i", definition.name, "-m", "ansible.builtin.ping", "-e", f"ansible_port={port}"]
    answer = subprocess.run(
        command, cwd=definition.parent, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert "UNREACHABLE" in answer.stdout
    assert known.read_bytes() == before if before is not None else not known.exists(), "nothing is learned on the way"
    return answer.stdout


@pytest.fixture
def definition(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "demo.oscarv.yml"
    path.write_text(DEFINITION)
    return path


def test_the_key_of_the_ledger_is_accepted(definition: pathlib.Path, server: tuple[int, str]) -> None:
    port, key = server
    record(definition, key)
    assert "Permission denied" in contact(definition, port)


def test_another_key_is_refused(definition: pathlib.Path, server: tuple[int, str], tmp_path: pathlib.Path) -> None:
    record(definition, make_key(tmp_path / "other_key"))
    said = contact(definition, server[0])
    assert "Host key verification failed" in said
    assert "Permission denied" not in said


def test_an_unknown_key_is_refused(definition: pathlib.Path, server: tuple[int, str]) -> None:
    record(definition, None)
    assert "Host key verification failed" in contact(definition, server[0])
