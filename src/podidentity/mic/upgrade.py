"""The record of the type upgrade.

Versions before 1.6 wrote field names in other casings, which the original rewrote once, object by object. The schemas
of today drop such fields on the way in, so there is nothing left to rewrite: only the record is kept, for the original
looks for it after a way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from podidentity.api.core import ConfigMap
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import CONFIG_MAPS
from podidentity.kube.errors import AlreadyExists, Conflict, NotFound
from podidentity.mic.ports import KubeApi
from podidentity.telemetry.logging import get_logger


@dataclass(frozen=True, slots=True)
class UpgradeRecord:
    """Where the record is: a ConfigMap and the key in it."""

    namespace: str
    name: str
    key: str


async def upgrade_types(kube: KubeApi, where: UpgradeRecord, version: str) -> None:
    """Write ``version`` into the record unless one is there. Raises KubeError."""
    log = get_logger()
    found = await _config_map(kube, where)
    recorded = found.data.get(where.key)
    if recorded is not None:
        get_logger().info(f"type upgrade status configmap found from version: {recorded}. Skipping type upgrade!")
        return
    log.info("upgrading the types to work with case sensitive go-client")
    try:
        await kube.replace(CONFIG_MAPS, msgspec.structs.replace(found, data={**found.data, where.key: version}))
    except Conflict:
        log.v(1).info("the type upgrade's record was written by another meanwhile")
    log.info("type upgrade completed !!")


async def _config_map(kube: KubeApi, where: UpgradeRecord) -> ConfigMap:
    try:
        return await kube.get(CONFIG_MAPS, where.name, where.namespace)
    except NotFound:
        pass
    empty = ConfigMap(
        api_version=CONFIG_MAPS.api_version,
        kind=CONFIG_MAPS.kind,
        metadata=ObjectMeta(name=where.name, namespace=where.namespace),
    )
    try:
        return await kube.create(CONFIG_MAPS, empty)
    except AlreadyExists:
        return await kube.get(CONFIG_MAPS, where.name, where.namespace)
