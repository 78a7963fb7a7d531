"""CustomResourceDefinitions and their objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.lab.kube.wire import CRDS, JSON_PATCH, STRATEGIC, THINGS, Client, thing, thing_crd

MANIFEST = Path(__file__).parents[3] / "deploy" / "deployment-rbac.yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
GROUP = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"


async def shipped(api: Client) -> None:
    """Install the shipped CRDs."""
    for document in yaml.safe_load_all(MANIFEST.read_text()):
        if document and document["kind"] == "CustomResourceDefinition":
            assert (await api.post(CRDS, document, params={"fieldValidation": "Strict"})).status == 201


def assigned(**spec: Any) -> dict[str, Any]:
    """An AzureAssignedIdentity."""
    kind = {"apiVersion": "aadpodidentity.k8s.io/v1", "kind": "AzureAssignedIdentity"}
    return {**kind, "metadata": {"name": "a"}, "spec": spec, "status": {"status": "Created"}}


async def test_definition_is_established_and_served_at_once(api: Client) -> None:
    """A CRD is Established in the answer to its creation, and discovery has it."""
    made = (await api.post(CRDS, thing_crd())).body
    conditions = {item["type"]: item["status"] for item in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert (await api.post(THINGS, thing("a", size=1))).status == 201
    listed = (await api.get(THINGS)).body
    assert listed["kind"] == "ThingList"
    assert listed["items"][0]["kind"] == "Thing"
    found = (await api.get("/apis/ex.io/v1")).body["resources"]
    assert [item["name"] for item in found] == ["things"]


async def test_unknown_fields_are_refused_or_pruned(api: Client) -> None:
    """Strict names the field, Warn drops it with a warning, Ignore drops it in silence."""
    await api.post(CRDS, thing_crd())
    strict = await api.post(THINGS, thing("a", siz=1), params={"fieldValidation": "Strict"})
    assert strict.status == 400
    expected = 'Thing in version "v1" cannot be handled as a Thing: strict decoding error: unknown field "spec.siz"'
    assert strict.message == expected
    warned = await api.post(THINGS, thing("a", siz=1), params={"fieldValidation": "Warn"})
    assert 'unknown field \\"spec.siz\\"' in warned.headers["Warning"]
    assert warned.body["spec"] == {}
    ignored = await api.post(THINGS, thing("b", siz=1), params={"fieldValidation": "Ignore"})
    assert "Warning" not in ignored.headers


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "integer"}, "x", 'spec.f: Invalid value: "string": spec.f in body must be of type integer: "string"'),
        ({"type": "string", "enum": ["a"]}, "b", 'spec.f: Unsupported value: "b": supported values: "a"'),
        (
            {"type": "integer", "minimum": 3},
            2,
            "spec.f: Invalid value: 2: spec.f in body should be greater than or equal to 3",
        ),
        (
            {"type": "integer", "maximum": 3},
            4,
            "spec.f: Invalid value: 4: spec.f in body should be less than or equal to 3",
        ),
        ({"type": "string", "pattern": "^a"}, "b", "spec.f: Invalid value: \"b\": spec.f in body should match '^a'"),
        ({"type": "string", "maxLength": 1}, "bb", "spec.f: Too long: may not be more than 1 bytes"),
        ({"type": "array", "items": {"type": "string"}}, [1], "spec.f[0] in body must be of type string"),
        ({"type": "object", "required": ["a"]}, {}, "spec.f.a: Required value"),
        ({"type": "integer"}, 2**70, 'spec.f in body must be of type integer: "number"'),
        ({"x-kubernetes-int-or-string": True}, True, "spec.f in body must be of type integer or string"),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            ["a", "a"],
            "Duplicate value",
        ),
        (
            {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
            3,
            "must validate at least one schema (anyOf)",
        ),
    ],
)
async def test_schema_faults(api: Client, schema: dict[str, Any], value: object, message: str) -> None:
    """Each rule of a structural schema is enforced in kube-apiserver's words."""
    await api.post(CRDS, thing_crd({"f": schema}))
    answer = await api.post(THINGS, thing("a", f=value))
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert answer.message.startswith('Thing.ex.io "a" is invalid: ')
    assert message in answer.message


