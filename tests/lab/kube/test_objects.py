"""Create, read, update, patch and delete, with kube-apiserver's answers."""

from __future__ import annotations

import asyncio
import io

import pytest
from tests.lab.kube.wire import CONFIG_MAPS, JSON_PATCH, PODS, STRATEGIC, Client, config_map, pod

from podidentity.lab.kube.housekeeping import forget_events


async def test_server_metadata_is_set_on_create(api: Client) -> None:
    """A new object gets uid, version, time and generation from the server, whatever the client sent."""
    body = pod("a")
    body["metadata"] |= {"uid": "mine", "generation": 9, "managedFields": [{}]}
    made = (await api.post(PODS, body)).body["metadata"]
    assert made["uid"] != "mine"
    assert made["generation"] == 1
    assert made["resourceVersion"].isdigit()
    assert made["creationTimestamp"].endswith("Z")
    assert "managedFields" not in made


async def test_names_are_generated(api: Client) -> None:
    """Generated names: generateName gives distinct valid names."""
    body = {"metadata": {"generateName": "x-"}, "data": {}}
    names = {(await api.post(CONFIG_MAPS, body)).body["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("x-") and len(name) == 7 for name in names)


async def test_taken_name_is_already_exists(api: Client) -> None:
    """A second create answers 409 AlreadyExists with kubectl's details."""
    await api.post(CONFIG_MAPS, config_map("a"))
    again = await api.post(CONFIG_MAPS, config_map("a"))
    assert (again.status, again.body["reason"]) == (409, "AlreadyExists")
    assert again.message == 'configmaps "a" already exists'
    assert again.body["details"] == {"name": "a", "kind": "configmaps"}


async def test_missing_object_is_not_found(api: Client) -> None:
    """404 names resource and object; an unknown path is plain text."""
    missing = await api.get(f"{PODS}/nope")
    assert (missing.status, missing.message) == (404, 'pods "nope" not found')
    unknown = await api.get("/apis/nope.io/v1/nopes")
    assert (unknown.status, unknown.body) == (404, "404 page not found\n")


async def test_missing_namespace_is_not_found(api: Client) -> None:
    """Objects are only created in namespaces that exist."""
    answer = await api.post("/api/v1/namespaces/nope/configmaps", config_map("a"))
    assert (answer.status, answer.message) == (404, 'namespaces "nope" not found')


async def test_bad_names_are_invalid(api: Client) -> None:
    """422 with the Kind in details and the cause's field."""
    answer = await api.post(CONFIG_MAPS, config_map("Bad_Name"))
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert answer.message.startswith(
        'ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase'
    )
    assert answer.body["details"]["causes"][0]["field"] == "metadata.name"


async def test_stale_update_conflicts(api: Client) -> None:
    """A PUT with an old resourceVersion answers 409 Conflict and changes nothing."""
    first = (await api.post(CONFIG_MAPS, config_map("a", k="1"))).body
    second = await api.put(f"{CONFIG_MAPS}/a", {**first, "data": {"k": "2"}})
    assert second.status == 200
    stale = await api.put(f"{CONFIG_MAPS}/a", {**first, "data": {"k": "3"}})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.message
    assert (await api.get(f"{CONFIG_MAPS}/a")).body["data"] == {"k": "2"}


async def test_equal_update_is_not_a_write(api: Client) -> None:
    """An update that changes nothing keeps the resourceVersion, so that watchers hear nothing."""
    made = (await api.post(CONFIG_MAPS, config_map("a", k="1"))).body
    same = await api.put(f"{CONFIG_MAPS}/a", made)
    patched = await api.patch(f"{CONFIG_MAPS}/a", {"data": {"k": "1"}})
    assert same.body["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert patched.body["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_another_uid_is_another_object(api: Client) -> None:
    """PUT, PATCH and DELETE with the uid of an earlier object of that name are refused."""
    made = (await api.post(CONFIG_MAPS, config_map("a"))).body
    await api.delete(f"{CONFIG_MAPS}/a")
    await api.post(CONFIG_MAPS, config_map("a"))
    uid = made["metadata"]["uid"]
    patched = await api.patch(f"{CONFIG_MAPS}/a", {"metadata": {"uid": uid}, "data": {"k": "v"}})
    deleted = await api.delete(f"{CONFIG_MAPS}/a", {"preconditions": {"uid": uid}})
    assert (patched.status, deleted.status) == (422, 409)
    assert "the UID in the precondition" in deleted.message


async def test_patches(api: Client) -> None:
    """JSON, merge and strategic patches apply; one that does not apply is 422 and another type 415."""
    await api.post(CONFIG_MAPS, config_map("a", k="1", gone="x"))
    merged = await api.patch(f"{CONFIG_MAPS}/a", {"data": {"gone": None, "new": "2"}})
    assert merged.body["data"] == {"k": "1", "new": "2"}
    replaced = await api.patch(f"{CONFIG_MAPS}/a", [{"op": "replace", "path": "/data/k", "value": "9"}], JSON_PATCH)
    assert replaced.body["data"]["k"] == "9"
    missing = await api.patch(f"{CONFIG_MAPS}/a", [{"op": "remove", "path": "/data/zzz"}], JSON_PATCH)
    assert missing.status == 422
    strategic = await api.patch(f"{CONFIG_MAPS}/a", {"data": {"s": "1"}}, STRATEGIC)
    assert strategic.body["data"]["s"] == "1"
    apply = await api.patch(f"{CONFIG_MAPS}/a", {"data": {}}, "application/apply-patch+yaml")
    assert apply.status == 415
    assert "--api-server=real" in apply.message


async def test_dry_run_writes_nothing(api: Client) -> None:
    """dryRun=All answers as usual and leaves no trace."""
    made = await api.post(CONFIG_MAPS, config_map("a"), params={"dryRun": "All"})
    assert made.status == 201
    assert (await api.get(f"{CONFIG_MAPS}/a")).status == 404
    await api.post(CONFIG_MAPS, config_map("a", k="1"))
    await api.patch(f"{CONFIG_MAPS}/a", {"data": {"k": "2"}}, params={"dryRun": "All"})
    await api.delete(f"{CONFIG_MAPS}/a", params={"dryRun": "All"})
    assert (await api.get(f"{CONFIG_MAPS}/a")).body["data"] == {"k": "1"}


async def test_status_is_its_own_subresource(api: Client) -> None:
    """The main resource cannot write status, the status subresource nothing else; only spec bumps the generation."""
    made = (await api.post(PODS, {**pod("a"), "status": {"phase": "Running"}})).body
    assert made["status"]["phase"] == "Pending"
    main = await api.patch(f"{PODS}/a", {"status": {"phase": "Running"}, "metadata": {"labels": {"x": "y"}}})
    assert main.body["status"]["phase"] == "Pending"
    assert main.body["metadata"]["generation"] == 1
    status = await api.patch(f"{PODS}/a/status", {"status": {"phase": "Running"}, "metadata": {"labels": {"x": "z"}}})
    assert status.body["status"]["phase"] == "Running"
    assert status.body["metadata"]["labels"] == {"x": "y"}


async def test_finalizers_keep_an_object_terminating(api: Client) -> None:
    """DELETE of an object with finalizers marks it; dropping the last finalizer removes it."""
    body = config_map("a")
    body["metadata"]["finalizers"] = ["ex.io/wait"]
    await api.post(CONFIG_MAPS, body)
    deleted = await api.delete(f"{CONFIG_MAPS}/a")
    assert deleted.body["metadata"]["deletionTimestamp"]
    assert deleted.body["metadata"]["deletionGracePeriodSeconds"] == 0
    live = (await api.get(f"{CONFIG_MAPS}/a")).body
    live["metadata"]["finalizers"] = []
    assert (await api.put(f"{CONFIG_MAPS}/a", live)).status == 200
    assert (await api.get(f"{CONFIG_MAPS}/a")).status == 404


async def test_delete_answers_with_details(api: Client) -> None:
    """A removed object is answered with a Status that names it and its uid."""
    made = (await api.post(CONFIG_MAPS, config_map("a"))).body
    deleted = (await api.delete(f"{CONFIG_MAPS}/a", {"propagationPolicy": "Background"})).body
    assert deleted["status"] == "Success"
    assert deleted["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}


async def test_pods_end_gracefully(api: Client) -> None:
    """A pod on a node stays until the kubelet deletes it with grace 0; one without a node goes at once."""
    await api.post(PODS, pod("homeless"))
    assert (await api.delete(f"{PODS}/homeless")).body["kind"] == "Pod"
    assert (await api.get(f"{PODS}/homeless")).status == 404
    await api.post(PODS, pod("a", nodeName="n1", terminationGracePeriodSeconds=20))
    ending = (await api.delete(f"{PODS}/a")).body["metadata"]
    assert ending["deletionGracePeriodSeconds"] == 20
    assert (await api.delete(f"{PODS}/a", {"gracePeriodSeconds": 5})).body["metadata"][
        "deletionGracePeriodSeconds"
    ] == 5
    assert (await api.delete(f"{PODS}/a", {"gracePeriodSeconds": 60})).body["metadata"][
        "deletionGracePeriodSeconds"
    ] == 5
    assert (await api.delete(f"{PODS}/a", {"gracePeriodSeconds": 0})).status == 200
    assert (await api.get(f"{PODS}/a")).status == 404


async def test_collections_are_deleted_by_selector(api: Client) -> None:
    """DELETE of a collection takes what its selectors match, and says what that was."""
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        body = config_map(name)
        body["metadata"]["labels"] = {"l": label}
        await api.post(CONFIG_MAPS, body)
    deleted = await api.delete(CONFIG_MAPS, params={"labelSelector": "l=x"})
    assert [item["metadata"]["name"] for item in deleted.body["items"]] == ["a", "b"]
    left = (await api.get(CONFIG_MAPS)).body["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


async def test_binding_assigns_a_node_once(api: Client) -> None:
    """POST binding sets spec.nodeName and PodScheduled; a second one conflicts."""
    await api.post(PODS, pod("a"))
    target = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}}
    assert (await api.post(f"{PODS}/a/binding", target)).status == 201
    bound = (await api.get(f"{PODS}/a")).body
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    assert (await api.post(f"{PODS}/a/binding", target)).status == 409


async def test_pod_spec_is_frozen(api: Client) -> None:
    """Only image, deadline and tolerations of a pod may change."""
    await api.post(PODS, pod("a"))
    image = {"spec": {"containers": [{"name": "main", "image": "x:2"}]}}
    assert (await api.patch(f"{PODS}/a", image, STRATEGIC)).status == 200
    refused = await api.patch(f"{PODS}/a", {"spec": {"hostNetwork": True}})
    assert refused.status == 422
    assert "pod updates may not change fields other than" in refused.message


async def test_defaults_of_pods(api: Client) -> None:
    """A pod gets the defaults the kubelet and kubectl rely on."""
    spec = (await api.post(PODS, pod("a"))).body["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"spec": {"nodeNam": "x"}}, 'strict decoding error: unknown field "spec.nodeNam"'),
        (
            {"spec": {"containers": "x"}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type",
        ),
        ({"kind": "Service"}, 'Service in version "v1" cannot be handled as a Pod'),
        ({"apiVersion": "v2"}, 'no kind "Pod" is registered for version "v2"'),
        ({"metadata": {"name": "a", "namespace": "other"}}, "the namespace of the provided object does not match"),
        ({"metadata": {"name": "a", "labels": {"a": 1}}}, "json: cannot unmarshal number into Go struct field"),
    ],
)
async def test_malformed_bodies_are_bad_requests(api: Client, body: dict[str, object], message: str) -> None:
    """What Go's strict decoder refuses is refused in its words."""
    answer = await api.post(PODS, {**pod("a"), **body}, params={"fieldValidation": "Strict"})
    assert answer.status == 400
    assert message in answer.message


async def test_unknown_fields_warn_by_default(api: Client) -> None:
    """Without fieldValidation unknown fields are dropped with a Warning header."""
    answer = await api.post(PODS, pod("a", nodeNam="x"))
    assert answer.status == 201
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.nodeNam\\""'
    assert "nodeNam" not in answer.body["spec"]


async def test_garbage_is_refused_not_crashed_on(api: Client) -> None:
    """Bodies that are no objects, other content types and huge bodies are 4xx Statuses."""
    assert (await api.post(PODS, b"{", type="application/json")).status == 400
    assert (await api.post(PODS, [1])).status == 400
    assert (await api.post(PODS, {"metadata": 5})).status == 400
    assert (await api.post(PODS, b"x", type="text/plain")).status == 415
    assert (await api.post(PODS, io.BytesIO(b"x" * 4_000_000), type="application/json")).status == 413
    assert (await api.post(PODS, b'{"metadata": {"name": "a"}, "spec": null}', type="application/json")).status == 422


async def test_what_is_missing_names_the_real_server(api: Client) -> None:
    """Subresources that are not here are refused with the option that has them."""
    await api.post(PODS, pod("a"))
    answer = await api.post(f"{PODS}/a/attach", {})
    assert answer.status == 501
    assert "--api-server=real" in answer.message


async def test_concurrent_increments_lose_nothing(api: Client) -> None:
    """Optimistic concurrency: read, write, retry on 409 counts every increment of many writers."""
    await api.post(CONFIG_MAPS, config_map("n", n="0"))

    async def increment() -> None:
        while True:
            found = (await api.get(f"{CONFIG_MAPS}/n")).body
            found["data"]["n"] = str(int(found["data"]["n"]) + 1)
            if (await api.put(f"{CONFIG_MAPS}/n", found)).status == 200:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(increment())
    assert (await api.get(f"{CONFIG_MAPS}/n")).body["data"]["n"] == "20"


async def test_endpoints_are_deprecated(api: Client) -> None:
    """As by Kubernetes since 1.33, every answer about Endpoints carries a warning."""
    path = "/api/v1/namespaces/default/endpoints"
    warning = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    assert (await api.post(path, {"metadata": {"name": "e"}})).headers["Warning"] == warning
    assert (await api.get(path)).headers["Warning"] == warning


async def test_events_are_forgotten_after_an_hour(api: Client) -> None:
    """A lab that runs for days does not fill up with Events; recent ones stay."""
    path = "/api/v1/namespaces/default/events"
    times = {"old": "2026-01-01T00:00:00Z", "new": "2026-01-01T02:00:00Z"}
    for name, text in times.items():
        body = {"metadata": {"name": name}, "involvedObject": {"kind": "Pod"}, "lastTimestamp": text}
        assert (await api.post(path, body)).status == 201
    store = api.running.api.store
    two_in_the_night = 1_767_232_800.0
    for name, text in times.items():
        stored = store.get("events", "default", name)
        assert stored is not None
        obj = stored.obj()
        obj["metadata"]["creationTimestamp"] = text
        store.put("events", obj)
    assert forget_events(store, two_in_the_night + 60) == 1
    assert [item["metadata"]["name"] for item in (await api.get(path)).body["items"]] == ["new"]
