"""From a parsed request to an answer, in the order the design sets.

``at_once`` answers whatever needs no waiting (every refusal that rests on the request alone, every cached token);
``answer`` does the rest. Authorisation is evaluated on each request in both, only the token behind it is cached.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import msgspec

from podidentity.aio.clock import Clock
from podidentity.api.core import Pod
from podidentity.api.identity import AzureIdentity
from podidentity.nmi import verdict
from podidentity.nmi.answer import Answer, error
from podidentity.nmi.authorize import Decision, PassThrough, Policy, Serve, Wait, decide, passes_through
from podidentity.nmi.authorize import waited_in_vain as in_vain
from podidentity.nmi.callers import CallerRefused, Callers
from podidentity.nmi.cluster import Cluster
from podidentity.nmi.documents import Documents
from podidentity.nmi.gate import GateRules, Target, admit, understand
from podidentity.nmi.grants import (
    NO_OTHER_NAMESPACE,
    SecretRules,
    auxiliary_tenants,
    object_id_of,
    request_for,
    request_of_node,
)
from podidentity.nmi.journal import Journal
from podidentity.nmi.paths import Kind
from podidentity.nmi.pods import PodFinder, PodUnknown, pod_addresses
from podidentity.nmi.request import Request, TokenQuery
from podidentity.nmi.tokens.cached import Cached
from podidentity.nmi.tokens.source import HostTokenBody, Token, TokenRefused, TokenRequest
from podidentity.nmi.waiters import TooManyWaiting

SYNC_PATIENCE_SECONDS = 5.0
RETRY_AFTER_NO_IDENTITY_SECONDS = 20
_NODE: Final = error(403, "the node itself gets no token here: ask the metadata endpoint", code="access_denied")
_OTHER_POD: Final = error(503, "the address of this connection belongs to another pod now", retry_after=1, close=True)


@dataclass(frozen=True, slots=True)
class HandlerRules:
    """``own_addresses`` are the node's: no pod has them; ``is_local`` tells of the rest, when no pod is known.

    ``retry_after`` makes "no identity" a 503 instead of 404. ``tenant_array``: an identity with auxiliary tenants is
    answered with an array of tokens.
    """

    gate: GateRules
    policy: Policy
    own_addresses: frozenset[str] = frozenset()
    is_local: Callable[[str], bool] = lambda _: False
    retry_after: bool = False
    secrets: SecretRules = NO_OTHER_NAMESPACE
    tenant_array: bool = False


class Handler:
    """Answers requests; knows nothing of sockets. ``synced`` is set once the watches have told what there is."""

    def __init__(
        self,
        rules: HandlerRules,
        cluster: Cluster,
        finder: PodFinder,
        tokens: Cached,
        documents: Documents,
        *,
        synced: asyncio.Event,
        journal: Journal,
        callers: Callers,
        clock: Clock,
    ) -> None:
        self._rules = rules
        self._cluster = cluster
        self._finder = finder
        self._tokens = tokens
        self._documents = documents
        self._synced = synced
        self._journal = journal
        self._callers = callers
        self._clock = clock
        self._granted = verdict.BINDING if rules.policy.managed else verdict.ASSIGNED

    def owner(self, peer: str, interface: int) -> str:
        """Return the UID of the pod that has this address, empty when that is not known, or in doubt, at once."""
        pod = self._finder.known(peer)
        return "" if pod is None or self._finder.doubts(pod, interface) else pod.metadata.uid

    def at_once(self, request: Request) -> Answer | None:
        """Return the answer if it needs no waiting, else None."""
        target = understand(request.target)
        request.route = target.route.path
        refusal = admit(request, target, self._rules.gate)
        if refusal is not None:
            request.rule = verdict.rule_of_refusal(refusal, target)
            return refusal
        if target.route.kind is not Kind.TOKEN or not self._synced.is_set():
            return None
        return self._known(request, target.query)

    def _known(self, request: Request, query: TokenQuery) -> Answer | None:
        """Answer a pod that is known from the cache, or the node itself."""
        request.resource = query.resource
        own = request.peer in self._rules.own_addresses
        pod = None if own else self._finder.known(request.peer)
        if pod is None:
            if not (own or self._rules.is_local(request.peer)):
                return None
            request.rule = verdict.NODE_ADDRESS
            return _NODE
        if self._finder.doubts(pod, request.pin.unproven):
            return None
        if not request.pin.holds(pod.metadata.uid):
            request.rule = verdict.OTHER_POD
            return _OTHER_POD
        request.pod = pod.key
        request.caller = pod
        return self._from_cache(pod, query, request)

    async def answer(self, request: Request) -> Answer:
        """Answer a request that ``at_once`` could not."""
        target = understand(request.target)
        try:
            if target.route.kind in (Kind.TOKEN, Kind.HOST_TOKEN):
                return await self._token(request, target)
            request.rule = verdict.DOCUMENT
            return await self._documents.answer(request, target.route)
        except PodUnknown as unknown:
            request.rule = verdict.POD_NOT_YET if unknown.passing else verdict.POD_UNKNOWN
            if unknown.passing:
                return error(503, str(unknown), retry_after=1)
            return error(404, str(unknown), code="invalid_request")
        except TooManyWaiting:
            request.rule = verdict.TOO_MANY_WAITING
            return error(503, "too many requests are waiting", retry_after=1)
        except TokenRefused as refused:
            request.rule = verdict.THROTTLED if refused.status == HTTPStatus.TOO_MANY_REQUESTS else verdict.NO_TOKEN
            self._journal.refused(request.pod, request.resource, refused.status, refused.description)
            return _answer_of(refused)

    def _from_cache(self, pod: Pod, query: TokenQuery, request: Request) -> Answer | None:
        if query.named.object_id:
            return None
        decision = self._decide(pod, query)
        if isinstance(decision, Serve):
            identity = decision.identities[0]
            if self._rules.tenant_array and identity.spec.auxiliary_tenant_ids:
                return None
            try:
                wanted = self._asked(identity, query, pod)
            except TokenRefused:
                return None
            request.identity = identity
            request.rule = self._granted
        elif isinstance(decision, PassThrough):
            wanted = request_of_node(query.named, query.resource, pod.key, bypass=query.bypass)
            request.rule = verdict.rule_of_passing(decision.why)
        else:
            return None
        token = self._tokens.peek(wanted)
        return token.answer(self._clock.wall()) if token is not None else None

    def _decide(self, pod: Pod, query: TokenQuery, *, host: bool = False) -> Decision:
        policy = self._rules.policy
        if not host:
            passing = passes_through(pod, self._cluster.exceptions_for(pod), policy)
            if passing is not None:
                return passing
        return decide(pod, self._cluster.candidates_for(pod, policy), query.named, policy)

    async def _token(self, request: Request, target: Target) -> Answer:
        await self._until_synced()
        host = target.route.kind is Kind.HOST_TOKEN
        query = target.query
        request.resource = query.resource
        pod = await (self._named(request) if host else self._calling(request))
        if isinstance(pod, Answer):
            return pod
        request.pod = pod.key
        request.caller = pod
        decision = await self._settled(pod, query, request, host=host)
        if isinstance(decision, PassThrough):
            request.rule = verdict.rule_of_passing(decision.why)
            self._journal.passed(pod, decision.why)
            token = await self._tokens.token(request_of_node(query.named, query.resource, pod.key, bypass=query.bypass))
            return token.answer(self._clock.wall())
        if isinstance(decision, Serve):
            return await self._serve(pod, query, decision, request, host=host)
        if isinstance(decision, Wait):
            request.rule = verdict.NOT_IN_TIME
            reason = in_vain(pod, query.named, decision, self._rules.policy)
        else:
            request.rule = verdict.NO_IDENTITY
            reason = decision.reason
        self._journal.no_identity(pod, reason)
        if self._rules.retry_after and not host:
            return error(503, reason, code="invalid_request", retry_after=RETRY_AFTER_NO_IDENTITY_SECONDS)
        return error(404, reason)

    async def _calling(self, request: Request) -> Pod | Answer:
        """Return the pod at the other end, or a refusal."""
        if request.peer in self._rules.own_addresses:
            request.rule = verdict.NODE_ADDRESS
            return _NODE
        pod = await self._finder.find(request.peer, request.pin.unproven)
        if not request.pin.holds(pod.metadata.uid):
            request.rule = verdict.OTHER_POD
            return _OTHER_POD
        return pod

    async def _named(self, request: Request) -> Pod | Answer:
        """Note who asks for another's token, and return that pod; or the refusal of a caller who may not."""
        try:
            request.proof = await self._callers.proof(request)
        except CallerRefused as refused:
            request.rule = verdict.CALLER
            if refused.passing:
                return error(503, str(refused), retry_after=1)
            return error(403, str(refused), code="access_denied")
        return await self._finder.named(request.headers.pod_namespace or "", request.headers.pod_name or "")

    async def _until_synced(self) -> None:
        if not self._synced.is_set():
            try:
                async with asyncio.timeout(SYNC_PATIENCE_SECONDS):
                    await self._synced.wait()
            except TimeoutError as late:
                raise PodUnknown("the cluster's objects are not known yet", passing=True) from late

    async def _settled(self, pod: Pod, query: TokenQuery, request: Request, *, host: bool) -> Decision:
        """Return the decision; one that says to wait is held until something it rests on changes, or time is up."""
        decision = self._decide(pod, query, host=host)
        if not isinstance(decision, Wait) or decision.attempts <= 0:
            return decision
        start = asyncio.get_running_loop().time()
        interval = self._rules.policy.interval
        watched = self._cluster.pods.get(pod.key) is not None
        with self._cluster.waiters.hold(pod.key) as news:
            while isinstance(decision, Wait):
                if not await news.wait_until(start + decision.attempts * interval):
                    return decision
                if watched or self._cluster.pods.get(pod.key) is not None:
                    pod = self._still_there(pod, "" if host else request.peer)
                decision = self._decide(pod, query, host=host)
        return decision

    def _still_there(self, pod: Pod, address: str) -> Pod:
        """Return the pod as it is now; raises PodUnknown when it has gone, or has lost the address, meanwhile."""
        current = self._cluster.pods.get(pod.key)
        if current is None or current.metadata.uid != pod.metadata.uid:
            raise PodUnknown(f"pod {pod.key} is gone", passing=False)
        if address and address not in pod_addresses(current):
            raise PodUnknown(f"pod {pod.key} no longer has the address {address}", passing=False)
        return current

    async def _serve(self, pod: Pod, query: TokenQuery, decision: Serve, request: Request, *, host: bool) -> Answer:
        request.identity = None if query.named.object_id else decision.identities[0]
        request.rule = self._granted
        identity, token = await self._pick(pod, query, decision, request, host=host)
        request.identity = identity
        self._journal.matched(pod, query.named, identity, query.resource, several=len(decision.identities) > 1)
        tenants = auxiliary_tenants(identity)
        now = self._clock.wall()
        if host:
            return Answer(200, msgspec.json.encode(HostTokenBody(token.body(int(now)), identity.spec.client_id)))
        if not (tenants and self._rules.tenant_array):
            return token.answer(now)
        asked = self._asked(identity, query, pod)
        others = [await self._tokens.token(replace(asked, tenant_id=tenant)) for tenant in tenants]
        return Answer(200, msgspec.json.encode([one.body(int(now)) for one in (token, *others)]))

    async def _pick(
        self, pod: Pod, query: TokenQuery, decision: Serve, request: Request, *, host: bool
    ) -> tuple[AzureIdentity, Token]:
        """Get the token; an object id may be that of an identity still on its way to the host, which is waited for."""
        if not query.named.object_id:
            identity = decision.identities[0]
            return identity, await self._tokens.token(self._asked(identity, query, pod))
        found = await self._among(pod, query, decision)
        if found is None and decision.pending:
            found = await self._among_later(pod, query, request, host=host)
        if found is None:
            raise TokenRefused(400, "Identity not found", code="invalid_request")
        return found

    async def _among(self, pod: Pod, query: TokenQuery, decision: Serve) -> tuple[AzureIdentity, Token] | None:
        """Compare the object id, which tokens alone tell, with those of the pod's own identities."""
        wanted = query.named.object_id.casefold()
        for identity in decision.identities:
            token = await self._tokens.token(self._asked(identity, query, pod))
            if object_id_of(token.access_token) == wanted:
                return identity, token
        return None

    async def _among_later(
        self, pod: Pod, query: TokenQuery, request: Request, *, host: bool
    ) -> tuple[AzureIdentity, Token] | None:
        """Look again whenever one more of the pod's identities is on the host, as long as an early request waits."""
        policy = self._rules.policy
        end = asyncio.get_running_loop().time() + (policy.created + policy.assigned) * policy.interval
        with self._cluster.waiters.hold(pod.key) as news:
            while True:
                decision = self._decide(pod, query, host=host)
                if not isinstance(decision, Serve):
                    return None
                found = await self._among(pod, query, decision)
                if found is not None or not decision.pending or not await news.wait_until(end):
                    return found
                pod = self._still_there(pod, "" if host else request.peer)

    def _asked(self, identity: AzureIdentity, query: TokenQuery, pod: Pod) -> TokenRequest:
        return request_for(identity, query.resource, pod.key, self._rules.secrets, bypass=query.bypass)


def _answer_of(refused: TokenRefused) -> Answer:
    after = None if refused.retry_after is None else max(1, math.ceil(refused.retry_after))
    return error(refused.status, refused.description, code=refused.code, retry_after=after)
