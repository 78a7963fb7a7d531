"""Backoff."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from podidentity.aio.backoff import Backoff


def test_delays_grow_to_the_maximum() -> None:
    """Without jitter the delays double until the maximum."""
    backoff = Backoff(initial=1, factor=2, maximum=5, jitter=0)
    assert [backoff.delay(attempt, random.Random(1)) for attempt in range(4)] == [1, 2, 4, 5]


@given(attempt=st.integers(0, 10**6), seed=st.integers())
def test_delays_stay_in_their_band(attempt: int, seed: int) -> None:
    """No attempt number, however large, leaves the band of jitter below the maximum, or overflows."""
    backoff = Backoff()
    delay = backoff.delay(attempt, random.Random(seed))
    assert 0.8 * min(30.0, 0.5 * 2.0 ** min(attempt, 10)) <= delay <= 30.0
