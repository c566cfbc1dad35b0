# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system of an image while it is built: a folder, and the ways into it.

Runs as PID 1 of the build's own namespaces (`_image_sandbox`), so mounts need no care beyond their order. What the
build needs of the builder (proxies, certificates, name resolution, package lists) lies on a tmpfs at /run of the
tree or in folders bound into it: it is not in the image because it never was in the tree.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import stat
import subprocess
import typing as t

from . import _image_apt as apt
from ._image_config import LEFTOVERS
from ._image_sandbox import BuildError, end_all_others, mount, note, unmount

#: In the tree, while it is mounted.
INSIDE = "/run/oscarv-build"
_HOSTS_BEGIN, _HOSTS_END = "# begin: of the build\n", "# end: of the build\n"
_DEVICES = ("dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom", "dev/tty")
#: Of the builder's environment, what a program needs to reach the network.
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def command(*words: str | os.PathLike[str], env: t.Mapping[str, str] | None = None, stdin: str = "") -> None:
    """Run a command, its output into the build's log; BuildError if it fails."""
    line = [str(word) for word in words]
    note(f"+ {shlex.join(line)}")
    done = subprocess.run(line, env=env, input=stdin, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{shlex.join(line)[:300]}` ended with {done.returncode}")


class Tree:
    """The folder WORK/tree and what belongs to it in WORK."""

    def __init__(self, work: pathlib.Path) -> None:
        self.work = work
        self.root = work / "tree"
        self.wrapper = work / "chroot"
        self.transport = apt.builders_transport()
        proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        #: For programs of the builder.
        self.outside = {"PATH": path, "HOME": str(work), **proxies}
        #: For programs in the tree.
        self.environment = {
            **proxies,
            "PATH": path,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "SYSTEMD_OFFLINE": "1",  # units are enabled and masked; nothing is started
            "APT_CONFIG": f"{INSIDE}/apt.conf",
            "SSL_CERT_FILE": f"{INSIDE}/ca.crt",
            "REQUESTS_CA_BUNDLE": f"{INSIDE}/ca.crt",
        }
        for folder in ("lists/partial", "cache/archives/partial", "tmp"):
            (work / folder).mkdir(parents=True)

    def path(self, name: str) -> pathlib.Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def run(self, *words: str, stdin: str = "") -> None:
        """Run a command inside, with the build's environment and nothing of the builder's."""
        command("chroot", self.root, *words, env=self.environment, stdin=stdin)

    def output(self, *words: str) -> str:
        done = subprocess.run(
            ["chroot", str(self.root), *words], env=self.environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise BuildError(f"`{' '.join(words)}` inside the image ended with {done.returncode}")
        return done.stdout

    def install(self, *packages: str) -> None:
        self.run("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)

    def write_wrapper(self) -> None:
        """For community.general.chroot: the same way in as `run`."""
        words = " ".join(shlex.quote(f"{name}={value}") for name, value in sorted(self.environment.items()))
        self.wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/env -i {words} /usr/sbin/chroot "$@"\n', encoding="utf-8")
        self.wrapper.chmod(0o755)

    @contextlib.contextmanager
    def mounted(self, network: bool = True) -> t.Iterator[None]:
        """The tree as a machine that programs can work in, for the block; with `network` for packages and roles."""
        targets: list[pathlib.Path] = []

        def on(target: str, *arguments: str) -> None:
            path = self.path(target)
            if target in _DEVICES:
                path.touch()
            else:
                path.mkdir(parents=True, exist_ok=True)
            mount(*arguments, str(path))
            targets.append(path)

        on("proc", "-t", "proc", "proc")
        on("sys", "-t", "sysfs", "-o", "ro", "sysfs")
        on("dev", "-t", "tmpfs", "-o", "mode=755", "tmpfs")
        self._devices(on)
        on("run", "-t", "tmpfs", "-o", "mode=755", "tmpfs")
        for folder, target in (("lists", "var/lib/apt/lists"), ("cache", "var/cache/apt"), ("tmp", "tmp")):
            on(target, "--bind", str(self.work / folder))
        on("var/tmp", "--bind", str(self.work / "tmp"))
        (self.work / "tmp").chmod(0o1777)
        if network:
            self._connect()
        yield
        # Without `finally`: a build that failed is over, and its namespace takes the mounts with it.
        if network:
            self._disconnect()
        end_all_others()
        for path in reversed(targets):
            unmount(path)

    def _devices(self, on: t.Callable[..., None]) -> None:
        for device in _DEVICES:
            on(device, "--bind", f"/{device}")
        on("dev/pts", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts")
        on("dev/shm", "-t", "tmpfs", "-o", "mode=1777", "tmpfs")
        links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
        for name, target in links.items():
            self.path(f"dev/{name}").symlink_to(target)

    def _connect(self) -> None:
        """Give the tree the builder's ways to the network; no service starts."""
        inside = self.path(INSIDE)
        (inside / "auth").mkdir(parents=True)
        self.write(f"{INSIDE}/apt.conf", apt.inner_configuration(self.transport, INSIDE, self._own_sources))
        if self._own_sources:
            shutil.copy(self.work / "build.list", inside / "sources.list")
        if os.path.exists(_CERTIFICATES):
            shutil.copy(_CERTIFICATES, inside / "ca.crt")
        for secret in (
            *pathlib.Path("/etc/apt").glob("auth.conf"),
            *pathlib.Path("/etc/apt").glob("auth.conf.d/*.conf"),
        ):
            shutil.copy(secret, inside / "auth")
        self.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
        hosts = self.path("etc/hosts")
        extra = [line for line in _lines("/etc/hosts") if line.split() and not _is_local(line.split()[0])]
        hosts.write_text(
            "".join([hosts.read_text(encoding="utf-8"), _HOSTS_BEGIN, *extra, _HOSTS_END]), encoding="utf-8"
        )
        resolver = self.path("etc/resolv.conf")
        if resolver.is_symlink():
            resolver = self.path(os.path.normpath(os.path.join("/etc", os.readlink(resolver))))
            resolver.parent.mkdir(parents=True, exist_ok=True)
        self._resolver = "".join(_lines("/etc/resolv.conf"))
        resolver.write_text(self._resolver, encoding="utf-8")

    def _disconnect(self) -> None:
        """Take `_connect` back, and leave what a role has written."""
        hosts = self.path("etc/hosts")
        before, _begin, rest = hosts.read_text(encoding="utf-8").partition(_HOSTS_BEGIN)
        hosts.write_text(before + rest.partition(_HOSTS_END)[2], encoding="utf-8")
        resolver = self.path("etc/resolv.conf")
        if not resolver.is_symlink() and resolver.is_file() and resolver.read_text(encoding="utf-8") == self._resolver:
            resolver.unlink()
        self.path("usr/sbin/policy-rc.d").unlink(missing_ok=True)

    @property
    def _own_sources(self) -> bool:
        """Whether this build fetches from elsewhere than what the image has in its sources."""
        return (self.work / "build.list").exists()

    def clean(self, epoch: int) -> None:
        """Take out what is of the build, of this machine, or different every time."""
        for pattern in LEFTOVERS:
            for path in self.root.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        for folder in ("dev", "run", "tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt"):
            for path in self.path(folder).iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        self.path("var/cache/apt/archives/partial").mkdir(parents=True)
        self.path("var/lib/apt/lists/partial").mkdir()
        self.write("etc/machine-id", "")  # empty, not missing: each guest makes its own and is not "first boot"
        self._clamp_shadow(epoch // 86400)

    def _clamp_shadow(self, day: int) -> None:
        """Passwords set during the build were set on the day of the packages, not of the build."""
        shadow = self.path("etc/shadow")
        rows = [line.split(":") for line in shadow.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            if row[2].isdigit() and int(row[2]) > day:
                row[2] = str(day)
        keep = stat.S_IMODE(shadow.stat().st_mode)
        shadow.write_text("".join(":".join(row) + "\n" for row in rows), encoding="utf-8")
        shadow.chmod(keep)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") + "\n" for line in file]
    except FileNotFoundError:
        return []


def _is_local(word: str) -> bool:
    """A line of /etc/hosts that speaks of the machine itself, or a comment."""
    return word.startswith(("127.", "#", "ff0", "fe00")) or word == "::1"
