# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority of a cluster, on the controller. HostOSes trust only what it has signed.

A HostOS sends a certificate request; nothing of it but the public key is used. Whom the certificate is for and what it
may do is decided here, so a HostOS that was broken into cannot ask for another's name or for an authority of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import ipaddress
import os
import pathlib
import typing as t

from ..module_utils._files import whole

try:  # ansible-core itself needs it; only ansible-test's look at imports does without
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    pass

ORGANIZATION = "oscarv.virt"
CA_YEARS = 20
#: X.509's limit for a common name; the whole name stands among the alternative names anyway.
COMMON_NAME_MAX = 64
#: A HostOS's clock may be a little behind the controller's.
BACKDATE = datetime.timedelta(hours=1)


class PkiError(Exception):
    """An authority that cannot be used, or a request that is refused; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def from_pem(cls, certificate: str, key: str, source: str) -> Authority:
        """`source` is named in errors."""
        try:
            cert = x509.load_pem_x509_certificate(certificate.encode())
            private = serialization.load_pem_private_key(key.encode(), password=None)
        except (ValueError, TypeError) as error:
            raise PkiError(f"{source}: not a certificate authority in PEM without a passphrase: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != cert.public_key():
            raise PkiError(f"{source}: the key is not the one of the certificate (an elliptic curve key is needed)")
        return cls(cert, private)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(
        self, request: str, *, unit: str, names: t.Sequence[str], days: int, now: datetime.datetime
    ) -> tuple[str, int]:
        """A certificate for the request's public key, as PEM, and when it ends (seconds since the epoch).

        `unit` says what it is good for (the OU; libvirt's list of allowed names goes by it); `names` are the HostOS's
        inventory name, which becomes the common name, and its addresses.
        """
        try:
            csr = x509.load_pem_x509_csr(request.encode())
        except ValueError as error:
            raise PkiError(f"{names[0]}: the HostOS sent no certificate request: {error}") from error
        if not csr.is_signature_valid:
            raise PkiError(f"{names[0]}: the certificate request is not signed with its own key")
        end = min(now + datetime.timedelta(days=days), not_after(self.certificate))
        if end <= now:
            raise PkiError(
                f"the certificate authority ended on {end:%Y-%m-%d}; remove it and run `hostos` with"
                " hostos_kvm_pki_replace_ca"
            )
        subject = name(
            COMMON_NAME=names[0][:COMMON_NAME_MAX], ORGANIZATIONAL_UNIT_NAME=unit, ORGANIZATION_NAME=ORGANIZATION
        )
        builder = (
            x509.CertificateBuilder(
                subject_name=subject, issuer_name=self.certificate.subject, public_key=csr.public_key()
            )
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([general_name(text) for text in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), int(end.timestamp())


def not_after(certificate: x509.Certificate) -> datetime.datetime:
    if hasattr(certificate, "not_valid_after_utc"):  # since cryptography 42
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)


def name(**parts: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(getattr(NameOID, oid), value) for oid, value in parts.items()])


def general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def key_usage(**granted: bool) -> x509.KeyUsage:
    usages = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    usages += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{usage: granted.get(usage, False) for usage in usages})


def open_authority(directory: pathlib.Path, cluster: str, now: datetime.datetime) -> tuple[Authority, bool]:
    """The authority that lies in `directory` (ca.pem, ca.key), made if there is none; and whether it was made.

    Ansible asks once per HostOS and in parallel, so a lock makes sure that all get the same one. PkiError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate, key = directory / "ca.pem", directory / "ca.key"
    with locked(directory):
        made = not certificate.exists()
        if made:
            create(certificate, key, cluster, now)
        try:
            refuse_readable(key)
            return Authority.from_pem(certificate.read_text(), key.read_text(), str(directory)), made
        except FileNotFoundError:
            raise PkiError(
                f"{key} is missing beside {certificate}: restore it, or give every HostOS new certificates"
            ) from None


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> t.Iterator[None]:
    with (directory / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def refuse_readable(key: pathlib.Path) -> None:
    if key.stat().st_mode & 0o077:
        raise PkiError(
            f"{key} can be read by others than its owner: chmod 600 it, and ask whether it is still a secret"
        )


def create(certificate: pathlib.Path, key: pathlib.Path, cluster: str, now: datetime.datetime) -> None:
    """The key first: a certificate without a key never exists, and an interrupted run begins again.

    A key that is there is used, whoever lost its certificate: what it has signed stays good. PkiError.
    """
    private = read_key(key) if key.exists() else ec.generate_private_key(ec.SECP256R1())
    subject = name(COMMON_NAME=f"{cluster} HostOSes"[:COMMON_NAME_MAX], ORGANIZATION_NAME=ORGANIZATION)
    public = private.public_key()
    built = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if not key.exists():
        write(key, pem, 0o600)
    write(certificate, built.public_bytes(serialization.Encoding.PEM), 0o644)


def read_key(path: pathlib.Path) -> ec.EllipticCurvePrivateKey:
    refuse_readable(path)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise PkiError(f"{path}: not a key in PEM without a passphrase: {error}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path}: not an elliptic curve key")
    return private


def write(path: pathlib.Path, data: bytes, mode: int) -> None:
    with (
        whole(path, mode) as partial,
        os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream,
    ):
        stream.write(data)
