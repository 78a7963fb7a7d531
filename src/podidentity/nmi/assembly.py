"""nmi put together: what it is made of. Nothing here listens or starts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.aio.singleflight import SingleFlight
from podidentity.api.constants import (
    TYPE_SERVICE_PRINCIPAL,
    TYPE_SERVICE_PRINCIPAL_CERTIFICATE,
    TYPE_USER_ASSIGNED,
)
from podidentity.api.core import Pod
from podidentity.api.resources import PODS, SECRETS
from podidentity.azure.imds import ImdsClient
from podidentity.config.nmi import NmiSettings
from podidentity.kube.client import KubeClient
from podidentity.nmi.auditor import Auditor
from podidentity.nmi.authorize import Policy
from podidentity.nmi.callers import Accounts, Callers
from podidentity.nmi.cgroups import Cgroups
from podidentity.nmi.cluster import Cluster
from podidentity.nmi.connection import Limits
from podidentity.nmi.documents import Documents, ImdsForward
from podidentity.nmi.gate import GateRules
from podidentity.nmi.grants import SecretRules
from podidentity.nmi.handler import Handler, HandlerRules
from podidentity.nmi.interfaces import Interfaces
from podidentity.nmi.journal import Journal, Meter
from podidentity.nmi.notices import Conditions, Notices
from podidentity.nmi.peer import owner_of
from podidentity.nmi.pods import PodApi, PodFinder, pod_addresses
from podidentity.nmi.request import UNIX
from podidentity.nmi.rights import MissingRight
from podidentity.nmi.server import Server
from podidentity.nmi.tokens.authority import Authorities
from podidentity.nmi.tokens.cached import Cached
from podidentity.nmi.tokens.compose import Briefly, ByType, FlightKey, OneFlight
from podidentity.nmi.tokens.fair import FairBudget
from podidentity.nmi.tokens.imds import Imds, ImdsTokens, Throttled
from podidentity.nmi.tokens.pace import Pace
from podidentity.nmi.tokens.principal import Grants, ServicePrincipal, watch_secrets
from podidentity.nmi.tokens.proofs import Proofs, Secrets
from podidentity.nmi.tokens.source import Token
from podidentity.nmi.waiters import Waiters
from podidentity.telemetry.audit import Audit
from podidentity.telemetry.logging import Logger

IMDS_DOCUMENTS_A_SECOND: Final = 5.0
ENTRA_A_SECOND: Final = 10.0
HELD_PER_POD: Final = 32
HELD_IN_ALL: Final = 1024
MANAGED: Final = "managed"


@dataclass(frozen=True, slots=True)
class Deps:
    """What nmi needs from outside: the API, Azure, and where to log and count."""

    pods: PodApi
    secrets: Secrets
    imds_tokens: ImdsTokens
    imds_documents: ImdsForward
    entra: Grants
    log: Logger
    meter: Meter
    clock: Clock
    rng: random.Random
    authorities: Authorities
    audit: Audit | None = None
    reviews: Accounts | None = None


@dataclass(frozen=True, slots=True)
class App:
    """A whole nmi that does not listen yet. ``synced`` must be set once ``cluster`` has been filled."""

    server: Server
    handler: Handler
    cluster: Cluster
    finder: PodFinder
    tokens: Tokens
    synced: asyncio.Event
    journal: Journal


class PodsOfApi:
    """Asks the API server itself about pods of ``node``."""

    def __init__(self, client: KubeClient, node: str, log: Logger) -> None:
        self._client = client
        self._node = node
        self._missing = MissingRight(log, "cannot ask for a pod that the watch does not know")

    async def by_address(self, address: str) -> Sequence[Pod]:
        """Return the node's pods with this address; the API selects by the first of ``podIPs`` only."""
        here = f"spec.nodeName={self._node}"
        first = (await self._client.list(PODS, field_selector=f"{here},status.podIP={address}")).items
        if first:
            return first
        return [
            pod for pod in (await self._client.list(PODS, field_selector=here)).items if address in pod_addresses(pod)
        ]

    async def by_name(self, namespace: str, name: str) -> Pod:
        """Return one pod."""
        with self._missing.told():
            return await self._client.get(PODS, name, namespace)