async def test_defaults_nullable_and_preserved_fields(api: Client) -> None:
    """Defaults fill in, nullable takes null, preserved and additional properties are kept."""
    properties = {
        "d": {"type": "integer", "default": 7},
        "n": {"type": "string", "nullable": True},
        "p": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "m": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    await api.post(CRDS, thing_crd(properties))
    made = (await api.post(THINGS, thing("a", n=None, p={"any": [1]}, m={"k": "v"}))).body
    assert made["spec"] == {"d": 7, "n": None, "p": {"any": [1]}, "m": {"k": "v"}}


async def test_generation_counts_what_is_not_metadata(api: Client) -> None:
    """Without a status subresource every change but metadata is a new generation; with one, status is not."""
    await api.post(CRDS, thing_crd())
    await api.post(THINGS, thing("a", size=1))
    labelled = await api.patch(f"{THINGS}/a", {"metadata": {"labels": {"x": "y"}}})
    assert labelled.body["metadata"]["generation"] == 1
    assert (await api.patch(f"{THINGS}/a", {"status": {"ok": True}})).body["metadata"]["generation"] == 2
    assert (await api.patch(f"{THINGS}/a/status", {"status": {"ok": True}})).status == 404


async def test_status_subresource_of_a_definition(api: Client) -> None:
    """A CRD that declares the status subresource gets its semantics."""
    await api.post(CRDS, thing_crd(subresources={"status": {}}))
    made = (await api.post(THINGS, {**thing("a", size=1), "status": {"ok": True}})).body
    assert "status" not in made
    await api.patch(f"{THINGS}/a", {"status": {"ok": True}})
    assert "status" not in (await api.get(f"{THINGS}/a")).body
    status = (await api.patch(f"{THINGS}/a/status", {"status": {"ok": True}, "spec": {"size": 2}})).body
    assert (status["status"], status["spec"]) == ({"ok": True}, {"size": 1})
    assert status["metadata"]["generation"] == 1


async def test_strategic_patch_of_a_custom_resource_is_415(api: Client) -> None:
    """Kubectl falls back to a merge patch because of exactly this answer."""
    await api.post(CRDS, thing_crd())
    await api.post(THINGS, thing("a"))
    answer = await api.patch(f"{THINGS}/a", {"spec": {}}, STRATEGIC)
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")
    assert "application/merge-patch+json" in answer.message


async def test_update_needs_a_version(api: Client) -> None:
    """A PUT of a custom resource without resourceVersion is invalid, as on the real server."""
    await api.post(CRDS, thing_crd())
    await api.post(THINGS, thing("a"))
    answer = await api.put(f"{THINGS}/a", thing("a", size=2))
    assert answer.status == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer.message


async def test_deleting_a_definition_deletes_its_objects(api: Client) -> None:
    """The CRD stays Terminating until its objects, finalizers included, are gone; then its path is."""
    await api.post(CRDS, thing_crd())
    await api.post(THINGS, thing("plain"))
    held = thing("held")
    held["metadata"]["finalizers"] = ["ex.io/wait"]
    await api.post(THINGS, held)
    assert (await api.delete(f"{CRDS}/things.ex.io")).body["metadata"]["deletionTimestamp"]
    assert (await api.get(f"{THINGS}/plain")).status == 404
    assert (await api.get(f"{THINGS}/held")).body["metadata"]["deletionTimestamp"]
    await api.patch(f"{THINGS}/held", {"metadata": {"finalizers": None}})
    assert (await api.get(f"{CRDS}/things.ex.io")).status == 404
    assert (await api.get(THINGS)).body == "404 page not found\n"


async def test_faulty_definitions_are_refused(api: Client) -> None:
    """A wrong name, a missing schema, an unapproved protected group, and what only the real server can do."""
    wrong = thing_crd()
    wrong["metadata"]["name"] = "thing.ex.io"
    assert 'must be spec.names.plural+"."+spec.group' in (await api.post(CRDS, wrong)).message
    bare = thing_crd(schema=None)
    assert "schemas are required" in (await api.post(CRDS, bare)).message
    protected = thing_crd()
    protected["metadata"]["name"], protected["spec"]["group"] = "things.x.k8s.io", "x.k8s.io"
    assert "protected groups must have approval annotation" in (await api.post(CRDS, protected)).message
    rules = thing_crd({"f": {"type": "string", "x-kubernetes-validations": [{"rule": "true"}]}})
    assert "--api-server=real" in (await api.post(CRDS, rules)).message


async def test_shipped_definitions_hold_their_contract(api: Client) -> None:
    """Assigned identities: embedded refs need apiVersion and kind, status is written through the main resource."""
    await shipped(api)
    missing = await api.post(f"{GROUP}/azureassignedidentities", assigned(azureIdentityRef={}, azureBindingRef={}))
    assert missing.status == 422
    assert "spec.azureIdentityRef.apiVersion: Required value" in missing.message
    ref = {"apiVersion": "aadpodidentity.k8s.io/v1", "metadata": {"name": "i", "creationTimestamp": None}}
    body = assigned(
        azureIdentityRef={
            **ref,
            "kind": "AzureIdentity",
            "spec": {"clientID": "c", "metadata": {"creationTimestamp": None}},
        },
        azureBindingRef={**ref, "kind": "AzureIdentityBinding", "spec": {"selector": "s"}},
        nodename="n1",
    )
    made = await api.post(f"{GROUP}/azureassignedidentities", body)
    assert (made.status, made.body["status"]) == (201, {"status": "Created"})
    assert made.body["spec"]["azureIdentityRef"]["metadata"]["name"] == "i"
    assert made.body["spec"]["azureIdentityRef"]["spec"]["metadata"] == {}
    operation = [{"op": "replace", "path": "/status/status", "value": "Assigned"}]
    patched = await api.patch(f"{GROUP}/azureassignedidentities/a", operation, JSON_PATCH)
    assert patched.body["status"]["status"] == "Assigned"


async def test_shipped_columns(api: Client) -> None:
    """`kubectl get azureidentity` shows the columns of the original, numbers as strings where the CRD says string."""
    await shipped(api)
    kind = {"apiVersion": "aadpodidentity.k8s.io/v1", "kind": "AzureIdentity"}
    spec = {"type": 0, "clientID": "c"}
    await api.post(f"{GROUP}/azureidentities", {**kind, "metadata": {"name": "i"}, "spec": spec})
    table = (await api.get(f"{GROUP}/azureidentities", headers={"Accept": TABLE})).body
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Type", "ClientID", "Age"]
    assert table["rows"][0]["cells"][:3] == ["i", "0", "c"]
    assigned_table = (await api.get(f"{GROUP}/azureassignedidentities", headers={"Accept": TABLE})).body
    assert [column["name"] for column in assigned_table["columnDefinitions"]] == ["Name", "Age"]
