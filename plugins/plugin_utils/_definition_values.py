# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of a definition that mean more than themselves: addresses, MACs, keys, URLs."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import urllib.parse

from ._model import IPAddress, IPNetwork

#: Inventory names of HostOSes; guests are DNS labels.
HOST_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$"
GUEST_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_PATTERN = r"^[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$"
BRIDGE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$"
PATH_PATTERN = r"^/[^\s,'\"]*$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
MAC_PATTERN = r"^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"

_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_LEDGERS = ("sqlite", "postgresql", "postgresql+psycopg")


class SecretError(ValueError):
    """A value that must not be shown, not even in the message that refuses it."""


def ip_address(text: str) -> IPAddress:
    if "%" not in text:  # a scope (fe80::1%eth0) means nothing to another machine
        try:
            return ipaddress.ip_address(text.strip())
        except ValueError:
            pass
    raise ValueError("expected an IP address without a prefix, such as 10.0.4.77 or fd12::77")


def ip_network(text: str) -> IPNetwork:
    wrong = "expected a network with its prefix, such as 10.0.4.0/22 or fd12:3456::/64"
    if "/" not in text or "%" in text:
        raise ValueError(wrong)
    try:
        loose = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(wrong) from None
    if str(loose.network_address) != str(ipaddress.ip_address(text.split("/")[0].strip())):
        raise ValueError(f"is an address inside a network; write the network: {loose}")
    return loose


def ip_span(text: str) -> tuple[IPAddress, IPAddress]:
    """First and last of '10.0.4.1-10.0.4.20', of a single address, or of a network."""
    if "/" in text:
        network = ip_network(text)
        return network[0], network[-1]
    first_text, dash, last_text = text.partition("-")
    first = ip_address(first_text)
    last = ip_address(last_text) if dash else first
    if first.version != last.version:
        raise ValueError("goes from one address family to the other")
    if int(last) < int(first):
        raise ValueError("runs backwards")
    return first, last


def mac(text: str) -> str:
    """Lower case with colons."""
    if not re.fullmatch(MAC_PATTERN, text):
        raise ValueError("expected a MAC such as 52:54:00:00:00:77")
    plain = text.lower().replace("-", ":")
    if int(plain[:2], 16) & 1 or plain == "00:00:00:00:00:00":
        raise ValueError("is no MAC of a single machine: its first byte must be even, and not all may be zero")
    return plain


def ledger_url(text: str) -> str:
    wrong = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    try:
        url = urllib.parse.urlsplit(text)
        password = url.password
    except ValueError:
        raise ValueError(wrong) from None
    if url.scheme not in _LEDGERS or len(url.path) < 2:
        raise ValueError(wrong)
    if password is not None or any("password" in key.lower() for key in urllib.parse.parse_qs(url.query)):
        raise SecretError("never write a password here; put the whole URL into the environment variable OSCARV_LEDGER")
    if url.scheme == "sqlite" and (url.netloc or text.endswith(":memory:")):
        raise ValueError("expected sqlite:///PATH (three slashes before a relative path, four before an absolute one)")
    return text


def image_url(text: str) -> str:
    try:
        url = urllib.parse.urlsplit(text)
        good = url.scheme in ("http", "https", "file") and len(url.path) > 1 and (url.scheme == "file" or url.hostname)
        password = url.password
    except ValueError:
        good, password = False, None
    if password is not None:
        raise SecretError("never write a password into a URL of the definition")
    if not good:
        raise ValueError("expected a URL that starts with https://, http:// or file:///")
    return text


def authorized_key(text: str) -> str:
    """A line of authorized_keys, or the path of a `.pub` file (returned as it is; the loader reads it)."""
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise SecretError("is a private key; only public keys belong here")
    if text.endswith(".pub") and " " not in text:
        return text
    words = text.split()
    for index, word in enumerate(words[:-1]):
        if word in _KEY_TYPES and _is_blob(words[index + 1], word) and "\n" not in text:
            return text
    raise ValueError("expected a public key such as 'ssh-ed25519 AAAA... name', or the path of a .pub file")


def _is_blob(text: str, kind: str) -> bool:
    """Whether the base64 of a public key names the kind that stands before it."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return blob[4 : 4 + len(kind)] == kind.encode()


def group_name(kind: str, name: str) -> str:
    """The inventory group of something: `oscarv_KIND_NAME` with what Ansible forbids turned into `_`."""
    return f"oscarv_{kind}_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
