"""Lists: their order, their pages and selectors, and the version they show."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.contract.objects import config_map, identity, ours, path, pod
from tests.contract.servers import Answer, Server

FIVE = ("a", "b", "c", "d", "e")


def five(server: Server, namespace: str) -> str:
    """Five identities with labels; the path of their list."""
    where = ours("azureidentities", namespace)
    for number, name in enumerate(FIVE):
        labels = {"parity": "odd" if number % 2 else "even", "number": str(number)}
        server.make(where, {**identity(name), "metadata": {"name": name, "labels": labels}})
    return where


def token(page: Answer) -> str:
    """The continue token of a page; empty behind the last one."""
    return str(page.body["metadata"].get("continue", ""))


def test_a_whole_list(server: Server, fresh: str) -> None:
    """Sorted by name; items of our kinds say what they are, those of built-in kinds do not."""
    answer = server.admin.get(five(server, fresh))
    assert (answer.body["kind"], answer.names) == ("AzureIdentityList", list(FIVE))
    assert {item["kind"] for item in answer.body["items"]} == {"AzureIdentity"}
    assert not token(answer)
    server.make(path("secrets", fresh), {"metadata": {"name": "s"}})
    secrets = server.admin.get(path("secrets", fresh)).body
    assert (secrets["kind"], sorted(secrets["items"][0])) == ("SecretList", ["metadata", "type"])


def test_all_namespaces(server: Server, fresh: str, space: str) -> None:
    """A list of every namespace is sorted by namespace, then by name."""
    for namespace in (space, fresh):
        server.make(path("configmaps", namespace), config_map("everywhere"))
    answer = server.admin.get(path("configmaps"), fieldSelector="metadata.name=everywhere")
    found = [item["metadata"]["namespace"] for item in answer.body["items"]]
    assert found == sorted([space, fresh])


def test_nothing(server: Server, space: str) -> None:
    """An empty list is a list, of a namespace that does not exist, too."""
    answer = server.admin.get(ours("azureidentitybindings", "nowhere"))
    assert (answer.status, answer.body["items"], bool(answer.version)) == (200, [], True)
    assert server.admin.get(ours("azurepodidentityexceptions", space)).body["items"] == []


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages(server: Server, fresh: str, limit: int) -> None:
    """Page after page, each object once, all pages of one version; what is left is counted."""
    where = five(server, fresh)
    page = server.admin.get(where, limit=str(limit))
    names, version = page.names, page.version
    while following := token(page):
        assert page.body["metadata"]["remainingItemCount"] == len(FIVE) - len(names)
        page = server.admin.get(where, limit=str(limit), **{"continue": following})
        assert page.version == version
        names += page.names
    assert names == list(FIVE)
    assert "remainingItemCount" not in page.body["metadata"]


def test_pages_of_a_selection(server: Server, fresh: str) -> None:
    """With a selector a page holds as many as match, and nobody counts the rest."""
    where = five(server, fresh)
    page = server.admin.get(where, limit="2", labelSelector="parity=even")
    assert (page.names, "remainingItemCount" in page.body["metadata"]) == (["a", "c"], False)
    page = server.admin.get(where, limit="2", labelSelector="parity=even", **{"continue": token(page)})
    assert (page.names, token(page)) == (["e"], "")


def test_pages_are_consistent(server: Server, fresh: str) -> None:
    """What changes between two pages is not seen: the later ones show the objects as the first one did."""
    where = five(server, fresh)
    first = server.admin.get(where, limit="2")
    server.admin.delete(f"{where}/d")
    server.admin.patch(f"{where}/c", {"spec": {"clientID": "changed"}})
    server.make(where, identity("cc"))
    second = server.admin.get(where, limit="9", **{"continue": token(first)})
    assert (second.names, second.version) == (["c", "d", "e"], first.version)
    assert second.body["items"][0]["spec"]["clientID"] == "c"
    assert server.admin.get(where).names == ["a", "b", "c", "cc", "e"]


def test_an_exact_version(server: Server, fresh: str) -> None:
    """A version that is remembered can be listed as it was."""
    where = five(server, fresh)
    version = server.admin.get(where).version
    server.admin.delete(f"{where}/d")
    answer = server.admin.get(where, resourceVersion=version, resourceVersionMatch="Exact")
    assert (answer.names, answer.version) == (list(FIVE), version)
    newer = server.admin.get(where, resourceVersion=version, resourceVersionMatch="NotOlderThan")
    assert newer.names == ["a", "b", "c", "e"]


@pytest.mark.parametrize("query", [{"resourceVersionMatch": "Exact"}, {"limit": "2"}])
def test_a_forgotten_version(server: Server, fresh: str, query: dict[str, str]) -> None:
    """A version nobody remembers is 410 Expired; one not older than it is what there is now."""
    where = five(server, fresh)
    server.compact()
    answer = server.admin.get(where, resourceVersion="2", **query)
    assert (answer.status, answer.reason) == (410, "Expired")
    assert answer.message == "The resourceVersion for the provided list is too old."
    assert server.admin.get(where, resourceVersion="2").names == list(FIVE)


def test_an_expired_token(server: Server, fresh: str) -> None:
    """410 for a token of a forgotten version; the answer's own token goes on with what there is now."""
    where = five(server, fresh)
    text = token(server.admin.get(where, limit="2"))
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    server.compact()
    old = base64.urlsafe_b64encode(json.dumps({**found, "rv": 2}).encode()).decode().rstrip("=")
    answer = server.admin.get(where, limit="2", **{"continue": old})
    assert (answer.status, answer.reason) == (410, "Expired")
    assert answer.message.startswith("The provided continue parameter is too old to display a consistent list result.")
    server.admin.delete(f"{where}/c")
    rest = server.admin.get(where, limit="9", **{"continue": token(answer)})
    assert rest.names == ["d", "e"]