class SecretsOfApi:
    """Reads Secrets from the API server."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def read(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """Return the data of one Secret."""
        return (await self._client.get(SECRETS, name, namespace)).data


def imds_client(settings: NmiSettings) -> ImdsClient:
    """Return the client of the metadata service, for tokens and documents alike."""
    return ImdsClient(f"http://{settings.metadata_ip}:{settings.metadata_port}")


def policy_of(settings: NmiSettings) -> Policy:
    """Return the flags that decide."""
    return Policy(
        node=settings.node,
        mic_namespace=settings.mic_namespace,
        force_namespaced=settings.force_namespaced,
        managed=settings.operation_mode.lower() == MANAGED,
        created=settings.retry_attempts_for_created,
        assigned=settings.retry_attempts_for_assigned,
        interval=settings.find_identity_retry_interval,
    )


def rules_of(settings: NmiSettings, addresses: Sequence[str], is_local: Callable[[str], bool]) -> HandlerRules:
    """Return what the handler goes by; ``addresses`` are the node's own, ``is_local`` tells of all it has."""
    own = frozenset({*addresses, "127.0.0.1", "::1", UNIX})
    gate = GateRules(
        hosts=frozenset({settings.metadata_ip, "localhost", *(name.lower() for name in settings.allowed_hosts)}),
        metadata_required=settings.metadata_header_required,
        block_instance=settings.block_instance_metadata,
    )
    return HandlerRules(
        gate,
        policy_of(settings),
        own_addresses=own,
        is_local=is_local,
        retry_after=settings.set_retry_after_header,
        secrets=SecretRules(anywhere=settings.allow_cross_namespace_secrets),
        tenant_array=settings.multi_tenant_array,
    )


@dataclass(frozen=True, slots=True)
class Tokens:
    """The sources of tokens, composed: kept tokens, refusals of just now, one flight for equal requests, budgets."""

    cached: Cached
    flights: SingleFlight[FlightKey, Token]
    proofs: Proofs
    imds: FairBudget
    conditions: Conditions

    async def run(self) -> None:
        """Refresh tokens and look after the Secrets in use, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.cached.run())
            group.create_task(watch_secrets(self.proofs, lambda: self.cached.secrets, self._evict))

    def _evict(self, secret: str) -> int:
        return self.cached.evict(lambda request: request.secret == secret)


def _tokens(settings: NmiSettings, deps: Deps) -> Tokens:
    clock = deps.clock
    conditions = Conditions(clock)
    notices = Notices(deps.log, deps.meter, conditions, clock=clock)
    pace = Pace(settings.imds_rate, settings.imds_burst, clock)
    imds = FairBudget(pace, concurrent=settings.imds_concurrent, reserved=1, clock=clock)
    proofs = Proofs(deps.secrets, notices, clock=clock)
    entra = FairBudget(Pace(ENTRA_A_SECOND, ENTRA_A_SECOND, clock), concurrent=4, reserved=1, clock=clock)
    principal = Throttled(ServicePrincipal(deps.entra, proofs, deps.authorities, notices.entra), entra)
    flights: SingleFlight[FlightKey, Token] = SingleFlight()
    by_type = ByType(
        {
            TYPE_USER_ASSIGNED: Throttled(Imds(deps.imds_tokens, notices), imds),
            TYPE_SERVICE_PRINCIPAL: principal,
            TYPE_SERVICE_PRINCIPAL_CERTIFICATE: principal,
        }
    )
    cached = Cached(Briefly(OneFlight(by_type, flights), clock=clock), clock=clock, rng=deps.rng)
    return Tokens(cached, flights, proofs, imds, conditions)


def build_app(
    settings: NmiSettings,
    deps: Deps,
    *,
    addresses: Sequence[str],
    is_local: Callable[[str], bool] = lambda _: False,
    limits: Limits | None = None,
) -> App:
    """Put an nmi together; ``addresses`` are the node's own, see ``rules_of``. Must be called in a running loop."""
    clock = deps.clock
    if not settings.metadata_header_required:
        deps.log.warning(
            "--metadata-header-required=false: whoever makes a pod fetch a URL gets that pod's tokens; leave it on"
        )
    cluster = Cluster(waiters=Waiters(per_key=HELD_PER_POD, total=HELD_IN_ALL))
    interfaces = Interfaces(clock)
    finder = PodFinder(cluster.pods, deps.pods, node=settings.node, clock=clock, newest=interfaces.newest)
    auditor = Auditor(deps.audit, node=settings.node)
    journal = Journal(deps.log, deps.meter, clock=clock, auditor=auditor, pod_of=finder.known)
    tokens = _tokens(settings, deps)
    documents = Documents(
        deps.imds_documents,
        FairBudget(Pace(IMDS_DOCUMENTS_A_SECOND, 2, clock), concurrent=2, clock=clock, per_caller=8, total=64),
    )
    synced = asyncio.Event()
    callers = Callers(
        frozenset(settings.host_token_callers),
        deps.reviews,
        Cgroups(settings.cgroup_root),
        owner_of,
        cluster.pod_with_uid,
    )
    handler = Handler(
        rules_of(settings, addresses, is_local),
        cluster,
        finder,
        tokens.cached,
        documents,
        synced=synced,
        journal=journal,
        callers=callers,
        clock=clock,
    )
    server = Server(handler, journal, limits=limits, behind=interfaces.behind)
    return App(server, handler, cluster, finder, tokens, synced, journal)
