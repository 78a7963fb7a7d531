"""Lists and watches: versions, selectors, pages, bookmarks, 410, Tables."""

from __future__ import annotations

import asyncio

import pytest
from tests.lab.kube.wire import CONFIG_MAPS, PODS, Client, client_session, config_map, pod

from podidentity.lab.kube import ApiConfig, Running, serve

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def revision(api: Client, path: str = CONFIG_MAPS) -> str:
    """Return the version of a collection."""
    return str((await api.get(path)).body["metadata"]["resourceVersion"])


async def test_watch_tells_what_happens_after_the_list(api: Client) -> None:
    """From a list's version on, every change comes once and in order."""
    await api.post(CONFIG_MAPS, config_map("before"))
    watch = await api.watch(CONFIG_MAPS, resourceVersion=await revision(api))
    await api.post(CONFIG_MAPS, config_map("a"))
    await api.patch(f"{CONFIG_MAPS}/a", {"data": {"k": "v"}})
    await api.delete(f"{CONFIG_MAPS}/a")
    assert await watch.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    watch.close()


async def test_watch_without_version_begins_with_everything(api: Client) -> None:
    """No version, or 0, starts with an ADDED for each object there is."""
    await api.post(CONFIG_MAPS, config_map("a"))
    for params in ({}, {"resourceVersion": "0"}):
        watch = await api.watch(CONFIG_MAPS, **params)
        assert await watch.names(1) == [("ADDED", "a")]
        watch.close()


async def test_watch_replays_history(api: Client) -> None:
    """A watch of an older version that is remembered misses nothing."""
    start = await revision(api)
    await api.post(CONFIG_MAPS, config_map("a"))
    await api.delete(f"{CONFIG_MAPS}/a")
    watch = await api.watch(CONFIG_MAPS, resourceVersion=start)
    assert await watch.names(2) == [("ADDED", "a"), ("DELETED", "a")]
    watch.close()


async def test_selector_turns_changes_into_coming_and_going(api: Client) -> None:
    """An object that begins to match is ADDED, one that ceases to is DELETED."""
    watch = await api.watch(CONFIG_MAPS, resourceVersion=await revision(api), labelSelector="on=yes")
    await api.post(CONFIG_MAPS, config_map("a"))
    await api.patch(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"on": "yes"}}})
    await api.patch(f"{CONFIG_MAPS}/a", {"data": {"k": "v"}})
    await api.patch(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"on": "no"}}})
    assert await watch.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    watch.close()


async def test_deleted_event_carries_the_deletion_version(api: Client) -> None:
    """A client can go on watching from the version of a DELETED event."""
    watch = await api.watch(CONFIG_MAPS, resourceVersion=await revision(api))
    made = (await api.post(CONFIG_MAPS, config_map("a"))).body
    await api.delete(f"{CONFIG_MAPS}/a")
    await watch.next()
    _, gone = await watch.next()
    assert int(gone["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert gone["metadata"]["resourceVersion"] == await revision(api)
    watch.close()


async def test_forgotten_version_is_expired(api: Client, running: Running) -> None:
    """A watch from before the history answers one ERROR event with code 410, and ends."""
    start = await revision(api)
    await api.post(CONFIG_MAPS, config_map("a"))
    running.forget_history()
    watch = await api.watch(CONFIG_MAPS, resourceVersion=start)
    kind, status = await watch.next()
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
    assert status["message"].startswith("too old resource version: ")
    assert (await watch.next())[0] == "END"


async def test_history_is_bounded() -> None:
    """More changes than are remembered make an old watch expire, a recent one not."""
    async with serve(ApiConfig(history=5)) as running, client_session(running) as session:
        api = Client(session, running)
        versions = [await revision(api)]
        for number in range(10):
            made = (await api.post(CONFIG_MAPS, config_map(f"c{number}"))).body
            versions.append(made["metadata"]["resourceVersion"])
        assert (await (await api.watch(CONFIG_MAPS, resourceVersion=versions[0])).next())[0] == "ERROR"
        recent = await api.watch(CONFIG_MAPS, resourceVersion=versions[5])
        assert await recent.names(5) == [("ADDED", f"c{number}") for number in range(5, 10)]
        recent.close()


async def test_bookmarks_and_timeout() -> None:
    """With allowWatchBookmarks an idle watch says how far it has seen; timeoutSeconds ends it."""
    async with serve(ApiConfig(bookmark_interval=0.2)) as running, client_session(running) as session:
        api = Client(session, running)
        await api.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        watch = await api.watch(CONFIG_MAPS, allowWatchBookmarks="true", timeoutSeconds="1")
        kind, mark = await watch.next()
        assert kind == "BOOKMARK"
        assert mark["kind"] == "ConfigMap"
        assert mark["metadata"]["resourceVersion"] == await revision(api)
        async with asyncio.timeout(3):
            while kind != "END":
                kind, _ = await watch.next()


async def test_initial_events_end_with_a_bookmark(api: Client) -> None:
    """With sendInitialEvents a watch gives all objects, then a bookmark that says so."""
    await api.post(CONFIG_MAPS, config_map("a"))
    watch = await api.watch(
        CONFIG_MAPS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true"
    )
    assert (await watch.next())[0] == "ADDED"
    kind, mark = await watch.next()
    assert kind == "BOOKMARK"
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    watch.close()


async def test_stopping_ends_watches_in_order(api: Client, running: Running) -> None:
    """A server that stops ends its watches cleanly, not in the middle of a line."""
    watch = await api.watch(CONFIG_MAPS)
    running.end_watches()
    assert (await watch.next())[0] == "END"


async def test_pages(api: Client) -> None:
    """Pages by limit and continue give every object once, all pages with the first one's version."""
    for number in range(7):
        await api.post(CONFIG_MAPS, config_map(f"c{number}"))
    found, token, versions = [], "", set()
    while True:
        page = (await api.get(CONFIG_MAPS, params={"limit": "3", "continue": token})).body
        found += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        await api.post(CONFIG_MAPS, config_map(f"later{len(found)}"))
    assert [name for name in found if name.startswith("c")] == [f"c{number}" for number in range(7)]
    assert len(versions) == 1
    assert (await api.get(CONFIG_MAPS, params={"continue": "%%%"})).status == 400


async def test_items_of_built_in_lists_have_no_kind(api: Client) -> None:
    """As on the real server, so that clients that rely on it are found out here."""
    await api.post(PODS, pod("a"))
    found = (await api.get(PODS)).body
    assert found["kind"] == "PodList"
    assert set(found["items"][0]) == {"metadata", "spec", "status"}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("a=1", ["x"]),
        ("a!=1", ["y", "z"]),
        ("a in (1,2)", ["x", "y"]),
        ("a notin (1)", ["y", "z"]),
        ("a", ["x", "y"]),
        ("!a", ["z"]),
        ("a=1,b=1", ["x"]),
        ("a in (1,2),b", ["x"]),
    ],
)
async def test_label_selectors(api: Client, selector: str, names: list[str]) -> None:
    """Equality and set-based terms select as kubectl documents."""
    for name, labels in (("x", {"a": "1", "b": "1"}), ("y", {"a": "2"}), ("z", {})):
        body = config_map(name)
        body["metadata"]["labels"] = labels
        await api.post(CONFIG_MAPS, body)
    found = (await api.get(CONFIG_MAPS, params={"labelSelector": selector})).body["items"]
    assert [item["metadata"]["name"] for item in found] == names


