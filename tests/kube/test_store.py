"""The store: pure state in, changes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podidentity.api.core import Pod, PodStatus
from podidentity.api.meta import ObjectMeta
from podidentity.kube.store import BOOKMARK, DELETED, MODIFIED, UNREADABLE, Change, Store, WatchEvent, split


def pod(name: str, uid: str = "u", version: str = "1", ip: str = "") -> Pod:
    """A pod."""
    meta = ObjectMeta(name=name, namespace="ns", uid=uid, resource_version=version)
    return Pod(metadata=meta, status=PodStatus(pod_ip=ip))


def by_ip() -> Store[Pod]:
    """A store with an index."""
    return Store({"ip": lambda one: [one.status.pod_ip] if one.status.pod_ip else []})


def test_bookmark_and_unknown_deletion_change_nothing() -> None:
    """Bookmarks, deletions of what is not there and unreadable strangers are no change."""
    store = by_ip()
    assert store.apply(WatchEvent(BOOKMARK, None, "5")) is None
    assert store.apply(WatchEvent(DELETED, pod("a"), "5", "ns/a")) is None
    assert store.apply(WatchEvent(UNREADABLE, None, "5", "ns/a")) is None


def test_same_version_is_no_change() -> None:
    """An event that is already known (a re-list overlapped) is not told twice."""
    store = by_ip()
    assert store.replace_all([pod("a")]) == [Change(None, pod("a"))]
    assert store.apply(WatchEvent(MODIFIED, pod("a"), "1", "ns/a")) is None
    assert store.replace_all([pod("a")]) == []


def test_objects_without_versions_are_compared_by_content() -> None:
    """Without resource versions (hand-made objects) equal content is no change, other content is."""
    store = by_ip()
    store.replace_all([pod("a", version="")])
    assert store.replace_all([pod("a", version="")]) == []
    assert len(store.replace_all([pod("a", version="", ip="1.1.1.1")])) == 1


def test_deletion_tells_the_final_state() -> None:
    """The deleted object is its last state when it is the same object, the stored one when a stranger is named."""
    store = by_ip()
    store.replace_all([pod("a")])
    last = pod("a", version="9", ip="1.1.1.1")
    assert store.apply(WatchEvent(DELETED, last, "9", "ns/a")) == Change(last, None)
    store.replace_all([pod("a")])
    assert store.apply(WatchEvent(DELETED, pod("a", uid="x"), "9", "ns/a")) == Change(pod("a"), None)


def test_split() -> None:
    """Only another uid makes two changes of one."""
    assert split(Change(pod("a"), pod("a", version="2"))) == (Change(pod("a"), pod("a", version="2")),)
    assert split(Change(pod("a"), pod("a", uid="v"))) == (Change(pod("a"), None), Change(None, pod("a", uid="v")))


names = st.sampled_from("abcd")
uids, versions, ips = st.sampled_from("uv"), st.sampled_from("123"), st.sampled_from(["", "x", "y"])
pods = st.builds(pod, names, uids, versions, ips)
events = st.tuples(st.sampled_from([MODIFIED, DELETED]), pods)
steps = st.lists(st.one_of(st.lists(pods, max_size=5), events), max_size=12)


@given(steps)
def test_changes_replayed_give_the_store(history: list[list[Pod] | tuple[str, Pod]]) -> None:
    """Who applies every change told ends with what the store holds, and each index equals a scan."""
    store, replica = by_ip(), dict[str, Pod]()
    for step in history:
        if isinstance(step, list):
            changes = store.replace_all(step)
        else:
            change = store.apply(WatchEvent(step[0], step[1], "", step[1].key))
            changes = [*split(change)] if change else []
        for one in changes:
            if one.old is not None:
                assert one.old.key in replica
                del replica[one.old.key]
            if one.new is not None:
                assert one.new.key not in replica
                replica[one.new.key] = one.new
        assert {item.key: item for item in store.values()} == replica
        for ip in ("x", "y"):
            scan = {item.key for item in replica.values() if item.status.pod_ip == ip}
            assert {item.key for item in store.by_index("ip", ip)} == scan
        assert len(store) == len(replica)
        assert all(store.get(key) is value for key, value in replica.items())
