# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's authority on the controller: one for all, and it decides what a certificate says."""

from __future__ import annotations

import concurrent.futures
import datetime
import ipaddress
import pathlib
import stat

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)
NAMES = ["node01", "10.0.0.5", "fd12::5"]


def request(*extensions: x509.ExtensionType, common_name: str = "whatever") -> str:
    """What a HostOS sends; a wicked one adds extensions."""
    builder = x509.CertificateSigningRequestBuilder(_pki.name(COMMON_NAME=common_name))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def signed(authority: _pki.Authority, csr: str, days: int = 730) -> x509.Certificate:
    pem, _end = authority.sign(csr, unit="oscarv.virt libvirt", names=NAMES, days=days, now=NOW)
    return x509.load_pem_x509_certificate(pem.encode())


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> _pki.Authority:
    return _pki.open_authority(tmp_path / "pki", "tcd", NOW)[0]


def test_a_certificate_is_for_the_hostos_that_the_controller_named(authority: _pki.Authority) -> None:
    certificate = signed(authority, request())
    certificate.verify_directly_issued_by(authority.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node01"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(text) for text in NAMES[1:]]
    assert certificate.subject.rfc4514_string() == "O=oscarv.virt,OU=oscarv.virt libvirt,CN=node01"


def test_nothing_of_a_request_but_its_key_is_used(authority: _pki.Authority) -> None:
    wicked = request(
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("node02")]),
        common_name="node02",
    )
    certificate = signed(authority, wicked)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "node02" not in str(certificate.extensions) + certificate.subject.rfc4514_string()


def test_a_certificate_ends_with_its_authority_at_the_latest(authority: _pki.Authority) -> None:
    assert _pki.not_after(signed(authority, request())) == NOW + datetime.timedelta(days=730)
    assert _pki.not_after(signed(authority, request(), days=99999)) == _pki.not_after(authority.certificate)


def test_a_long_name_is_cut_in_the_subject_only(authority: _pki.Authority) -> None:
    long = "n" * 70
    pem, _end = authority.sign(request(), unit="u", names=[long], days=1, now=NOW)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "n" * 64
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == [long]


def test_garbage_is_refused_by_the_hostos_name(authority: _pki.Authority) -> None:
    with pytest.raises(_pki.PkiError, match="node01: the HostOS sent no certificate request"):
        signed(authority, "garbage")


def test_all_hostoses_get_the_same_authority_and_its_key_is_secret(tmp_path: pathlib.Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _n: _pki.open_authority(tmp_path / "pki", "tcd", NOW), range(16)))
    assert len({authority.pem for authority, _made in results}) == 1
    assert [made for _authority, made in results].count(True) == 1
    assert stat.S_IMODE((tmp_path / "pki/ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_an_interrupted_creation_begins_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = _pki.write

    def killed(path: pathlib.Path, data: bytes, mode: int) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data, mode)

    monkeypatch.setattr(_pki, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        _pki.open_authority(tmp_path, "tcd", NOW)
    monkeypatch.setattr(_pki, "write", write)
    authority, made = _pki.open_authority(tmp_path, "tcd", NOW)
    assert made
    signed(authority, request()).verify_directly_issued_by(authority.certificate)


def test_a_key_whose_certificate_was_lost_is_kept_and_what_it_signed_stays_good(tmp_path: pathlib.Path) -> None:
    before, _made = _pki.open_authority(tmp_path, "tcd", NOW)
    key = (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.pem").unlink()
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(_pki.PkiError, match="can be read by others"):
        _pki.open_authority(tmp_path, "tcd", NOW)
    (tmp_path / "ca.key").chmod(0o600)
    after, made = _pki.open_authority(tmp_path, "tcd", NOW)
    assert made and (tmp_path / "ca.key").read_bytes() == key
    signed(before, request()).verify_directly_issued_by(after.certificate)


@pytest.mark.parametrize("content", ["", "garbage"])
def test_a_file_that_is_no_key_is_not_overwritten(tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "ca.key").write_text(content)
    (tmp_path / "ca.key").chmod(0o600)
    with pytest.raises(_pki.PkiError, match="ca.key: not a key in PEM"):
        _pki.open_authority(tmp_path, "tcd", NOW)
    assert (tmp_path / "ca.key").read_text() == content


def test_a_key_that_others_can_read_is_refused(tmp_path: pathlib.Path) -> None:
    _pki.open_authority(tmp_path, "tcd", NOW)
    (tmp_path / "ca.key").chmod(0o640)
    with pytest.raises(_pki.PkiError, match="can be read by others"):
        _pki.open_authority(tmp_path, "tcd", NOW)


def test_a_certificate_without_its_key_is_refused(tmp_path: pathlib.Path) -> None:
    _pki.open_authority(tmp_path, "tcd", NOW)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(_pki.PkiError, match="ca.key is missing"):
        _pki.open_authority(tmp_path, "tcd", NOW)
    _pki.open_authority(tmp_path / "other", "tcd", NOW)
    (tmp_path / "other/ca.key").rename(tmp_path / "ca.key")
    with pytest.raises(_pki.PkiError, match="the key is not the one of the certificate"):
        _pki.open_authority(tmp_path, "tcd", NOW)
