"""What files hold: the vault's bytes, certificates as PEM in the order programs want them."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from podidentity.azure.keyvault import CertificateBundle, KeyBundle, SecretBundle
from podidentity.csi.certificates import chain, pem_of_pkcs12, public_key_pem
from podidentity.csi.content import PEM, PKCS12, CertificateOptions, certificate_contents, key_contents, secret_contents
from podidentity.csi.errors import MountError
from podidentity.csi.objects import Encoding as ObjectEncoding
from podidentity.csi.objects import WantedObject

ORDERED, SPLIT = CertificateOptions(), CertificateOptions(split=True)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)


def issue(name: str, issuer: Issued | None = None, *, key_ids: bool = True) -> Issued:
    """A certificate signed by ``issuer``, by itself without one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=365))
    )
    signer = issuer.key if issuer else key
    if key_ids:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
    return Issued(builder.sign(signer, hashes.SHA256()), key)


ROOT = issue("root")
MIDDLE = issue("middle", ROOT)
LEAF = issue("leaf", MIDDLE)
KEY_PEM = LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pfx(*others: Issued, leaf: Issued | None = LEAF, modern: bool = True) -> str:
    """A PKCS#12 as Key Vault stores it: base64, no password."""
    encryption = NoEncryption()
    if not modern:
        builder = PrivateFormat.PKCS12.encryption_builder().key_cert_algorithm(
            pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC
        )
        encryption = builder.hmac_hash(hashes.SHA1()).build(b"\0")  # type: ignore[assignment]
    data = pkcs12.serialize_key_and_certificates(
        b"name",
        leaf.key if leaf else LEAF.key,
        leaf.certificate if leaf else None,
        [one.certificate for one in others] or None,
        encryption,
    )
    return base64.b64encode(data).decode()


def wanted(*, pfx: bool = False, encoding: ObjectEncoding = "") -> WantedObject:
    """A secret."""
    return WantedObject("s1", "", "s1", pfx=pfx, encoding=encoding)


def secret(value: str, content_type: str = "", *, backed: bool = False) -> SecretBundle:
    """What the vault answered."""
    return SecretBundle(value, "https://v/secrets/s1/1", "1", content_type, "https://v/keys/s1/1" if backed else "")


@pytest.mark.parametrize(
    ("is_pfx", "encoding", "value", "content_type", "backed", "expected"),
    [
        (False, "", "e+9qBwdjC<q6<P_n", "", False, b"e+9qBwdjC<q6<P_n"),
        (False, "", " ü\n", "text/plain", False, " ü\n".encode()),
        (False, "", "", "", False, b""),
        (False, "base64", "aGk=\n", "", False, b"hi"),
        (False, "hex", "6869", "", False, b"hi"),
        (False, "", "-----BEGIN", PEM, True, b"-----BEGIN"),
        (False, "", "TUlJ", PKCS12, False, b"TUlJ"),
        (True, "", "TUlJ", PKCS12, True, b"TUlJ"),
        (True, "base64", "TUlJ", PKCS12, True, b"MII"),
    ],
)
def test_a_secret_as_it_is(
    encoding: ObjectEncoding, value: str, content_type: str, expected: bytes, *, is_pfx: bool, backed: bool
) -> None:
    """A file holds exactly the secret's bytes, decoded only where asked."""
    made = secret_contents(wanted(pfx=is_pfx, encoding=encoding), secret(value, content_type, backed=backed), ORDERED)
    assert [(one.suffix, one.data) for one in made.files] == [("", expected)]