@pytest.mark.parametrize("version", ["0", "1"])
def test_any_version(server: Server, fresh: str, version: str) -> None:
    """Version 0 takes no limit and comes from a cache, which may lag; any later one is a lower bound."""
    where = five(server, fresh)
    limit = {"limit": "2"} if version == "0" else {}
    server.until(where, lambda answer: answer.names == list(FIVE), resourceVersion=version, **limit)
    assert server.admin.get(f"{where}/a", resourceVersion=version).name == "a"


def test_a_version_to_come(server: Server, fresh: str) -> None:
    """504 Timeout with the cause that clients look for."""
    answer = server.admin.get(ours("azureidentities", fresh), resourceVersion="99999999")
    assert (answer.status, answer.reason) == (504, "Timeout")
    assert answer.message.startswith("Timeout: Too large resource version: 99999999, current: ")
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"limit": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"continue": "x"}, 400, "invalid continue token: continue key is not valid"),
        ({"resourceVersion": "x"}, 400, 'invalid resource version: resourceVersion: Invalid value: "x": strconv'),
        (
            {"resourceVersionMatch": "Exact"},
            422,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            422,
            '"exact" is forbidden for resourceVersion "0"',
        ),
        (
            {"resourceVersionMatch": "Some", "resourceVersion": "1"},
            422,
            'resourceVersionMatch: Unsupported value: "Some"',
        ),
        ({"sendInitialEvents": "true"}, 422, "sendInitialEvents is forbidden for list"),
    ],
)
def test_queries_that_are_refused(server: Server, space: str, query: dict[str, str], status: int, message: str) -> None:
    """A query that makes no sense is told so, never answered by halves."""
    answer = server.admin.get(ours("azureidentities", space), **query)
    assert (answer.status, message in answer.message) == (status, True), answer.message


def test_a_token_and_a_version(server: Server, fresh: str) -> None:
    """A page goes on at its own version, no other can be asked for."""
    where = five(server, fresh)
    page = server.admin.get(where, limit="2")
    answer = server.admin.get(where, resourceVersion=page.version, **{"continue": token(page)})
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert answer.message == "specifying resource version is not allowed when using continue"


