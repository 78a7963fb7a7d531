"""pods/proxy: what is refused before a pod is asked. What a pod answers is tested where there are pods (lab/node)."""

from __future__ import annotations

import pytest
from tests.contract.objects import path, pod
from tests.contract.servers import Server


def test_a_pod_without_an_address(server: Server, space: str, name: str) -> None:
    """Nothing is asked of a pod that has none yet."""
    where = path("pods", space)
    server.make(where, pod(name))
    for form in (name, f"{name}:8080", f"http:{name}:8080", f"https:{name}:8080"):
        answer = server.admin.get(f"{where}/{form}/proxy/status")
        assert (answer.status, answer.message) == (400, "address not allowed"), form


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
def test_an_address_that_no_pod_has(server: Server, space: str, name: str, address: str) -> None:
    """The API server is not led to itself or to the metadata endpoint by what a status says."""
    where = path("pods", space)
    server.make(where, pod(name))
    server.admin.patch(f"{where}/{name}/status", {"status": {"podIP": address, "podIPs": [{"ip": address}]}})
    answer = server.admin.get(f"{where}/{name}:8080/proxy/status")
    assert (answer.status, answer.message) == (400, "address not allowed")


def test_a_name_of_no_pod(server: Server, space: str, name: str) -> None:
    """The name before the port is the pod's."""
    answer = server.admin.get(f"{path('pods', space)}/{name}:8080/proxy/")
    assert (answer.status, answer.message) == (404, f'pods "{name}" not found')


@pytest.mark.parametrize("form", ["a:b:c:d", "ftp:a:80", ":80"])
def test_a_form_that_is_none(server: Server, space: str, form: str) -> None:
    """Scheme, name and port, in this order."""
    answer = server.admin.get(f"{path('pods', space)}/{form}/proxy/")
    assert (answer.status, answer.message) == (400, f'invalid pod request "{form}"')


def test_the_right_to_it(server: Server, space: str) -> None:
    """It is `pods/proxy`, whatever is behind it."""
    client = server.client(user="pod-proxy")
    answer = client.get(f"{path('pods', space)}/p:8080/proxy/a/b")
    assert answer.status == 403
    assert 'cannot get resource "pods/proxy" in API group ""' in answer.message
