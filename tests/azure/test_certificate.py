"""Certificates of service principals: the files they come in, and what they sign."""

from __future__ import annotations

import asyncio
import base64

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.azure.certificates import Key, Pair, ec_key, pair, rsa_key

from podidentity.azure.certificate import MAX_FILE, CertificateError, ClientCertificate, load_certificate, unlock

CLIENT = "33333333-3333-3333-3333-333333333333"
AUDIENCE = "https://login.microsoftonline.com/t/oauth2/token"


@pytest.fixture(scope="module")
def plain() -> Pair:
    """An RSA key and its certificate."""
    return pair(rsa_key())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa_key(), "RS256"),
        (ec_key(), "ES256"),
        (ec_key(ec.SECP384R1()), "ES384"),
        (ec_key(ec.SECP521R1()), "ES512"),
    ],
    ids=["rsa", "p256", "p384", "p521"],
)
async def test_d27_pkcs12_of_every_key_signs_an_assertion(key: Key, algorithm: str) -> None:
    """RSA and EC keys alike: an independent library verifies signature, audience, thumbprint and chain."""
    root = pair(rsa_key(), name="root")
    made = pair(key, signed_by=root)
    certificate = await load_certificate(made.pkcs12(b"pw"), b"pw")
    text = certificate.assertion(CLIENT, AUDIENCE, now=2_000_000_000)
    header = jwt.get_unverified_header(text)
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims = jwt.decode(text, made.leaf.public_key(), [algorithm], audience=AUDIENCE, options=options)  # type: ignore[arg-type]
    assert header["alg"] == algorithm
    assert base64.urlsafe_b64decode(header["x5t"] + "=") == made.leaf.fingerprint(SHA1())
    assert [base64.b64decode(one) for one in header["x5c"]] == [
        one.public_bytes(Encoding.DER) for one in (made.leaf, root.leaf)
    ]
    assert (claims["iss"], claims["sub"], claims["exp"]) == (CLIENT, CLIENT, 2_000_000_600)
    assert certificate.assertion(CLIENT, AUDIENCE, now=2_000_000_000) != text


async def test_d27_pem_with_and_without_password(plain: Pair) -> None:
    """A PEM file in any order is read, encrypted or not; its own certificate comes first."""
    made = pair(ec_key(), signed_by=plain)
    for password in (b"", b"pw"):
        certificate = await load_certificate(made.pem(password), password)
        assert certificate.chain == (made.leaf, plain.leaf)
        assert "key" not in repr(certificate)


def test_d27_chain_files_take_a_password(plain: Pair) -> None:
    """A PKCS#12 with a chain and a password is opened; the password that is not needed does no harm."""
    made = pair(rsa_key(), signed_by=plain)
    assert unlock(made.pkcs12(b"pw"), b"pw").count(b"BEGIN CERTIFICATE") == 2
    assert unlock(made.pkcs12(), b"").count(b"BEGIN CERTIFICATE") == 2
    assert unlock(base64.b64encode(made.pkcs12(b"pw")), b"pw").count(b"BEGIN CERTIFICATE") == 2
    assert unlock(made.pem(), b"not needed").count(b"BEGIN CERTIFICATE") == 2


def _dsa() -> bytes:
    key = dsa.generate_private_key(1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_files_that_cannot_be_used_say_why(plain: Pair) -> None:
    """Wrong passwords, missing parts, weak and foreign keys, and junk are told apart in one line."""
    cases = {
        "needs a password": (plain.pkcs12(b"pw"), b""),
        "cannot be opened with the password": (plain.pkcs12(b"pw"), b"other"),
        "is neither": (b"\x30\x03junk", b""),
        "holds no private key": (plain.public.encode(), b""),
        "holds no certificate": (plain.private(), b""),
        "holds no certificate of its key": (plain.public.encode() + ec_key_pem(), b""),
        "bits": (pair(rsa_key(1024)).pem(), b""),
        "secp256k1": (pair(ec_key(ec.SECP256K1())).pem(), b""),
        "neither RSA nor EC": (plain.public.encode() + _dsa(), b""),
    }
    for words, (data, password) in cases.items():
        with pytest.raises(CertificateError, match=words) as caught:
            unlock(data, password)
        assert "\n" not in str(caught.value)


def ec_key_pem() -> bytes:
    """Return a key that has no certificate."""
    return pair(ec_key()).private()


def der(tag: int, *parts: bytes) -> bytes:
    """Return a short value of ASN.1."""
    content = b"".join(parts)
    return bytes((tag, len(content))) + content


def encrypted_key(rounds: int) -> bytes:
    """Return a PEM key whose encryption takes so many rounds of PBKDF2, by its own word."""
    oid, sequence, octets, integer = 6, 0x30, 4, 2
    pbes2, pbkdf2 = bytes.fromhex("2a864886f70d01050d"), bytes.fromhex("2a864886f70d01050c")
    aes = bytes.fromhex("60864801650304012a")
    kdf = der(sequence, der(oid, pbkdf2), der(sequence, der(octets, bytes(8)), der(integer, rounds.to_bytes(4, "big"))))
    scheme = der(sequence, der(oid, aes), der(octets, bytes(16)))
    made = der(sequence, der(sequence, der(oid, pbes2), der(sequence, kdf, scheme)), der(octets, bytes(32)))
    text = base64.b64encode(made).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{text}\n-----END ENCRYPTED PRIVATE KEY-----\n".encode()


async def test_hostile_file_does_not_stop_the_agent(plain: Pair) -> None:
    """A file that takes minutes to open is given up after seconds, and everything else goes on meanwhile."""
    hostile = plain.public.encode() + encrypted_key(2**31 - 1)
    loop = asyncio.get_running_loop()
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            gaps.append(loop.time() - before)

    ticking = asyncio.ensure_future(tick())
    with pytest.raises(CertificateError, match="1 s of work"):
        await load_certificate(hostile, b"pw", cpu_seconds=1)
    ticking.cancel()
    with pytest.raises(CertificateError, match="is neither"):
        await load_certificate(plain.public.encode() + encrypted_key(1024), b"pw")
    assert len(gaps) > 50
    with pytest.raises(CertificateError, match="larger"):
        await load_certificate(b"x" * (MAX_FILE + 1))


async def test_opening_that_is_given_up_leaves_no_process(plain: Pair) -> None:
    """A caller that leaves while a file is opened leaves nothing running behind it."""
    opening = asyncio.ensure_future(load_certificate(plain.pkcs12(b"pw", rounds=3_000_000), b"pw"))
    await asyncio.sleep(0.3)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert isinstance(await load_certificate(plain.pem()), ClientCertificate)