@pytest.mark.parametrize(
    ("encoding", "value", "content_type", "backed", "expected"),
    [
        ("base64", "***", "", False, "the value is not base64"),
        ("hex", "xyz", "", False, "the value is not hex"),
        ("", "\udc80", "", False, "the value is not utf-8"),
        ("", "x", "text/plain", True, "failed to get certificate. unknown content type 'text/plain'"),
        ("", "x", "", True, "failed to get certificate. unknown content type ''"),
        ("", "eA==", PKCS12, True, "not base64 of a PKCS#12 without password"),
        ("", "*", PKCS12, True, "not base64 of a PKCS#12 without password"),
    ],
)
def test_a_value_that_is_something_else(
    encoding: ObjectEncoding, value: str, content_type: str, expected: str, *, backed: bool
) -> None:
    """A value that is not what the class says is refused without showing the value."""
    with pytest.raises(MountError, match=expected):
        secret_contents(wanted(encoding=encoding), secret(value, content_type, backed=backed), ORDERED)


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("others", [(MIDDLE, ROOT), (ROOT, MIDDLE), (ROOT, MIDDLE, ROOT, LEAF)])
def test_k5_a_pkcs12_becomes_key_and_chain(others: tuple[Issued, ...], *, modern: bool) -> None:
    """Key first, then leaf, intermediate, root, each once, however the PKCS#12 orders or encrypts them."""
    made = secret_contents(wanted(), secret(pfx(*others, modern=modern), PKCS12, backed=True), ORDERED)
    ((data, suffix),) = [(one.data, one.suffix) for one in made.files]
    assert suffix == ""
    assert data == KEY_PEM + LEAF.pem + MIDDLE.pem + ROOT.pem
    assert not made.notice
    assert load_pem_private_key(data, None)


def test_an_unordered_chain_when_the_flag_is_off() -> None:
    """Without --construct-pem-chain certificates stay as they are stored."""
    made = secret_contents(wanted(), secret(pfx(ROOT, MIDDLE), PKCS12, backed=True), CertificateOptions(order=False))
    assert made.files[0].data == KEY_PEM + LEAF.pem + ROOT.pem + MIDDLE.pem


def test_a_chain_with_gaps_stays_as_stored() -> None:
    """An incomplete chain is mounted in its own order, with a notice."""
    made = secret_contents(wanted(), secret(pfx(ROOT), PKCS12, backed=True), ORDERED)
    assert made.files[0].data == KEY_PEM + LEAF.pem + ROOT.pem
    assert "has gaps" in made.notice


def test_a_pkcs12_without_certificate() -> None:
    """A key alone is mounted as a key."""
    assert pem_of_pkcs12(pfx(leaf=None), order=True).certificates == b""
    assert pem_of_pkcs12(pfx(leaf=None), order=True).key == KEY_PEM


def test_k4_split_files() -> None:
    """The .crt and .key stand before the combined file; encoding is not applied to them."""
    made = secret_contents(wanted(), secret(pfx(MIDDLE, ROOT), PKCS12, backed=True), SPLIT)
    chain_pem = LEAF.pem + MIDDLE.pem + ROOT.pem
    expected = [(".crt", chain_pem), (".key", KEY_PEM), ("", KEY_PEM + chain_pem)]
    assert [(one.suffix, one.data) for one in made.files] == expected
    text = (KEY_PEM + LEAF.pem).decode()
    made = secret_contents(wanted(), secret(text, PEM, backed=True), SPLIT)
    assert [(one.suffix, one.data) for one in made.files] == [
        (".crt", LEAF.pem),
        (".key", KEY_PEM),
        ("", text.encode()),
    ]
    with pytest.raises(MountError, match="no PEM block"):
        secret_contents(wanted(), secret("x", PEM, backed=True), SPLIT)


def test_a_pfx_is_never_split() -> None:
    """A PFX asked for as such is one file, also with the split flag."""
    made = secret_contents(wanted(pfx=True), secret(pfx(ROOT), PKCS12, backed=True), SPLIT)
    assert [one.suffix for one in made.files] == [""]


def test_chains_without_key_identifiers() -> None:
    """Certificates without key identifiers are ordered by their names."""
    root = issue("r", key_ids=False)
    middle = issue("m", root, key_ids=False)
    leaf = issue("l", middle, key_ids=False)
    shuffled = [root.certificate, leaf.certificate, middle.certificate]
    assert chain(shuffled) == [leaf.certificate, middle.certificate, root.certificate]
    assert chain([]) == []


