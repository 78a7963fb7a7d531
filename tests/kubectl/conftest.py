"""The two clusters, started once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from tests.kubectl.clusters import Cluster, Pair, Step, embedded_cluster
from tests.real_server import RealServer


@pytest.fixture(scope="session")
def pair(real_server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The embedded API server and the real control plane, each with its kubectl."""
    server = real_server
    real = Cluster(
        "real", server.programs, server.url, server.folder / "pki", server.kubeconfig, server.folder / "kubecache"
    )
    with embedded_cluster(tmp_path_factory.mktemp("embedded"), server.programs) as embedded:
        found = Pair(real, embedded)
        try:
            yield found
        finally:
            found.close()


@pytest.fixture
def play(pair: Pair, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Type commands at both clusters, in a namespace of the test's own: the answers must be alike."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_").replace("_", "-")).strip("-")[:50]
    with pair.namespace(name) as namespace:

        def run(*story: Step) -> None:
            complaints = pair.differences(namespace, story)
            assert not complaints, "\n\n".join(["", *complaints])

        yield run
