"""Rules of ``podidentity doctor`` about the Secrets of service principals, which are read and not kept. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from podidentity.insight.cluster import Cluster
from podidentity.insight.findings import Found, Rule

SOON: Final = 30 * 86400.0
"""Seconds before its end at which a certificate is told."""


def _unusable(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.secrets:
        if one.trouble:
            fix = "mend the Secret; see docs/howto/service-principals.md"
            yield Found(f"secret {one.key}", f"{one.trouble}; AzureIdentity {one.identity} needs it", fix)


def _ending(cluster: Cluster) -> Iterator[Found]:
    for one in cluster.secrets:
        left = None if one.not_after is None else one.not_after - cluster.now
        if one.not_after is not None and left is not None and left < SOON:
            day = f"{datetime.fromtimestamp(one.not_after, UTC):%F}"
            seen = f"its certificate {'has ended' if left <= 0 else 'ends'} on {day}"
            fix = "add a new certificate to the application in Entra ID, then put it into the Secret"
            yield Found(f"secret {one.key}", f"{seen}; AzureIdentity {one.identity} uses it", fix)


RULES: Final = (
    Rule("PI036-unusable-secret", "error", "A Secret that gives no token", ("secrets",), _unusable),
    Rule("PI037-certificate-ends", "warning", "A certificate that ends within 30 days", ("secrets",), _ending),
)
