"""Secrets of service principals as ``podidentity doctor`` sees them: judged, and never kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.insight.clusters import HEALTHY, NOW, identity, principal

from podidentity.api.core import Secret
from podidentity.api.meta import KubeObject
from podidentity.api.resources import Resource
from podidentity.insight.cluster import SecretSeen
from podidentity.insight.doctor import RULES, secrets_seen
from podidentity.insight.findings import examine
from podidentity.insight.look import Hidden

DAY = 86400.0


class Shelf:
    """A stand-in for the reader: Secrets by ``namespace/name``."""

    def __init__(self, secrets: Mapping[str, Mapping[str, bytes]], hidden: Hidden | None = None) -> None:
        self.secrets, self.hidden = secrets, hidden
        self.asked: list[str] = []

    async def got(self, resource: Resource[Secret], name: str, namespace: str = "") -> KubeObject | Hidden | None:
        """One Secret."""
        assert resource.plural == "secrets"
        self.asked.append(f"{namespace}/{name}")
        data = self.secrets.get(f"{namespace}/{name}")
        return self.hidden or (None if data is None else Secret(data=data))


def pem(days: float) -> bytes:
    """Key and certificate that ends so many days after NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sp")])
    end = datetime.fromtimestamp(NOW, UTC) + timedelta(days=days)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, end - timedelta(days=900), end).sign(key, SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + made.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("key", ["certificate", "the-only-one"])
async def test_a_certificates_end_is_all_that_is_kept(key: str) -> None:
    """The Secret's bytes are in nothing that is printed."""
    data = pem(10)
    seen = await secrets_seen(Shelf({"team/secret": {key: data}}), (principal(), identity()))
    assert not isinstance(seen, Hidden)
    assert [(one.key, one.identity, one.trouble) for one in seen] == [("team/secret", "team/sp", "")]
    assert seen[0].not_after == pytest.approx(NOW + 10 * DAY, abs=2)
    assert "PRIVATE" not in repr(seen)


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        ({}, "is not there"),
        ({"team/secret": {"other": b"x", "more": b"y"}}, "has none of the keys certificate, tls.crt"),
        ({"team/secret": {"certificate": b"hush"}}, "cannot be opened"),
    ],
)
async def test_what_gives_no_token_is_found(secrets: Mapping[str, Mapping[str, bytes]], says: str) -> None:
    """A missing Secret, one without its key, one that is no certificate."""
    seen = await secrets_seen(Shelf(secrets), (principal(),))
    assert not isinstance(seen, Hidden)
    findings = examine(replace(HEALTHY, secrets=seen), RULES).findings
    assert [one.rule for one in findings] == ["PI036-unusable-secret"]
    assert says in findings[0].evidence
    assert "hush" not in repr(findings)


async def test_without_the_right_the_rules_are_not_judged() -> None:
    """Who may not read Secrets is told so, and asked for none when no identity has one."""
    hidden = Hidden("no", "get secrets in namespace team")
    assert await secrets_seen(Shelf({}, hidden), (principal(),)) == hidden
    shelf = Shelf({}, hidden)
    assert await secrets_seen(shelf, (identity(),)) == ()
    assert shelf.asked == []


@pytest.mark.parametrize(("days", "says"), [(-1, "has ended on"), (29, "ends on"), (31, ""), (None, "")])
def test_an_end_that_is_near(days: float | None, says: str) -> None:
    """Thirty days before, and after it."""
    end = None if days is None else NOW + days * DAY
    seen = SecretSeen("team/secret", "team/sp", "", end)
    findings = examine(replace(HEALTHY, secrets=(seen,)), RULES).findings
    assert [one.rule for one in findings] == (["PI037-certificate-ends"] if says else [])
    assert all(says in one.evidence for one in findings)
