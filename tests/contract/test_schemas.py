"""What the servers make of the bodies of our kinds, and of built-in ones: pruned, warned of, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.contract.objects import GROUP, assigned, binding, config_map, identity, ours, path, pod
from tests.contract.servers import Server

IDENTITIES, ASSIGNED = "azureidentities", "azureassignedidentities"


def misspelled(name: str) -> dict[str, Any]:
    """An AzureIdentity with a field in the wrong casing, and one that nobody knows."""
    return identity(name, clientid="x", colour={"deep": "red"})


@pytest.mark.parametrize("validation", ["Ignore", "Warn", ""])
def test_unknown_fields_are_pruned(server: Server, space: str, name: str, validation: str) -> None:
    """A misspelled field is not stored; unless told to be silent the server warns of it by its path."""
    query = {"fieldValidation": validation} if validation else {}
    answer = server.admin.post(ours(IDENTITIES, space), misspelled(name), **query)
    assert answer.status == 201
    assert set(answer.body["spec"]) == {"type", "resourceID", "clientID"}
    warned = [] if validation == "Ignore" else ['unknown field "spec.clientid"', 'unknown field "spec.colour"']
    assert answer.warnings == warned


def test_unknown_fields_are_refused_when_strict(server: Server, space: str, name: str) -> None:
    """Strict, as kubectl asks: 400, naming each unknown field, and nothing is stored."""
    answer = server.admin.post(ours(IDENTITIES, space), misspelled(name), fieldValidation="Strict")
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert answer.message == (
        'AzureIdentity in version "v1" cannot be handled as a AzureIdentity: strict decoding error: '
        'unknown field "spec.clientid", unknown field "spec.colour"'
    )
    assert server.admin.get(ours(IDENTITIES, space, name)).status == 404


def test_unknown_field_validation(server: Server, space: str, name: str) -> None:
    """A fieldValidation of another name is refused."""
    answer = server.admin.post(ours(IDENTITIES, space), identity(name), fieldValidation="Loose")
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert answer.message == (
        'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Loose": '
        'supported values: "", "Ignore", "Strict", "Warn"'
    )


def test_strict_update_and_patches(server: Server, space: str, name: str) -> None:
    """Strict holds for updates and both patches of a custom resource, too."""
    made = server.make(ours(IDENTITIES, space), identity(name))
    where = ours(IDENTITIES, space, name)
    changed = {**made, "spec": {**made["spec"], "colour": "red"}}
    assert server.admin.put(where, changed, fieldValidation="Strict").status == 400
    patch = {"spec": {"colour": "red"}}
    merged = server.admin.patch(where, patch, fieldValidation="Strict")
    assert (merged.status, merged.reason) == (422, "Invalid")
    assert 'unknown field "spec.colour"' in merged.message
    operations = [{"op": "add", "path": "/spec/colour", "value": "red"}]
    json_patch = server.admin.patch(where, operations, "application/json-patch+json", fieldValidation="Strict")
    assert json_patch.status == 422
    assert server.admin.patch(where, patch).warnings == ['unknown field "spec.colour"']
    assert server.admin.get(where).body["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_unknown_metadata(server: Server, space: str, name: str) -> None:
    """An unknown field in the metadata of a custom resource is pruned and named like any other."""
    obj = identity(name)
    obj["metadata"]["colour"] = "red"
    assert server.admin.post(ours(IDENTITIES, space), obj, fieldValidation="Strict").status == 400
    answer = server.admin.post(ours(IDENTITIES, space), obj)
    assert answer.warnings == ['unknown field "metadata.colour"']
    assert "colour" not in answer.body["metadata"]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"type": "0"}, 'spec.type: Invalid value: "string": spec.type in body must be of type integer: "string"'),
        ({"type": 0.5}, 'spec.type: Invalid value: "number": spec.type in body must be of type integer: "number"'),
        ({"clientID": 7}, 'spec.clientID: Invalid value: "integer": spec.clientID in body must be of type string'),
        ({"auxiliaryTenantIDs": "t"}, "spec.auxiliaryTenantIDs in body must be of type array"),
        ({"auxiliaryTenantIDs": [1]}, "spec.auxiliaryTenantIDs[0]"),
        ({"clientPassword": "p"}, "spec.clientPassword in body must be of type object"),
        ({"auxiliaryTenantIDs": [None]}, 'spec.auxiliaryTenantIDs[0]: Invalid value: "null"'),
        ({"type": 2**70}, 'spec.type: Invalid value: "number": spec.type in body must be of type integer: "number"'),
    ],
)
def test_wrong_types(server: Server, space: str, name: str, spec: dict[str, Any], complaint: str) -> None:
    """A value of the wrong type is 422 and names its path, in the server's words."""
    answer = server.admin.post(ours(IDENTITIES, space), identity(name, **spec))
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert complaint in answer.message
    assert answer.message.startswith(f'AzureIdentity.{GROUP} "{name}" is invalid: ')
    assert answer.body["details"]["group"] == GROUP
    assert answer.body["details"]["causes"][0]["field"].startswith("spec.")


