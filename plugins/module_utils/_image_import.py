# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a cloud image that somebody else has built: fetched, verified, and kept bit by bit as it was.

The build_id of such an image is the sha256 that the definition asks for, because nothing is converted.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import typing as t
import urllib.error

from ansible.module_utils.urls import open_url

from ._image_sandbox import BuildError

#: Program -> Debian package that has it.
TOOLS = {"qemu-img": "qemu-utils"}
_PIECE = 1 << 20
#: Seconds without a byte.
_TIMEOUT = 60


def fetch(url: str, wanted: str, target: pathlib.Path, beat: t.Callable[[], object]) -> None:
    """Write what `url` (https, http or file) has to `target`; BuildError unless its sha256 is `wanted`.

    `beat` is called for every piece; it may raise to give up.
    """
    digest = hashlib.sha256()
    try:
        source = open_url(url, timeout=_TIMEOUT, http_agent="oscarv.virt")
        with source, target.open("wb") as file:
            while True:
                piece = source.read(_PIECE)
                if not piece:
                    break
                digest.update(piece)
                file.write(piece)
                beat()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise BuildError(f"{url} cannot be fetched: {error}") from error
    if digest.hexdigest() != wanted:
        raise BuildError(
            f"{url} has the sha256 {digest.hexdigest()}, the definition asks for {wanted}: it is another file, or it"
            " was damaged on the way. Compare with what its publisher says"
        )


def inspect(disk: pathlib.Path, url: str) -> dict[str, t.Any]:
    """What the manifest says of the image; BuildError unless it is a qcow2 that stands by itself."""
    # The format is told, not guessed: a raw disk could say it were something else by what a guest wrote into it.
    words = ["qemu-img", "info", "--output=json", "-f", "qcow2", str(disk)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            f"{url} is no qcow2 image. Convert it (qemu-img convert -O qcow2 -c IMAGE NEW.qcow2), put the result where"
            " the builder can fetch it, and give its URL and sha256"
        )
    info = json.loads(done.stdout)
    data = info.get("format-specific", {}).get("data", {})
    for what, found in (
        ("a backing file", info.get("backing-filename")),
        ("an external data file", data.get("data-file")),
        ("encryption", info.get("encrypted")),
    ):
        if found:
            raise BuildError(f"{url} has {what}: only an image that stands by itself can be imported")
    return {"virtual_size": info["virtual-size"], "url": url}
