# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server of the tests' own: Debian's programs on a private folder, reached over a socket in it, or over
loopback where a test is about TCP."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

USER = "oscarv"
PASSWORD = "not-to-be-shown"


def programs() -> pathlib.Path:
    """Folder of the newest server's programs."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    elsewhere = shutil.which("initdb")
    if not found and not elsewhere:
        raise RuntimeError("PostgreSQL's server is not installed: apt-get install --no-install-recommends postgresql")
    return (found[-1] if found else pathlib.Path(str(elsewhere))).parent


def account() -> str | None:
    """PostgreSQL does not run as root: somebody else's name, or None if we are not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


class Server:
    """Started by `start`, ended by `stop`; leaves nothing behind."""

    def __init__(self) -> None:
        self._account = account()
        # Not pytest's folder: a socket's path has at most 107 characters, and others must be able to enter.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="oscarv-pg-", dir="/tmp"))
        if self._account:
            shutil.chown(self.folder, self._account)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        made = self._run(
            "initdb", "--pgdata", "data", "--username", USER, "--pwfile", "password", "--auth", "scram-sha-256",
            "--encoding", "UTF8", "--locale", "C", "--no-instructions",
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(made.stderr.decode())
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "80",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs() / "postgres", "-D", "data", *words],
                cwd=self.folder,
                user=self._account,
                group=self._group(),
                extra_groups=[] if self._account else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while self._run("pg_isready", "--quiet", "--host", str(self.folder), "--port", str(self.port)).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, data is written."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=60)
        shutil.rmtree(self.folder)

    def sql(self, statement: str, database: str = "postgres") -> str:
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        words = [
            "--host",
            str(self.folder),
            "--port",
            str(self.port),
            "--username",
            USER,
            "--dbname",
            database,
            "-XAt",
            "-c",
            statement,
        ]
        done = subprocess.run(
            [programs() / "psql", *words], env=environment, capture_output=True, text=True, check=True, cwd="/"
        )
        return done.stdout.strip()

    def _group(self) -> int | None:
        return pwd.getpwnam(self._account).pw_gid if self._account else None

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [programs() / program, *words],
            cwd=self.folder,
            user=self._account,
            group=self._group(),
            extra_groups=[] if self._account else None,
            capture_output=True,
            check=False,
        )