def test_what_the_schema_allows(server: Server, space: str, name: str) -> None:
    """Null where it may be, any words as resource id: nothing a cluster of the original accepts is refused."""
    spec = {"auxiliaryTenantIDs": None, "replicas": None, "resourceID": "not/an/id", "type": 7}
    answer = server.admin.post(ours(IDENTITIES, space), identity(name, **spec), fieldValidation="Strict")
    assert answer.status == 201
    assert {key: answer.body["spec"][key] for key in spec} == spec


def test_nulls_are_dropped(server: Server, space: str, name: str) -> None:
    """Null where it may not be counts as absent, in the object itself and inside an embedded one."""
    answer = server.admin.post(ours(IDENTITIES, space), identity(name, clientID=None), fieldValidation="Strict")
    assert (answer.status, "clientID" in answer.body["spec"]) == (201, False)
    assert server.admin.post(ours(IDENTITIES, space), {**identity(f"{name}-2"), "spec": None}).status == 201
    obj = assigned(name, azureBindingRef=None)
    obj["spec"]["azureIdentityRef"]["spec"]["clientID"] = None
    answer = server.admin.post(ours(ASSIGNED, space), obj)
    assert (answer.status, "azureBindingRef" in answer.body["spec"]) == (201, False)
    assert "clientID" not in answer.body["spec"]["azureIdentityRef"]["spec"]


def test_whole_numbers(server: Server, space: str, name: str) -> None:
    """An integer may be written as 1.0 and is stored as 1; a format of 32 bits limits nothing."""
    answer = server.admin.post(ours(IDENTITIES, space), identity(name, type=1.0, replicas=3_000_000_000))
    assert (answer.status, answer.body["spec"]["replicas"]) == (201, 3_000_000_000)
    assert json.dumps(answer.body["spec"]["type"]) == "1"


def test_a_binding_to_nothing(server: Server, space: str, name: str) -> None:
    """The API takes a binding whose identity does not exist: that is mic's to tell."""
    answer = server.admin.post(ours("azureidentitybindings", space), binding(name, azureIdentity="nobody"))
    assert answer.status == 201


def test_embedded_resources(server: Server, space: str, name: str) -> None:
    """An assigned identity carries identity and binding whole, with status in one write, and prunes inside them."""
    obj = assigned(name)
    obj["spec"]["azureIdentityRef"]["spec"]["colour"] = "red"
    obj["spec"]["azureIdentityRef"]["metadata"] |= {"labels": {"a": "b"}, "colour": "red"}
    answer = server.admin.post(ours(ASSIGNED, space), obj)
    assert answer.status == 201
    reference = answer.body["spec"]["azureIdentityRef"]
    assert reference["kind"] == "AzureIdentity"
    assert reference["metadata"] == {"name": "one", "namespace": "team", "labels": {"a": "b"}}
    assert "colour" not in reference["spec"]
    assert answer.body["status"] == obj["status"]
    assert sorted(answer.warnings) == [
        'unknown field "spec.azureIdentityRef.metadata.colour"',
        'unknown field "spec.azureIdentityRef.spec.colour"',
    ]