def test_certificates_in_a_circle() -> None:
    """A circle of issuers is an error, not an endless loop."""
    a = issue("a", key_ids=False)
    b = issue("b", a, key_ids=False)
    back = issue("a", b, key_ids=False)
    circle = [b.certificate, back.certificate]
    with pytest.raises(MountError, match="no leaf found"):
        chain(circle)
    with pytest.raises(MountError, match="resulted in cycle"):
        chain(circle, leaf=b.certificate)


def number(value: int) -> str:
    """An integer as a JSON Web Key writes it."""
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


@pytest.mark.parametrize("kty", ["RSA", "RSA-HSM"])
def test_rsa_keys(kty: str) -> None:
    """An RSA key becomes a PUBLIC KEY with the same numbers."""
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    (made,) = key_contents(KeyBundle({"kty": kty, "n": number(numbers.n), "e": number(numbers.e)}, "1")).files
    loaded = load_pem_public_key(made.data)
    assert isinstance(loaded, rsa.RSAPublicKey)
    assert loaded.public_numbers() == numbers
    assert made.data.startswith(b"-----BEGIN PUBLIC KEY-----\n")


@pytest.mark.parametrize("kty", ["EC", "EC-HSM"])
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_ec_keys(kty: str, curve: ec.EllipticCurve) -> None:
    """Each curve of the contract becomes a PUBLIC KEY with the same point."""
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    name = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[curve.name]
    loaded = load_pem_public_key(
        public_key_pem({"kty": kty, "crv": name, "x": number(numbers.x), "y": number(numbers.y)})
    )
    assert isinstance(loaded, ec.EllipticCurvePublicKey)
    assert loaded.public_numbers() == numbers


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        ({"kty": "oct"}, "key type 'oct' currently not supported"),
        ({}, "key type '' currently not supported"),
        ({"kty": "EC", "crv": "P-256K", "x": "AQ", "y": "AQ"}, "curve P-256K is not supported"),
        ({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, "not a valid EC key"),
        ({"kty": "EC", "crv": "P-256", "x": "AQ"}, "not a valid EC key"),
        ({"kty": "RSA", "n": "AQ", "e": "AQ"}, "not a valid RSA key"),
    ],
)
def test_keys_that_cannot_be_mounted(jwk: dict[str, str], expected: str) -> None:
    """A key of another type, curve or without its numbers is refused with its name."""
    with pytest.raises(MountError, match=expected):
        public_key_pem(jwk)


def test_certificates() -> None:
    """A certificate becomes PEM; anything else is refused."""
    der = base64.b64encode(LEAF.certificate.public_bytes(Encoding.DER)).decode()
    (made,) = certificate_contents(CertificateBundle(der, "1")).files
    assert made.data == LEAF.pem
    for wrong in ("", "*", "AAAA"):
        with pytest.raises(MountError, match="not base64 of a certificate"):
            certificate_contents(CertificateBundle(wrong, "1"))


@given(
    st.binary(max_size=200), st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y"]), st.text(max_size=9))
)
def test_any_bytes(data: bytes, jwk: dict[str, str]) -> None:
    """Whatever a vault holds, the outcome is bytes or a MountError."""
    text = base64.b64encode(data).decode()
    for call in (
        lambda: secret_contents(wanted(), secret(text, PKCS12, backed=True), SPLIT),
        lambda: secret_contents(wanted(), secret(text, PEM, backed=True), SPLIT),
        lambda: certificate_contents(CertificateBundle(text, "1")),
        lambda: key_contents(KeyBundle(jwk, "1")),
        lambda: key_contents(KeyBundle({**jwk, "kty": "RSA"}, "1")),
        lambda: key_contents(KeyBundle({**jwk, "kty": "EC", "crv": "P-256"}, "1")),
    ):
        with contextlib.suppress(MountError):
            call()
