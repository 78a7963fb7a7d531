"""Each test of this folder runs against the embedded API server and against the real one."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.contract.objects import CRDS, path, shipped
from tests.contract.servers import Server, contract_server, embedded_server

SERVERS = ("embedded", "real")
_NUMBERS = itertools.count(1)
_PARAMETER = re.compile(r"tests/contract/.*\[(embedded|real)\b")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests each of the servers passed."""
    passed: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call" and (found := _PARAMETER.search(report.nodeid)):
            passed[found[1]] += 1
    if passed:
        counts = ", ".join(f"{label} {passed[label]} passed" for label in SERVERS)
        terminalreporter.write_line(f"contract: {counts}")


@pytest.fixture(scope="package", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of the servers, with our CRDs; those it had not before are taken away at the end."""
    if request.param == "real":
        opened = contract_server(request.getfixturevalue("real_server"))
    else:
        opened = embedded_server(tmp_path_factory.mktemp("contract"))
    with opened as found:
        made = _install(found)
        yield found
        found.admin.close()
        for name in made:
            found.admin.delete(f"{CRDS}/{name}")
        for name in made:
            found.until(f"{CRDS}/{name}", lambda answer: answer.status == 404)


def _install(server: Server) -> list[str]:
    made = [
        crd["metadata"]["name"]
        for crd in shipped("CustomResourceDefinition")
        if server.admin.post(CRDS, crd).status == 201
    ]
    for name in made:
        plural, _, group = name.partition(".")
        server.until(f"/apis/{group}/v1/{plural}", lambda answer: answer.status == 200)
    return made


def _namespace(server: Server, name: str) -> Iterator[str]:
    assert server.admin.post(path("namespaces"), {"metadata": {"name": name}}).status == 201
    account = {"metadata": {"name": "default"}}
    assert server.admin.post(path("serviceaccounts", name), account).status in {201, 409}
    yield name
    server.admin.delete(path("namespaces", name=name))


@pytest.fixture(scope="module")
def space(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for the tests of one file: each names its objects after itself."""
    yield from _namespace(server, request.module.__name__.rpartition(".")[2].replace("_", "-"))


@pytest.fixture
def fresh(server: Server, name: str) -> Iterator[str]:
    """A namespace for one test: what it lists there is its own."""
    yield from _namespace(server, name)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    text = request.node.originalname.removeprefix("test_").replace("_", "-")
    return f"{text[:40].strip('-')}-{next(_NUMBERS)}"