LABELS = {
    "parity=odd": "bd",
    "parity==odd": "bd",
    "parity = odd": "bd",
    "parity!=odd": "ace",
    "parity in (odd,even)": "abcde",
    "parity in ( odd , other )": "bd",
    "parity notin (odd)": "ace",
    "parity in ()": "",
    "parity": "abcde",
    "!parity": "",
    "none": "",
    "!none": "abcde",
    "none!=x": "abcde",
    "none notin (x)": "abcde",
    "parity=": "",
    "number>2": "de",
    "number<2": "ab",
    "number>0,number<3": "bc",
    "parity=odd,number=1": "b",
    "parity=odd,parity=even": "",
    "": "abcde",
}


@pytest.mark.parametrize(("selector", "names"), LABELS.items())
def test_label_selectors(server: Server, selector: str, names: str, labelled: str) -> None:
    """Every operator of the grammar selects what it says."""
    assert "".join(server.admin.get(labelled, labelSelector=selector).names) == names


@pytest.fixture(scope="module")
def labelled(server: Server, space: str) -> str:
    """The path of the five, made once."""
    return five(server, space)


WRONG_LABELS = {
    "a b": "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    "a=b,": "found '', expected: identifier after ','",
    "=b": "found '=', expected: !, identifier, or 'end of string'",
    "a in b": "unable to parse requirement: found 'b' expected: '('",
    "a=b c": "found 'c', expected: ',' or 'end of string'",
    ",": "found ',', expected: !, identifier, or 'end of string'",
    "!": "unable to parse requirement: found '', expected: identifier",
    "(a)": "found '(', expected: !, identifier, or 'end of string'",
    "a in (b": "unable to parse requirement: found '', expected: ',' or ')'",
    "a>b": "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be",
    "A/a=b": 'unable to parse requirement: <nil>: Invalid value: "A/a": prefix part a lowercase RFC 1123 subdomain',
    "a=%": 'unable to parse requirement: values[0][a]: Invalid value: "%": a valid label must be an empty string or',
    "a>=1": "unable to parse requirement: found '=', expected: identifier",
}


@pytest.mark.parametrize(("selector", "message"), WRONG_LABELS.items())
def test_label_selectors_that_are_none(server: Server, space: str, selector: str, message: str) -> None:
    """A selector that cannot be read is 400, with the place."""
    answer = server.admin.get(path("pods", space), labelSelector=selector)
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert answer.message.startswith(message)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=b", "b"),
        ("metadata.name==b", "b"),
        ("metadata.name!=b", "acde"),
        ("metadata.name=b,metadata.name=c", ""),
        ("metadata.name=", ""),
        ("metadata.namespace=elsewhere", ""),
        ("metadata.name=b\\,c", ""),
    ],
)
def test_field_selectors(server: Server, labelled: str, selector: str, names: str) -> None:
    """Every kind is selected by name and namespace."""
    assert "".join(server.admin.get(labelled, fieldSelector=selector).names) == names


def test_field_selectors_of_pods(server: Server, fresh: str) -> None:
    """As nmi and the kubelet ask: by node, by phase, by account."""
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "")):
        server.make(path("pods", fresh), pod(name, **({"nodeName": node} if node else {})))
    server.admin.patch(f"{path('pods', fresh, 'a')}/status", {"status": {"phase": "Running"}})
    for selector, names in (
        ("spec.nodeName=n1", "a"),
        ("spec.nodeName=", "c"),
        ("spec.nodeName!=n1", "bc"),
        ("status.phase=Running", "a"),
        ("status.phase!=Running,spec.nodeName=n2", "b"),
        ("spec.serviceAccountName=default", "abc"),
        ("spec.hostNetwork=false", "abc"),
    ):
        assert "".join(server.admin.get(path("pods", fresh), fieldSelector=selector).names) == names, selector


@pytest.mark.parametrize(
    ("resource", "selector", "message"),
    [
        ("pods", "spec.none=1", "field label not supported: spec.none"),
        ("azureidentities.aadpodidentity.k8s.io", "spec.type=0", "field label not supported: spec.type"),
        (
            "configmaps",
            "data.a=1",
            '"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("configmaps", "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
    ],
)
def test_field_selectors_that_are_none(server: Server, space: str, resource: str, selector: str, message: str) -> None:
    """A field nobody selects by is 400, and named."""
    answer = server.admin.get(path(resource, space), fieldSelector=selector)
    assert (answer.status, answer.reason, answer.message) == (400, "BadRequest", message)