@pytest.mark.parametrize("missing", ["apiVersion", "kind"])
def test_embedded_resources_need_a_type(server: Server, space: str, name: str, missing: str) -> None:
    """Without apiVersion or kind inside azureIdentityRef the object is refused."""
    obj = assigned(name)
    del obj["spec"]["azureIdentityRef"][missing]
    answer = server.admin.post(ours(ASSIGNED, space), obj)
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert f"spec.azureIdentityRef.{missing}: Required value" in answer.message


@pytest.mark.parametrize(
    ("part", "status", "complaint"),
    [
        ({"kind": ""}, 422, 'spec.azureIdentityRef.kind: Invalid value: "": must not be empty'),
        ({"kind": "not one"}, 422, 'spec.azureIdentityRef.kind: Invalid value: "not one": may have mixed case'),
        ({"kind": 7}, 400, "spec.azureIdentityRef.kind: Invalid value: 7: must be a string"),
        ({"apiVersion": "a/b/c"}, 422, "unexpected GroupVersion string: a/b/c"),
        ({"metadata": {"labels": {"a": 1}}}, 400, "cannot unmarshal number into Go struct field ObjectMeta.labels"),
        ({"metadata": "text"}, 400, "json: cannot unmarshal string into Go value of type v1.ObjectMeta"),
        ({"metadata": {"labels": {"a b": "c"}}}, 422, "spec.azureIdentityRef.metadata.labels: Invalid value"),
        ({"metadata": {"annotations": {"a b": "c"}}}, 422, "spec.azureIdentityRef.metadata.annotations: Invalid"),
    ],
)
def test_embedded_resources_that_are_wrong(
    server: Server, space: str, part: dict[str, Any], status: int, complaint: str
) -> None:
    """Type and metadata of an embedded object are checked as those of any object, and named by their path."""
    obj = assigned("wrong")
    obj["spec"]["azureIdentityRef"] |= part
    answer = server.admin.post(ours(ASSIGNED, space), obj)
    assert (answer.status, complaint in answer.message) == (status, True), answer.message


def test_status_is_no_subresource(server: Server, space: str, name: str) -> None:
    """Status is written with the object: there is no path of its own for it."""
    server.make(ours(ASSIGNED, space), assigned(name))
    where = ours(ASSIGNED, space, name)
    assert server.admin.get(f"{where}/status").status == 404
    answer = server.admin.patch(where, {"status": {"status": "Assigned"}})
    assert answer.body["status"]["status"] == "Assigned"
    assert answer.body["metadata"]["generation"] == 2


@pytest.mark.parametrize("value", [f"{GROUP}/v2", f"{GROUP}/v1beta1", "v1", ""])
def test_another_version_in_the_body(server: Server, space: str, name: str, value: str) -> None:
    """A body of another apiVersion than the path's is 400, and told both."""
    answer = server.admin.post(ours(IDENTITIES, space), {**identity(name), "apiVersion": value})
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert answer.message == (
        f"the API version in the data ({value}) does not match the expected API version ({GROUP}/v1)"
    )


@pytest.mark.parametrize("value", ["azureidentity", "AzureIdentityBinding"])
def test_another_kind_in_the_body(server: Server, space: str, name: str, value: str) -> None:
    """A body of another kind, or of the kind in the wrong casing, is 422; of a built-in kind it is 400."""
    answer = server.admin.post(ours(IDENTITIES, space), {**identity(name), "kind": value})
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert answer.message == (
        f'{value}.{GROUP} "{name}" is invalid: kind: Invalid value: "{value}": must be AzureIdentity'
    )
    answer = server.admin.post(path("configmaps", space), {**config_map(name), "kind": value})
    assert (answer.status, answer.reason) == (400, "BadRequest")
    assert answer.message.startswith(
        f'{value} in version "v1" cannot be handled as a ConfigMap: no kind "{value}" is registered for version "v1"'
    )