async def test_field_selectors(api: Client) -> None:
    """Pods by node, phase and account, with != too; an unsupported field is 400."""
    await api.post(PODS, pod("a", nodeName="n1", serviceAccountName="s"))
    await api.post(PODS, pod("b"))

    async def names(selector: str) -> list[str]:
        answer = await api.get("/api/v1/pods", params={"fieldSelector": selector})
        return [item["metadata"]["name"] for item in answer.body["items"]]

    assert await names("spec.nodeName=n1") == ["a"]
    assert await names("spec.nodeName=") == ["b"]
    assert await names("spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed") == ["a"]
    assert await names("metadata.name=b,metadata.namespace=default") == ["b"]
    assert await names("spec.serviceAccountName=s") == ["a"]
    refused = await api.get(PODS, params={"fieldSelector": "spec.foo=1"})
    assert (refused.status, refused.message) == (400, "field label not supported: spec.foo")


async def test_tables(api: Client) -> None:
    """A Table has the columns kubectl prints, cells of the right type, and the metadata of each object."""
    await api.post(PODS, pod("a", nodeName="n1"))
    table = (await api.get(PODS, headers={"Accept": TABLE})).body
    assert [column["name"] for column in table["columnDefinitions"]][:5] == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
    ]
    assert table["rows"][0]["cells"][:4] == ["a", "0/1", "Pending", "0"]
    assert table["rows"][0]["object"]["metadata"]["namespace"] == "default"
    single = (await api.get(f"{PODS}/a", headers={"Accept": TABLE}, params={"includeObject": "Object"})).body
    assert single["rows"][0]["object"]["kind"] == "Pod"


async def test_table_watch_names_columns_once(api: Client) -> None:
    """The first event of a Table watch has the column definitions, later ones none."""
    watch = await api.watch(CONFIG_MAPS, accept=TABLE)
    await api.post(CONFIG_MAPS, config_map("a", k="v"))
    await api.post(CONFIG_MAPS, config_map("b"))
    _, first = await watch.next()
    _, second = await watch.next()
    assert first["columnDefinitions"]
    assert second["columnDefinitions"] is None
    assert first["rows"][0]["cells"][:2] == ["a", 1]
    watch.close()


async def test_slow_watcher_is_cut_off_not_waited_for(api: Client, running: Running) -> None:
    """A client that does not read its watch never holds up writers; it is told to list again."""
    body = config_map("big", blob="x" * 20_000)
    await api.post(CONFIG_MAPS, body)
    watch = await api.watch(CONFIG_MAPS)
    store = running.api.store
    big = store.get("configmaps", "default", "big")
    assert big is not None
    for number in range(10_500):
        obj = big.obj()
        obj["data"]["n"] = str(number)
        store.put("configmaps", obj)
    assert (await api.post(CONFIG_MAPS, config_map("after"))).status == 201
    kind = ""
    async with asyncio.timeout(20):
        while kind not in {"ERROR", "END"}:
            kind, _ = await watch.next()
    assert kind == "ERROR"
