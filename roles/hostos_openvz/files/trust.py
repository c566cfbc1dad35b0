# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a HostOS is over ssh, whom it lets in and whom it knows. Changes nothing.

The only argument is JSON: key and host_key (files of public halves), authorized (root's authorized_keys), known (our
known_hosts), marker (with which our blocks in authorized_keys begin). Prints JSON:

    key, host_key  "ssh-ed25519 AAAA..."; left out where there is none
    authorized     marker of a block -> {name of a node: its key}
    blocks         the markers alone
    known          address -> host key

Keys are taken over only if they look like keys: what is said here ends in files of other HostOSes that ssh reads.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import typing as t

_KEY = r"(ssh-ed25519 [A-Za-z0-9+/]+={0,2})"
PUBLIC = re.compile(rf"^{_KEY}(?:\s|$)")
AUTHORIZED = re.compile(rf"^{_KEY} oscarv\.virt (\S+)$")
KNOWN = re.compile(rf"^(\S+) {_KEY}(?:\s|$)")


def lines(path: str) -> list[str]:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def public(path: str) -> str | None:
    """The key of a .pub file, without what else stands there."""
    found = PUBLIC.match("".join(lines(path)[:1]))
    return found.group(1) if found else None


def authorized(text: list[str], marker: str) -> dict[str, dict[str, str]]:
    """Our blocks, as ansible.builtin.blockinfile writes them."""
    blocks: dict[str, dict[str, str]] = {}
    block = None
    for line in text:
        if line == f"# BEGIN {marker}" or line.startswith(f"# BEGIN {marker} "):
            block = blocks.setdefault(line[len("# BEGIN ") :], {})
        elif line.startswith("# END "):
            block = None
        elif block is not None and (found := AUTHORIZED.match(line)):
            block[found.group(2)] = found.group(1)
    return blocks


def known(text: list[str]) -> dict[str, str]:
    return {found.group(1): found.group(2) for found in map(KNOWN.match, text) if found}


def main() -> None:
    wish = json.loads(sys.argv[1])
    blocks = authorized(lines(wish["authorized"]), wish["marker"])
    answer: dict[str, t.Any] = {
        "authorized": blocks,
        "blocks": list(blocks),
        "known": known(lines(wish["known"])),
    }
    for name in ("key", "host_key"):
        if (found := public(wish[name])) is not None:
            answer[name] = found
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
