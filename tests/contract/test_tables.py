"""Tables, as kubectl asks for them: the columns and cells of each kind, lists and watches."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import assigned, binding, config_map, identity, ours, path, pod
from tests.contract.servers import Server

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
EITHER = f"{TABLE},application/json"
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "x:1"}]}}
WORKLOAD = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}
HEADS = {
    "azureidentities.aadpodidentity.k8s.io": "Name Type ClientID Age",
    "azureidentitybindings.aadpodidentity.k8s.io": "Name AzureIdentity Selector Age",
    "azureassignedidentities.aadpodidentity.k8s.io": "Name Age",
    "pods": "Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
    "leases.coordination.k8s.io": "Name Holder Age",
    "endpoints": "Name Endpoints Age",
    "configmaps": "Name Data Age",
    "secrets": "Name Type Data Age",
    "serviceaccounts": "Name Secrets Age",
    "deployments.apps": "Name Ready Up-to-date Available Age Containers* Images* Selector*",
    "events": "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name*",
}
CELLS: dict[str, tuple[dict[str, Any], list[object]]] = {
    "azureidentities.aadpodidentity.k8s.io": (identity("x"), ["x", "0", "c"]),
    "azureidentitybindings.aadpodidentity.k8s.io": (binding("x"), ["x", "one", "web"]),
    "azureassignedidentities.aadpodidentity.k8s.io": (assigned("x"), ["x"]),
    "pods": (pod("x"), ["x", "0/1", "Pending", "0"]),
    "leases.coordination.k8s.io": ({"metadata": {"name": "x"}, "spec": {"holderIdentity": "one"}}, ["x", "one"]),
    "endpoints": (
        {"metadata": {"name": "x"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
        ["x", "10.0.0.1:80"],
    ),
    "configmaps": (config_map("x"), ["x", 1]),
    "secrets": ({"metadata": {"name": "x"}}, ["x", "Opaque", 0]),
    "serviceaccounts": ({"metadata": {"name": "x"}}, ["x", 0]),
    "deployments.apps": ({"metadata": {"name": "x"}, **WORKLOAD}, ["x", "0/1", 0, 0]),
}


def heads(table: dict[str, Any]) -> str:
    """The columns' names, a star behind those of ``-o wide``."""
    return " ".join(
        column["name"].replace(" ", "_") + ("*" if column["priority"] else "") for column in table["columnDefinitions"]
    )


@pytest.mark.parametrize("resource", HEADS)
def test_columns(server: Server, space: str, resource: str) -> None:
    """Each kind has the columns that kubectl prints, of these types."""
    answer = server.admin.get(path(resource, space), accept=TABLE)
    assert (answer.status, answer.body["kind"], answer.body["apiVersion"]) == (200, "Table", "meta.k8s.io/v1")
    assert heads(answer.body) == HEADS[resource]


@pytest.mark.parametrize("resource", CELLS)
def test_cells(server: Server, fresh: str, resource: str) -> None:
    """An object is a row: its cells, and as much of it as kubectl sorts and names by."""
    obj, cells = CELLS[resource]
    server.make(path(resource, fresh), obj)
    rows = server.admin.get(path(resource, fresh), accept=EITHER, fieldSelector="metadata.name=x").body["rows"]
    assert [row["cells"][: len(cells)] for row in rows] == [cells]
    assert (rows[0]["object"]["kind"], rows[0]["object"]["metadata"]["name"]) == ("PartialObjectMetadata", "x")
    assert set(rows[0]["object"]) == {"kind", "apiVersion", "metadata"}


@pytest.mark.parametrize(("include", "kind"), [("Object", "AzureIdentity"), ("Metadata", "PartialObjectMetadata")])
def test_what_a_row_carries(server: Server, space: str, name: str, include: str, kind: str) -> None:
    """The whole object, its metadata, or none of it."""
    server.make(ours("azureidentities", space), identity(name))
    where = ours("azureidentities", space, name)
    row = server.admin.get(where, accept=TABLE, includeObject=include).body["rows"][0]
    assert row["object"]["kind"] == kind
    assert server.admin.get(where, accept=TABLE, includeObject="None").body["rows"][0]["object"] is None
    answer = server.admin.get(where, accept=TABLE, includeObject="Some")
    assert (answer.status, "must be 'Metadata', 'Object', 'None', or empty" in answer.message) == (400, True)


def test_pages_of_a_table(server: Server, fresh: str) -> None:
    """A table has the list's version and pages."""
    for name in ("a", "b", "c"):
        server.make(ours("azureidentities", fresh), identity(name))
    page = server.admin.get(ours("azureidentities", fresh), accept=TABLE, limit="2")
    assert ([row["cells"][0] for row in page.body["rows"]], bool(page.version)) == (["a", "b"], True)
    query = {"limit": "2", "continue": page.body["metadata"]["continue"]}
    rest = server.admin.get(ours("azureidentities", fresh), accept=TABLE, **query)
    assert [row["cells"][0] for row in rest.body["rows"]] == ["c"]


def test_a_watched_table(server: Server, fresh: str) -> None:
    """Each event is a table of one row; the columns are told in the first."""
    where = ours("azureidentities", fresh)
    server.make(where, identity("a"))
    with server.admin.watch(where, accept=TABLE) as watch:
        kind, first = watch.next()
        assert (kind, heads(first), first["rows"][0]["cells"][0]) == ("ADDED", "Name Type ClientID Age", "a")
        server.admin.patch(f"{where}/a", {"spec": {"clientID": "2"}})
        kind, later = watch.next()
        assert (kind, later["columnDefinitions"], later["rows"][0]["cells"][2]) == ("MODIFIED", None, "2")
