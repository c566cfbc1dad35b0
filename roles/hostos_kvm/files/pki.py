# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This HostOS's keys and certificates for migration. The private keys are made here and never leave.

The only argument is JSON. {"verb": "request"} makes new keys and prints {use: CSR}; {"verb": "install", ca,
certificates: {use: PEM}, names, not_after, group} puts them in place; {"verb": "remove"} removes what was installed.
There are two uses with a key each: QEMU's key can be read by QEMU, so it must not be good for a libvirt connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

HOME = pathlib.Path("/etc/pki/oscarv")
MANIFEST = HOME / "manifest.json"
NEW = HOME / "new"
#: path -> (what it holds, mode). libvirt and QEMU look in these places by themselves.
FILES = {
    "/etc/pki/CA/cacert.pem": ("ca", 0o644),
    "/etc/pki/libvirt/servercert.pem": ("libvirt", 0o644),
    "/etc/pki/libvirt/private/serverkey.pem": ("libvirt key", 0o600),
    "/etc/pki/libvirt/clientcert.pem": ("libvirt", 0o644),
    "/etc/pki/libvirt/private/clientkey.pem": ("libvirt key", 0o600),
    "/etc/pki/qemu/ca-cert.pem": ("ca", 0o644),
    "/etc/pki/qemu/server-cert.pem": ("qemu", 0o644),
    "/etc/pki/qemu/server-key.pem": ("qemu key", 0o640),
    "/etc/pki/qemu/client-cert.pem": ("qemu", 0o644),
    "/etc/pki/qemu/client-key.pem": ("qemu key", 0o640),
}
USES = ("libvirt", "qemu")


def request() -> dict[str, str]:
    for folder in (HOME, NEW):
        folder.mkdir(mode=0o755 if folder == HOME else 0o700, parents=True, exist_ok=True)
    requests = {}
    for use in USES:
        # Subject and names are the controller's to decide; it takes only the public key from here.
        command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", f"/CN={use}", "-keyout", str(NEW / f"{use}.key")]
        requests[use] = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return requests


def install(wish: dict[str, t.Any]) -> dict[str, t.Any]:
    contents = {
        "ca": wish["ca"],
        **wish["certificates"],
        **{f"{use} key": (NEW / f"{use}.key").read_text() for use in USES},
    }
    # The names go first: whatever an interrupted run leaves behind is known as ours and is issued again.
    write_manifest({"files": dict.fromkeys(FILES, ""), "complete": False})
    digests = {}
    for path, (what, mode) in FILES.items():
        group = wish["group"] if what == "qemu key" else None
        write(pathlib.Path(path), contents[what], mode, group)
        digests[path] = f"{mode:04o} {hashlib.sha256(contents[what].encode()).hexdigest()}"
    shutil.rmtree(NEW)
    manifest = {"files": digests, "names": wish["names"], "ca": fingerprint(wish["ca"]), "not_after": wish["not_after"]}
    write_manifest({**manifest, "complete": True})
    return {"installed": sorted(FILES)}


def fingerprint(ca: str) -> str:
    """As the role computes it from the controller's file."""
    return hashlib.sha256(ca.strip().encode()).hexdigest()


def write_manifest(manifest: dict[str, t.Any]) -> None:
    write(MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n", 0o644, None)


def write(path: pathlib.Path, text: str, mode: int, group: str | None) -> None:
    path.parent.mkdir(mode=0o700 if path.parent.name == "private" else 0o755, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    if group is not None:
        shutil.chown(partial, "root", group)
    partial.chmod(mode)
    partial.replace(path)


def remove() -> dict[str, t.Any]:
    if not MANIFEST.exists():
        return {"removed": []}
    removed = [path for path in json.loads(MANIFEST.read_text())["files"] if os.path.lexists(path)]
    for path in removed:
        os.unlink(path)
    shutil.rmtree(HOME)
    for folder in ("/etc/pki/libvirt/private", "/etc/pki/libvirt", "/etc/pki/qemu", "/etc/pki/CA"):
        with contextlib.suppress(OSError):  # somebody else's files are in it
            os.rmdir(folder)
    return {"removed": removed}


def main() -> None:
    wish = json.loads(sys.argv[1])
    verbs: dict[str, t.Callable[[], t.Any]] = {"request": request, "install": lambda: install(wish), "remove": remove}
    sys.stdout.write(json.dumps(verbs[wish["verb"]]()))


if __name__ == "__main__":
    main()
