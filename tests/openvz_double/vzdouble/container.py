# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One container: its configuration, its files, its state."""

from __future__ import annotations

import functools
import pathlib

from . import conf, netif, paths
from .backend import Backend


class Container:
    """`conf` is the global configuration with the container's own over it."""

    def __init__(self, ctid: int, backend: Backend) -> None:
        self.ctid = ctid
        self.backend = backend

    @property
    def conf_path(self) -> str:
        return paths.conf_path(self.ctid)

    @property
    def own(self) -> dict[str, str] | None:
        """None: no configuration file."""
        return conf.read(self.conf_path)

    @functools.cached_property
    def conf(self) -> dict[str, str]:
        own = self.own or {}
        merged = {**conf.global_conf(), **own}
        return {key: conf.expand(value, self.ctid) for key, value in merged.items()}

    def forget(self) -> None:
        """Read the configuration again."""
        self.__dict__.pop("conf", None)

    @property
    def private(self) -> pathlib.Path:
        return paths.real(self.conf["VE_PRIVATE"])

    @property
    def root(self) -> pathlib.Path:
        return paths.real(self.conf["VE_ROOT"])

    @property
    def dump_shown(self) -> str:
        return f"{self.conf['DUMPDIR']}/Dump.{self.ctid}"

    @property
    def dump(self) -> pathlib.Path:
        return paths.real(self.dump_shown)

    @property
    def exists(self) -> bool:
        return self.private.exists() and self.own is not None

    @property
    def running(self) -> bool:
        return self.backend.running(self)

    @property
    def mounted(self) -> bool:
        return self.backend.mounted(self)

    @property
    def suspended(self) -> bool:
        return self.exists and not self.running and self.dump.exists()

    @property
    def nics(self) -> list[dict[str, str]]:
        return netif.read(self.conf.get("NETIF", ""))


def name_path(name: str) -> pathlib.Path:
    return paths.real(f"{paths.NAMES_DIR}/{name}")


def owner_of(name: str) -> int | None:
    """The container that a name leads to."""
    path = name_path(name)
    if not path.is_symlink():
        return None
    target = pathlib.PurePosixPath(path.readlink())
    return int(target.stem) if target.suffix == ".conf" and target.stem.isdigit() else None


def give_name(ctid: int, name: str) -> None:
    """Take the older names away, and make the link."""
    drop_names(ctid)
    path = name_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(paths.real(paths.conf_path(ctid)))


def drop_names(ctid: int) -> None:
    directory = paths.real(paths.NAMES_DIR)
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.is_symlink() and owner_of(path.name) == ctid:
            path.unlink()
