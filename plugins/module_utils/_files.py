# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are there whole or not at all, also after a power failure."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import typing as t


def sync_directory(path: pathlib.Path) -> None:
    """Make names in a directory (created, renamed, removed) durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: pathlib.Path) -> None:
    """Make a file's content durable; needed before a rename gives it its real name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_beside(path: pathlib.Path) -> pathlib.Path:
    """The one name under which `path` is written before it is complete.

    Always the same name: what an interrupted run left is overwritten by the next, so nothing piles up.
    """
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def whole(path: pathlib.Path, mode: int, *, durable_name: bool = True) -> t.Iterator[pathlib.Path]:
    """Give a temporary name to write to; rename it to `path` with `mode` only if the block succeeded.

    The content is durable before it gets its name. `durable_name=False` leaves the name to a later `sync_directory`,
    for who makes several files in one directory: each sync costs milliseconds.
    """
    partial = temporary_beside(path)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.chmod(mode)
        sync_file(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable_name:
        sync_directory(path.parent)


def write_json(path: pathlib.Path, data: t.Mapping[str, t.Any], mode: int = 0o600) -> None:
    """Replace `path` by `data`; a reader sees the old or the new content, never a part."""
    with whole(path, mode) as partial:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(data, stream, indent=2, sort_keys=True)
            stream.write("\n")


def remove(path: pathlib.Path) -> bool:
    """Remove a file durably; False if it was not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True
