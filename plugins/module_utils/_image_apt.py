# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a build's packages come from, and what apt has to know on the way there.

An image is built from the archive that its builder itself uses, by the builder's proxies and certificates; nothing
of this stays in the image, which has Debian's public archive in its sources (or the recipe's `mirror`).
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import typing as t

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: How apt reaches an archive: proxies, certificates, time-outs, how old an index may be.
_TRANSPORT = re.compile(r"^Acquire::(?:http|https|ftp|tor|Check-|Retries|ForceIPv|Max-)", re.IGNORECASE)
#: Names a program on the builder, which is not in the tree.
_PROGRAM = re.compile(r"::Proxy-?Auto-?Detect", re.IGNORECASE)


def source_lines(release: str, components: t.Sequence[str], archive: str, security: str | None) -> list[str]:
    """Lines of a sources.list: the release with its updates, and the security archive where it is known."""
    words = f"{release}{{}} {' '.join(components)}"
    lines = [f"deb [signed-by={KEYRING}] {archive} {words.format(suffix)}" for suffix in ("", "-updates")]
    if security:
        lines.append(f"deb [signed-by={KEYRING}] {security} {words.format('-security')}")
    return lines


def builders_archives() -> tuple[str, str | None] | None:
    """The builder's own Debian archive and security archive; None: it has none (it may be no Debian)."""
    codename = _os_release().get("VERSION_CODENAME", "")
    if not codename or _os_release().get("ID") != "debian":
        return None
    listing = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return find_archives(listing, codename)


def find_archives(listing: str, codename: str) -> tuple[str, str | None] | None:
    """Out of lines "URI SUITE COMPONENT ORIGIN"; the origin is missing where apt has not fetched its lists yet."""
    found: dict[str, str] = {}
    for line in listing.splitlines():
        uri, suite, component, origin = [*line.split(), "", "", ""][:4]
        if component == "main" and (origin == "Debian" or not origin or origin.startswith("$")):
            found.setdefault(suite, uri)
    if codename not in found:
        return None
    return found[codename], found.get(f"{codename}-security")


def _os_release() -> dict[str, str]:
    lines = pathlib.Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _equals, value in (line.partition("=") for line in lines if "=" in line)}


def transport_options(dump: str) -> list[str]:
    """Of `apt-config dump`, the lines that say how archives are reached."""
    return [
        line
        for line in dump.splitlines()
        if _TRANSPORT.match(line) and not _PROGRAM.search(line) and not line.endswith('"";')
    ]


def builders_transport() -> list[str]:
    return transport_options(subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout)


def outer_configuration(transport: t.Sequence[str]) -> str:
    """apt's configuration for mmdebstrap, whose apt runs on the builder: its passwords are read where they lie."""
    return "\n".join(
        [
            *transport,
            'Dir::Etc::netrc "/etc/apt/auth.conf";',
            'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
            'Acquire::Languages "none";',
            'Acquire::GzipIndexes "false";',
            "",
        ]
    )


def inner_configuration(transport: t.Sequence[str], folder: str, own_sources: bool) -> str:
    """The same for apt inside the tree, where `folder` has the files that it needs.

    With `own_sources` the archive of the build (sources.list there) stands in for the image's own.
    """
    lines = [line for line in transport if "::CaInfo" not in line]
    if own_sources:
        lines.append(f'Dir::Etc::sourcelist "{folder}/sources.list";')
    lines += [
        f'Dir::Etc::netrcparts "{folder}/auth";',
        f'Acquire::https::CaInfo "{folder}/ca.crt";',
        'Acquire::Languages "none";',
        'Acquire::GzipIndexes "false";',
        'DPkg::Options:: "--force-unsafe-io";',  # a build that is interrupted is thrown away anyway
        'DPkg::Options:: "--force-confold";',
        "",
    ]
    return "\n".join(lines)
