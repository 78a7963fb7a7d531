"""Microsoft's own clients, unmodified, over TLS on the real host names."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from tests.lab.cloud.conftest import APP1, APP2, CONTROLLER, SEED, TENANT, VM

NAMES = ("management.azure.com", "login.microsoftonline.com", "login.windows.net", "kv1.vault.azure.net")
UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount")


def certify(folder: Path, name: str, hosts: tuple[str, ...] = ()) -> str:
    """Write NAME.crt, NAME.key and both as NAME.pem, self-signed; the certificate's text."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    builder = builder.not_valid_after(now + timedelta(days=1))
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
        )
    certificate = builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    encoding, container = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, container, serialization.NoEncryption()).decode()
    (folder / f"{name}.crt").write_text(certificate)
    (folder / f"{name}.key").write_text(private)
    (folder / f"{name}.pem").write_text(private + certificate)
    return certificate


def write_inputs(folder: Path) -> None:
    """What the script inside reads."""
    (folder / "ca.crt").write_text(certify(folder, "cloud", NAMES))
    seed = json.loads(SEED)
    seed["servicePrincipals"][0]["certificates"] = [certify(folder, "app")]
    seed["nics"] = [{"cidr": "169.254.169.254/32", "resourceId": VM, "kind": "node"}]
    seed["identities"][1]["clientId"] = "66666666-6666-6666-6666-666666666666"
    (folder / "seed.json").write_text(json.dumps(seed))
    (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NAMES)))
    ask = {"tenant": TENANT, "controller": CONTROLLER, "vm": VM, "identity": APP1, "forbidden": APP2}
    ask |= {"client_id": "66666666-6666-6666-6666-666666666666", "other": TENANT}
    (folder / "ask.json").write_text(json.dumps(ask))


async def test_unmodified_sdks_on_the_real_names(tmp_path: Path) -> None:
    """Protects the simulator's claim to be Azure: identity, Key Vault and management SDKs cannot tell."""
    pipe = asyncio.subprocess.PIPE
    probe = await asyncio.create_subprocess_exec(*UNSHARE, "true", stderr=pipe)
    _, error = await probe.communicate()
    if probe.returncode:
        pytest.skip(f"needs user, network and mount namespaces (allow unprivileged user namespaces): {error.decode()}")
    write_inputs(tmp_path)
    script = str(Path(__file__).with_name("inside_sdk.py"))
    process = await asyncio.create_subprocess_exec(
        *UNSHARE, sys.executable, script, str(tmp_path), stdout=pipe, stderr=pipe
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    answers = json.loads(output)
    secret = "e+9qBwdjC<q6<P_n"
    other = answers["vault"].pop("other")
    assert "Identity not found" in other
    assert answers == {
        "arm": {"state": "Succeeded", "refused": "LinkedAuthorizationFailed"},
        "vault": {"managed": secret, "by_id": secret, "default": secret, "versions": 1, "missing": "SecretNotFound"},
        "certificate": True,
        "exit": 0,
    }