@pytest.mark.parametrize("key", ["apiVersion", "kind"])
def test_no_type_in_the_body(server: Server, space: str, name: str, key: str) -> None:
    """A custom resource says what it is; a built-in kind is what its path says."""
    obj = identity(name)
    del obj[key]
    answer = server.admin.post(ours(IDENTITIES, space), obj)
    assert answer.status == 400
    missing = "the object provided is unrecognized (must be of type AzureIdentity): Object 'Kind' is missing in '"
    assert key == "apiVersion" or answer.message.startswith(missing)
    plain = config_map(name)
    del plain[key]
    assert server.admin.post(path("configmaps", space), plain).status == 201


@pytest.mark.parametrize("where", [f"/apis/{GROUP}/v1beta1/namespaces/default/azureidentities", "/apis/none.io/v1/x"])
def test_a_type_that_is_not_served(server: Server, where: str) -> None:
    """An unknown group, version or kind is a plain 404."""
    answer = server.admin.get(where)
    assert (answer.status, answer.body) == (404, "404 page not found\n")


def test_wrong_casing_in_the_path(server: Server, space: str) -> None:
    """Resource names are lower case."""
    assert server.admin.get(ours("azureIdentities", space)).status == 404
    assert server.admin.get(f"/api/v1/namespaces/{space}/Pods").status == 404


def test_unknown_fields_of_built_in_kinds(server: Server, space: str, name: str) -> None:
    """Built-in kinds are decoded strictly on demand, too: wrong casing is an unknown field."""
    obj = {**config_map(name), "Data": {"b": "2"}}
    answer = server.admin.post(path("configmaps", space), obj, fieldValidation="Strict")
    assert answer.status == 400
    assert answer.message == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "Data"'
    )
    answer = server.admin.post(path("configmaps", space), obj)
    assert (answer.status, answer.warnings) == (201, ['unknown field "Data"'])
    assert answer.body["data"] == {"a": "1"}


def test_wrong_types_of_built_in_kinds(server: Server, space: str, name: str) -> None:
    """Go's decoder refuses a number where a string belongs, in its own words."""
    answer = server.admin.post(path("configmaps", space), config_map(name, data={"a": 1}))
    assert answer.status == 400
    assert "json: cannot unmarshal number into Go struct field ConfigMap.data of type string" in answer.message
    answer = server.admin.post(path("pods", space), pod(name, containers=[{"name": "main", "image": 1}]))
    assert answer.status == 400
    assert "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string" in (
        answer.message
    )


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/cbor-seq", 415),
    ],
)
def test_bodies_nobody_can_read(server: Server, space: str, body: bytes, content_type: str, status: int) -> None:
    """What is no object is 400, what is no known format is 415; both as a Status."""
    answer = server.admin.call("POST", path("configmaps", space), body, content_type=content_type)
    assert answer.status == status
    assert answer.body["kind"] == "Status"


def test_yaml_bodies(server: Server, space: str, name: str) -> None:
    """YAML is read, for built-in kinds and ours."""
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: 'yes'}}\n"
    answer = server.admin.call("POST", path("configmaps", space), text.encode(), content_type="application/yaml")
    assert (answer.status, answer.body["data"]) == (201, {"a": "yes"})
    text = f"apiVersion: {GROUP}/v1\nkind: AzureIdentity\nmetadata: {{name: {name}}}\nspec: {{type: 0}}\n"
    answer = server.admin.call("POST", ours(IDENTITIES, space), text.encode(), content_type="application/yaml")
    assert (answer.status, answer.body["spec"]) == (201, {"type": 0})
