# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that this HostOS can move guests to another: libvirt answers to our certificate, QEMU's ports are open.

The only argument is JSON: source, target (inventory names), address (of the target), tls_port, scheme (of libvirt's
URI), port (one of QEMU's).
Exit code 1 and the reason if it cannot.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys

TIMEOUT = 60  # seconds; an emulated HostOS that is busy has needed more than 10


def libvirt_answers(address: str, scheme: str) -> str:
    """Empty if it does, else why not."""
    host = f"[{address}]" if ":" in address else address
    command = ["virsh", "-c", f"{scheme}+tls://{host}/system", "uri"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT} s"
    return "" if done.returncode == 0 else done.stderr.strip()


def port_open(address: str, port: int) -> str:
    """Empty if a connection gets through; nobody has to listen, so a refusal by the machine itself is as good."""
    try:
        socket.create_connection((address, port), timeout=TIMEOUT).close()
    except ConnectionRefusedError:
        return ""
    except TimeoutError:
        return f"port {port}: no answer within {TIMEOUT} s"
    except OSError as error:
        return f"port {port}: {errno.errorcode.get(error.errno or 0, '')} {error}"
    return ""


def main() -> None:
    wish = json.loads(sys.argv[1])
    problem = libvirt_answers(wish["address"], wish["scheme"]) or port_open(wish["address"], wish["port"])
    if problem:
        raise SystemExit(
            f"{wish['source']} could not move a guest to {wish['target']} ({wish['address']}): {problem}\n"
            f"If a firewall between them or on {wish['target']} (not this role's) drops what it does not know, open TCP"
            f" {wish['tls_port']} and the migration ports there. If {wish['target']} does not know {wish['source']}"
            " yet, run hostos for both."
        )


if __name__ == "__main__":
    main()
