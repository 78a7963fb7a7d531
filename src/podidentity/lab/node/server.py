"""The kubelet's own HTTPS server: logs and exec for the API server, which shows a certificate of the cluster's CA."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import MultiMapping

from podidentity.aio.clock import Clock
from podidentity.lab.node.execs import PROTOCOL, ExecRequest, serve_exec
from podidentity.lab.node.logs import LogFile, LogQuery, seconds
from podidentity.lab.node.pod import PodWorker
from podidentity.lab.node.status import Running, Waiting
from podidentity.lab.node.supervisor import Supervisor

Refuse = Callable[[HTTPStatus, str], web.Response]
FindPod = Callable[[str, str], PodWorker | None]
_REASONS: Final = {400: "BadRequest", 404: "NotFound", 501: "NotImplemented"}


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Paths of the server's certificate, its key and the CA of its callers."""

    cert: str
    key: str
    ca: str


def failure(code: HTTPStatus, message: str) -> web.Response:
    """A Status object."""
    body: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code.value, ""),
        "code": code.value,
    }
    return web.json_response(body, status=code.value)


def plain(code: HTTPStatus, message: str) -> web.Response:
    """A line of text: API servers put what a kubelet answers about a log into a Status of their own."""
    return web.Response(text=message, status=code.value)


def _yes(query: MultiMapping[str], *names: str) -> bool:
    return any(query.get(name, "").lower() in {"1", "true", "t"} for name in names)


def log_query(query: MultiMapping[str], now: float) -> LogQuery:
    """What a request's query asks of a log; ``now`` in seconds since the epoch. Raises ValueError. Pure."""

    def number(name: str) -> int | None:
        text = query.get(name, "")
        if not text:
            return None
        if int(text) < 0:
            raise ValueError(f"{name} must not be negative")
        return int(text)

    ago, at = number("sinceSeconds"), query.get("sinceTime", "")
    since = now - ago if ago is not None else seconds(at) if at else None
    return LogQuery(
        tail=number("tailLines"),
        since=since,
        limit_bytes=number("limitBytes"),
        timestamps=_yes(query, "timestamps"),
        follow=_yes(query, "follow"),
    )


class KubeletServer:
    """Serves the pods that ``find(namespace, name)`` knows."""

    def __init__(self, find: FindPod, clock: Clock) -> None:
        self._find = find
        self._clock = clock

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for path in ("/exec/{namespace}/{pod}/{container}", "/exec/{namespace}/{pod}/{uid}/{container}"):
            app.router.add_get(path, self._exec)
            app.router.add_post(path, self._exec)
        for verb in ("attach", "portForward"):
            app.router.add_route("*", f"/{verb}/{{rest:.*}}", self._unsupported)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _unsupported(self, request: web.Request) -> web.Response:
        verb = request.path.split("/")[1]
        return failure(HTTPStatus.NOT_IMPLEMENTED, f"the lab's kubelet has no {verb}; it has logs and exec")

    def _container(self, request: web.Request, refuse: Refuse = failure) -> tuple[PodWorker, Supervisor] | web.Response:
        names = request.match_info
        worker = self._find(names["namespace"], names["pod"])
        if worker is None or names.get("uid", worker.pod.uid) != worker.pod.uid:
            return refuse(HTTPStatus.NOT_FOUND, f'pod "{names["pod"]}" is not on this node')
        supervisor = worker.supervisor(names["container"])
        if supervisor is None:
            text = f"container {names['container']} is not valid for pod {names['pod']}"
            return refuse(HTTPStatus.BAD_REQUEST, text)
        return worker, supervisor

    def _log_file(self, request: web.Request, worker: PodWorker, supervisor: Supervisor) -> LogFile | web.Response:
        name, pod = supervisor.spec.name, worker.pod.name
        record = worker.record(name)
        if _yes(request.query, "previous"):
            begun = isinstance(record.state, Running)
            before = supervisor.logs[:-1] if begun else supervisor.logs
            if not before:
                text = f'previous terminated container "{name}" in pod "{pod}" not found'
                return plain(HTTPStatus.BAD_REQUEST, text)
            return before[-1]
        if not supervisor.logs:
            reason = record.state.reason if isinstance(record.state, Waiting) else "ContainerCreating"
            text = f'container "{name}" in pod "{pod}" is waiting to start: {reason}'
            return plain(HTTPStatus.BAD_REQUEST, text)
        return supervisor.logs[-1]

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        found = self._container(request, plain)
        if isinstance(found, web.Response):
            return found
        try:
            query = log_query(request.query, self._clock.wall())
        except ValueError as error:
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        log = self._log_file(request, *found)
        if isinstance(log, web.Response):
            return log
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with suppress(ConnectionError):
            async for chunk in log.read(query):
                await response.write(chunk)
            await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        found = self._container(request)
        if isinstance(found, web.Response):
            return found
        _worker, supervisor = found
        if supervisor.instance is None:
            return failure(HTTPStatus.NOT_FOUND, f'container "{supervisor.spec.name}" is not running')
        command = request.query.getall("command", [])
        if not command:
            return failure(HTTPStatus.BAD_REQUEST, "you must specify at least 1 command for the container")
        offered = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if PROTOCOL not in offered:
            return failure(HTTPStatus.UPGRADE_REQUIRED, f"the lab's kubelet speaks {PROTOCOL} over a websocket only")
        query = request.query
        wanted = ExecRequest(
            stdin=_yes(query, "stdin", "input"),
            stdout=_yes(query, "stdout", "output"),
            stderr=_yes(query, "stderr", "error"),
            tty=_yes(query, "tty"),
        )
        job = supervisor.instance.job(command)
        if wanted.tty:
            job = replace(job, program=replace(job.program, env={"TERM": "xterm", **job.program.env}))
        return await serve_exec(request, job, wanted)


@asynccontextmanager
async def serving(server: KubeletServer, host: str, port: int, files: ServerFiles) -> AsyncIterator[int]:
    """Serve on ``host:port`` (0: any) while the context lasts; gives the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=context)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
