"""The corpus of raw requests over real sockets: each answered as it says, and nothing reaches the metadata service."""

from __future__ import annotations

import asyncio
import json

from tests.nmi.conftest import Bench, Make, Reply, Start
from tests.nmi.corpus_reader import GOOD, Case, cases, read_answer
from tests.nmi.stand_in import StandIn

POD = "127.1.0.1"
NEXT = f"GET /the/next HTTP/1.1\r\n{GOOD}\r\n".encode()
ERROR = {"error", "error_description"}


async def test_d15_every_raw_request_is_answered_as_the_corpus_says(
    start: Start, make: type[Make], stand_in: StandIn
) -> None:
    """An entitled pod gets its own token by the plain forms only; of all others nothing is passed on."""
    bench = await start(imds=stand_in.client())
    pod = make.pod(ip=POD)
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))
    assert (await bench.token(POD)).status == 200
    corpus = list(cases())
    wrong = [complaint for case in corpus if (complaint := await trouble(bench, case))]
    assert wrong == [], "\n".join(wrong)
    assert len(corpus) >= 300
    targets = [target for target in stand_in.targets if "/oauth2/token" not in target]
    assert len(targets) == sum(case.documents for case in corpus)
    assert len(stand_in.targets) - len(targets) == 1, "a request reached the metadata service"


async def trouble(bench: Bench, case: Case) -> str:
    """Send a case; what was not as it must be, or nothing."""
    reader, writer = await bench.connect(POD)
    try:
        async with asyncio.timeout(10):
            writer.write(case.raw)
            replies = [await read_answer(reader, head=case.raw.startswith(b"HEAD")) for _ in case.statuses]
            found = complaint_of(case, replies)
            if found:
                return f"{case.where}: {found}"
            if case.closes:
                return "" if await reader.read() == b"" else f"{case.where}: more came"
            writer.write(NEXT)
            after = await read_answer(reader, head=False)
            return "" if after.status == 404 else f"{case.where}: the next request got {after.status}"
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
        return f"{case.where}: {type(error).__name__}"
    finally:
        writer.close()


def complaint_of(case: Case, replies: list[Reply]) -> str:  # noqa: PLR0911 - a list of checks
    """What is wrong with the answers."""
    if tuple(reply.status for reply in replies) != case.statuses:
        return f"{[reply.status for reply in replies]} {replies[-1].body[:120]!r}"
    for reply in replies:
        if any(name.startswith("access-control") for name in reply.headers):
            return "a CORS header"
        if reply.headers.get("connection") not in ("close", "keep-alive"):
            return "no word on the connection"
        if reply.body and not reply.headers["content-type"].startswith("application/json"):
            return reply.headers["content-type"]
    last = replies[-1]
    if not last.body:
        return "" if case.raw.startswith((b"HEAD", b"OPTIONS")) else "no body"
    body = json.loads(last.body)
    if case.documents:
        return "" if "compute" in body else "not the document"
    if last.status == 200:
        return "" if body["client_id"] == "client-of-app" else "another's token"
    return "" if set(body) == ERROR and case.words in body["error_description"] else f"said {body}"
