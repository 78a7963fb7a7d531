"""What is typed less often: raw requests, whole-cluster dumps, other client features; both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable

from tests.kubectl.clusters import Pair, Step
from tests.kubectl.objects import CONFIG_MAP, DEPLOYMENT, EVENT, POD, PODS, REPLICA_SET

Play = Callable[..., None]
RAW = "/api/v1/namespaces/raw-requests/configmaps"
OWNED = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: owned
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: c1, uid: UID}]
"""


def test_raw_requests(play: Play) -> None:
    """Raw requests of each verb are answered with the same documents and refusals."""
    body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c1"},"data":{"a":"1"}}'
    play(
        Step(f"create --raw {RAW} -f -", body, says='"name":"c1"', alike="nothing"),
        Step(f"create --raw {RAW} -f -", body, code=1, says="AlreadyExists"),
        Step(f"replace --raw {RAW}/c1 -f -", body.replace('"1"', '"2"'), says='"a":"2"', alike="nothing"),
        Step(f"replace --raw {RAW}/c2 -f -", body, code=1, says="does not match the name on the URL"),
        Step(f"get --raw {RAW}?labelSelector=a%3D%3D%3Db", code=1, says="unable to parse requirement", alike="nothing"),
        Step(f"get --raw {RAW}?limit=x", code=1, says="invalid syntax"),
        Step(f"get --raw {RAW}/c1/status", code=1, says="NotFound"),
        Step(f"create --raw {RAW} -f -", "nonsense", code=1, says="json parse error", alike="nothing"),
        Step(f"create --raw {RAW} -f -", "", code=1, says="json parse error", alike="nothing"),
        Step(f"delete --raw {RAW}/c1", says="Success", alike="nothing"),
        Step(f"delete --raw {RAW}/c1", code=1, says="NotFound"),
        Step("get --raw /apis/apps", says="APIGroup", alike="nothing"),
        Step("get --raw /apis/apps/v1", says="APIResourceList", alike="nothing"),
        Step("get --raw /apis/nope", code=1, says="NotFound"),
        Step("get --raw /version", says="v1.34.4", alike="nothing"),
        Step("get --raw /livez", says="ok"),
    )


def test_other_client_features(pair: Pair, play: Play) -> None:
    """A kubectl that lists by watching, or takes other encodings, is told the same."""
    play(Step("apply -f -", f"{PODS}---{CONFIG_MAP}"))
    for feature in ("WatchListClient", "ClientsAllowCBOR", "ClientsPreferCBOR", "InformerResourceVersion"):
        env = {f"KUBE_FEATURE_{feature}": "true", "KUBE_FEATURE_ClientsAllowCBOR": "true"}
        for words in (
            ("get", "pods", "-o", "name"),
            ("label", "pods", "--all", "x=y", "--overwrite"),
            ("create", "configmap", feature.lower(), "--from-literal=a=1"),
            ("wait", "pod/p1", "--for=jsonpath={.status.phase}=Pending", "--timeout=5s"),
            ("delete", "configmap", feature.lower(), "--timeout=10s"),
        ):
            real, embedded = pair.say("-n", "other-client-features", *words, env=env)
            assert real.normal() == embedded.normal(), (feature, words)
            assert real.code == 0, real


def test_events_as_they_come(pair: Pair, play: Play) -> None:
    """Events are followed, in both ways there are."""
    space = "events-as-they-come"
    play(Step("apply -f -", POD))
    for number, words in enumerate((["get", "events", "-w"], ["events", "-w"], ["events", "--for", "pod/p1", "-w"])):
        event = EVENT.replace("NAMESPACE", space).replace("p1.1", f"p1.{number}").replace("uid: UID", "fieldPath: x")
        with pair.watching(space, *words) as rows:
            if number:  # the first finds none, and says nothing until one comes
                rows.arrive(1 + number, str(words))
            for cluster in (pair.real, pair.embedded):
                said = cluster.kubectl("create", "-n", space, "-f", "-", stdin=event)
                assert said.code == 0, said
            rows.arrive(2 + number, str(words))


def test_cascades(pair: Pair, play: Play) -> None:
    """What a deletion does about owned objects is written down as on the real server."""
    play(Step("apply -f -", f"{CONFIG_MAP}---{REPLICA_SET}---{DEPLOYMENT}"))
    for cluster in (pair.real, pair.embedded):
        uid = cluster.kubectl("get", "cm", "c1", "-n", "cascades", "-o", "jsonpath={.metadata.uid}").out
        made = cluster.kubectl("create", "-n", "cascades", "-f", "-", stdin=OWNED.replace("UID", uid))
        assert made.code == 0, made
    play(
        Step("get cm owned -o jsonpath={.metadata.ownerReferences[0].name}", says="c1"),
        Step("delete rs rs1 --cascade=nope", code=1, says="invalid cascade value"),
        Step("delete rs rs1 --cascade=background", says="deleted"),
        Step("delete deploy d1 --dry-run=client", says="(dry run)"),
        Step("delete deploy d1 --dry-run=server --cascade=foreground", says="(server dry run)"),
        Step("get deploy d1 -o jsonpath={.metadata.finalizers}"),
    )


def test_last_applied(play: Play) -> None:
    """The record of the last apply is edited, set and read; pruning takes what is no longer named."""
    labelled = CONFIG_MAP.replace("{name: c1}", "{name: c1, labels: {set: a}}")
    other = labelled.replace("c1", "c2")
    prune = "--prune --prune-allowlist=core/v1/ConfigMap -l set=a"
    play(
        Step("apply -f -", f"{labelled}---{other}", says="configmap/c2 created"),
        Step("apply edit-last-applied cm c1", editor="""sed -i 's/a: "1"/a: "5"/'""", says="edited"),
        Step("apply view-last-applied cm c1", says='a: "5"'),
        Step("apply view-last-applied cm -l set=a -o json", says='"c2"'),
        Step("apply set-last-applied -f - --create-annotation", labelled, says="configured"),
        Step(f"apply -f - {prune} --dry-run=server", labelled, says="configmap/c2 pruned (server dry run)"),
        Step(f"apply -f - {prune}", labelled, says="configmap/c2 pruned"),
        Step("get cm -l set=a -o name", says="configmap/c1"),
        Step("create cm c3 --from-literal=a=1 --save-config", says="created"),
        Step("apply view-last-applied cm c3", says="c3"),
        Step(
            "create -f - --edit", CONFIG_MAP.replace("c1", "c4"), editor="sed -i s/c4/c5/", says="configmap/c5 created"
        ),
    )
