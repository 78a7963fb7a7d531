"""The lab's throwaway certificate authority: what a kubeadm cluster and Azure's front doors would hold."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=365)
AZURE_NAMES = (
    "management.azure.com",
    "login.microsoftonline.com",
    "login.windows.net",
    "sts.windows.net",
    "vault.azure.net",
    "*.vault.azure.net",
)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate is for: user name (CN), groups (O), and the names or addresses it may serve."""

    common_name: str
    organizations: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()


def _name(subject: Subject) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """Signs certificates below one CA kept in ``folder`` (``ca.crt``, ``ca.key``), made on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        cert, key = folder / "ca.crt", folder / "ca.key"
        if cert.exists() and key.exists():
            loaded = serialization.load_pem_private_key(key.read_bytes(), None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise TypeError(f"{key} holds no elliptic-curve key")
            self._key = loaded
            self._cert = x509.load_pem_x509_certificate(cert.read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = Subject("podidentity lab CA")
        self._cert = self._build(_name(subject), _name(subject), self._key.public_key(), ca=True).sign(
            self._key, hashes.SHA256()
        )
        self._store("ca", self._cert, self._key)

    def issue(self, name: str, subject: Subject) -> None:
        """Write ``name``.crt and ``name``.key unless both are there already."""
        if (self._folder / f"{name}.crt").exists() and (self._folder / f"{name}.key").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._build(_name(subject), self._cert.subject, key.public_key(), ca=False)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if subject.serves:
            names = x509.SubjectAlternativeName([_alternative(text) for text in subject.serves])
            builder = builder.add_extension(names, critical=False)
        self._store(name, builder.sign(self._key, hashes.SHA256()), key)

    def _build(
        self, subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        key_id = x509.SubjectKeyIdentifier.from_public_key(public)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=ca,
            crl_sign=ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(signer, critical=False)
            .add_extension(usage, critical=True)
        )

    def _store(self, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        write_key(self._folder / f"{name}.key", key)
        (self._folder / f"{name}.crt").write_bytes(cert.public_bytes(_PEM))


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    """Write a private key, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def make_pki(folder: Path, api_addresses: Sequence[str], nodes: Sequence[tuple[str, str]]) -> None:
    """Everything the lab's processes present to each other; ``nodes`` are (name, address) pairs.

    Existing files are kept, so a resumed lab keeps its keys and the kubeconfigs people copied stay valid.
    """
    authority = Authority(folder)
    serves = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", *api_addresses)
    authority.issue("apiserver", Subject("kube-apiserver", serves=serves))
    authority.issue("apiserver-kubelet-client", Subject("kube-apiserver-kubelet-client", ("system:masters",)))
    authority.issue("admin", Subject("kubernetes-admin", ("system:masters",)))
    authority.issue("controllers", Subject("system:kube-controller-manager", ("system:masters",)))
    authority.issue("cloud", Subject("azure", serves=AZURE_NAMES))
    for name, address in nodes:
        user = Subject(f"system:node:{name}", ("system:nodes", "system:masters"), (name, address))
        authority.issue(f"kubelet-{name}", user)
    signer = folder / "sa.key"
    if not signer.exists():
        write_key(signer, rsa.generate_private_key(public_exponent=65537, key_size=2048))
