"""Watches: where they begin, what they tell, how they end."""

from __future__ import annotations

from tests.contract.objects import identity, ours
from tests.contract.servers import Server


def test_an_old_version(server: Server, fresh: str) -> None:
    """A version that is forgotten is told by an ERROR event, a Status of 410 Expired, and the watch ends."""
    server.make(ours("azureidentities", fresh), identity("a"))
    server.compact()
    with server.admin.watch(ours("azureidentities", fresh), resourceVersion="1") as watch:
        kind, status = watch.next()
        assert (watch.status, kind) == (200, "ERROR")
        assert (status["code"], status["reason"], status["status"]) == (410, "Expired", "Failure")
        assert status["message"].startswith("too old resource version: 1 (")
        assert watch.next() == ("END", {})
