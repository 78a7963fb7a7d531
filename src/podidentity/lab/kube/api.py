"""The API as a request handler: authenticate, authorize, dispatch, answer. It never listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiohttp import web

from podidentity.lab.kube import absent, bootstrap, documents
from podidentity.lab.kube.admission import Admission
from podidentity.lab.kube.config import ApiConfig, throwaway_signing_key
from podidentity.lab.kube.disk import Disk
from podidentity.lab.kube.errors import StatusError, not_here
from podidentity.lab.kube.impersonation import impersonated
from podidentity.lab.kube.kinds import BUILT_IN, Catalogue, Kind
from podidentity.lab.kube.objects import encode
from podidentity.lab.kube.pod_proxy import PodProxy
from podidentity.lab.kube.proxy import KubeletProxy
from podidentity.lab.kube.rbac import Attributes, Authorizer
from podidentity.lab.kube.requests import Where, WriteOptions
from podidentity.lab.kube.resources import Resources
from podidentity.lab.kube.rest import Rest
from podidentity.lab.kube.reviews import Reviews
from podidentity.lab.kube.store import Store
from podidentity.lab.kube.streams import Streams
from podidentity.lab.kube.target import Target, parse
from podidentity.lab.kube.users import Authenticator, TokenSigner

_FIELDS: Mapping[str, Mapping[str, str]] = {kind.resource: kind.fields for kind in BUILT_IN}
_LOG = logging.getLogger(__name__)
MAX_BODY = 3 * 1024 * 1024
"""Bytes of a request's body, as on the real server."""


class Api:
    """One API server's state and its handler. Close it when the server has stopped."""

    def __init__(self, config: ApiConfig) -> None:
        self.catalogue = Catalogue()
        disk = Disk(config.data_dir / "kube.sqlite" if config.data_dir else ":memory:")
        self.store = Store(disk, lambda resource: _FIELDS.get(resource, {}), history=config.history)
        admission = Admission(self.store, service_accounts=config.service_accounts, rng=config.rng)
        self.rest = Rest(self.store, self.catalogue, admission, now=config.now, rng=config.rng)
        signer = TokenSigner(config.sa_key or throwaway_signing_key(), config.now)
        self._authenticator = Authenticator(self.store, signer, config.tokens)
        self._authorizer = Authorizer(self.store)
        self.kubelets = KubeletProxy(self.store, config.kubelets)
        self.pods = PodProxy()
        self.streams = Streams(
            self.store, bookmark_interval=config.bookmark_interval, timeout=config.watch_timeout, now=config.now
        )
        self._resources = Resources(
            store=self.store,
            rest=self.rest,
            reviews=Reviews(self.store, self._authenticator, self._authorizer, signer),
            authorizer=self._authorizer,
            kubelets=self.kubelets,
            pods=self.pods,
            streams=self.streams,
            now=config.now,
        )
        self._bootstrap()

    def _bootstrap(self) -> None:
        for group, plural, namespace, obj in bootstrap.objects():
            kind = self.catalogue.find(group, "v1", plural)
            assert kind is not None
            if self.store.get(kind.resource, namespace, obj["metadata"]["name"]) is None:
                self.rest.create(Where(kind, namespace), obj, WriteOptions())

    def close(self) -> None:
        """Close the files."""
        self.store.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every failure is a Status."""
        try:
            return await self._answer(request)
        except StatusError as error:
            return _failure(error)
        except web.HTTPRequestEntityTooLarge:
            return _failure(StatusError(413, f"Request entity too large: limit is {MAX_BODY}"))
        except asyncio.CancelledError:
            raise
        except ConnectionError:
            return web.Response()  # the client has gone: nobody reads it
        except Exception as error:  # noqa: BLE001 - a request's defect must not end the cluster; it is logged and told
            _LOG.exception("%s %s failed", request.method, request.path_qs)
            if request.writer.output_size and request.transport:
                request.transport.close()  # an answer has begun: it can only be broken off
            return _failure(StatusError(500, f"Internal error occurred: {error}"))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        tls = transport.get_extra_info("ssl_object") if transport and certificate else None
        der = tls.getpeercert(binary_form=True) if tls else b""
        user = self._authenticator.who(certificate, der, request.headers.get("Authorization", ""))
        user = impersonated(user, request.headers, self._authorizer)
        query = request.query
        target = parse(request.method, request.path, query)
        if target is None:
            verb = "get" if request.method == "HEAD" else request.method.lower()
            self._authorizer.demand(user, Attributes(verb, path=request.path))
            return documents.answer(request, self.catalogue)
        self._authorizer.demand(user, target.attributes(query))
        kind = self.catalogue.find(target.group, target.version, target.plural)
        if kind is None:
            if error := absent.refusal(target.group, target.plural):
                raise error
            return web.Response(text="404 page not found\n", status=404)
        _check_shape(kind, target)
        return await self._resources.answer(request, user, kind, target)


def _failure(error: StatusError) -> web.Response:
    body = encode(error.status())
    return web.Response(body=body, status=error.code, content_type=documents.JSON, headers=error.headers)


def _check_shape(kind: Kind, target: Target) -> None:
    """Refuse paths that fit no object of the kind."""
    if kind.namespaced and target.name and not target.namespace:
        raise _no_such_path()
    if target.subresource and target.subresource not in kind.subresources:
        part = target.subresource.partition("/")[0]
        if part in absent.SUBRESOURCES.get(kind.resource, ()):
            raise not_here(f"{kind.plural}/{part}")
        raise _no_such_path()


def _no_such_path() -> StatusError:
    return StatusError(404, "the server could not find the requested resource", details={})
