"""Words of libraries' errors."""

from __future__ import annotations

import ssl

import aiohttp
import pytest

from podidentity.aio.wording import connection_error


@pytest.mark.parametrize("context", [ssl.create_default_context(), True, False])
async def test_a_refused_connection_names_host_and_reason_alone(context: ssl.SSLContext | bool) -> None:
    """Nobody who reads a log is helped by the address of an SSLContext in memory."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError) as raised:
            await session.get("https://127.0.0.1:1/", ssl=context)
    text = connection_error(raised.value)
    assert text == "Cannot connect to host 127.0.0.1:1 [Connect call failed ('127.0.0.1', 1)]"


def test_an_error_without_words_is_its_type() -> None:
    """An empty reason behind a colon would say nothing."""
    assert connection_error(aiohttp.ServerDisconnectedError("")) == "ServerDisconnectedError"
    assert connection_error(OSError("a\nb")) == "a b"
