# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest started by hand: QEMU's TCG, an overlay on a build, a NoCloud seed, ssh through a port of 127.0.0.1."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import time
import typing as t

UEFI_CODE = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
UEFI_VARS = pathlib.Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
MAC = "52:54:00:12:34:56"
NETWORK = f"""\
version: 2
ethernets:
  eth0:
    match: {{macaddress: "{MAC}"}}
    set-name: eth0
    addresses: [10.0.2.15/24]
    routes: [{{to: 0.0.0.0/0, via: 10.0.2.2}}]
    nameservers: {{addresses: [10.0.2.3]}}
    accept-ra: false
    dhcp4: false
    link-local: []
"""


class Guest:
    """One QEMU. Use as a context manager: it is ended, whatever happens."""

    def __init__(self, folder: pathlib.Path, disk: pathlib.Path, firmware: str = "bios", size: str = "3G") -> None:
        self.folder, self.firmware = folder, firmware
        folder.mkdir(parents=True, exist_ok=True)
        self.console = folder / "console.log"
        self.key = folder / "key"
        self.host_key = folder / "host_key"
        self.overlay = folder / "root.qcow2"
        for path in (self.key, self.host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
        backing = ["-b", str(disk), "-F", "qcow2"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self.overlay), size], check=True)
        self.seed = self._seed()
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def _seed(self) -> pathlib.Path:
        public = self.key.with_suffix(".pub").read_text().strip()
        host_public = self.host_key.with_suffix(".pub").read_text().strip()
        private = "".join(f"    {line}\n" for line in self.host_key.read_text().splitlines())
        files = {
            "meta-data": "instance-id: test-1\nlocal-hostname: guest1\n",
            "user-data": f"#cloud-config\nssh_authorized_keys:\n- {public}\nssh_keys:\n  ed25519_private: |\n{private}"
            f"  ed25519_public: {host_public}\n",
            "network-config": NETWORK,
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        seed = self.folder / "seed.iso"
        subprocess.run(
            [
                "genisoimage",
                "-quiet",
                "-J",
                "-r",
                "-V",
                "cidata",
                "-o",
                str(seed),
                *(str(self.folder / f) for f in files),
            ],
            check=True,
        )
        return seed

    def __enter__(self) -> Guest:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        firmware: list[str] = []
        if self.firmware == "uefi":
            variables = self.folder / "vars.fd"
            if not variables.exists():
                shutil.copy(UEFI_VARS, variables)
            firmware = [
                *("-drive", f"if=pflash,format=raw,readonly=on,file={UEFI_CODE}"),
                *("-drive", f"if=pflash,format=raw,file={variables}"),
            ]
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "qemu64", "-m", "384", "-smp", "1"),
                *("-nographic", "-nodefaults", "-serial", f"file:{self.console}", *firmware),
                *("-drive", f"if=virtio,format=qcow2,file={self.overlay},discard=unmap"),
                *("-drive", f"if=virtio,format=raw,readonly=on,file={self.seed}"),
                *("-nic", f"user,model=virtio-net-pci,mac={MAC},hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            ],
            stdin=subprocess.DEVNULL,
        )
        self.started = time.monotonic()

    def cpu(self) -> float:
        """Seconds of CPU that QEMU has used; says more than the clock where a machine is busy."""
        process = t.cast("subprocess.Popen[bytes]", self.process)
        words = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ssh(self, command: str, timeout: float = 120, check: bool = True) -> str:
        """Run a command as root, the host key verified."""
        known = self.folder / "known_hosts"
        known.write_text("guest1 " + self.host_key.with_suffix(".pub").read_text())
        options = {
            "HostKeyAlias": "guest1",
            "UserKnownHostsFile": known,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 10,
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
        }
        line = ["ssh", "-p", str(self.port), *(f"-o{k}={v}" for k, v in options.items()), "root@127.0.0.1", command]
        done = subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"ssh {command!r}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout if done.returncode == 0 else ""

    def wait_ssh(self, timeout: float = 240) -> float:
        """Until a command works over ssh; seconds since QEMU was started."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"QEMU ended: {self.console.read_text(errors='replace')[-2000:]}")
            if self.ssh("echo up", check=False).strip() == "up":
                return time.monotonic() - self.started
            time.sleep(0.5)
        raise AssertionError(
            f"no ssh within {timeout:.0f} s; console:\n{self.console.read_text(errors='replace')[-3000:]}"
        )

    def power_off(self, timeout: float = 90) -> None:
        process = t.cast("subprocess.Popen[bytes]", self.process)
        self.ssh("systemctl poweroff", check=False)
        process.wait(timeout)
        self.process = None
