"""kubectl get, describe, events, explain and what it asks about the server: both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable

from tests.kubectl.clusters import Pair, Step
from tests.kubectl.objects import CONFIG_MAP, DAEMON_SET, DEPLOYMENT, EVENT, PODS, REPLICA_SET

Play = Callable[..., None]


def test_get(play: Play) -> None:
    """Every way to print and to select prints the same."""
    play(
        Step("get pods", says="No resources found in get namespace."),
        Step("apply -f -", PODS),
        Step("get pods", says="NAME   READY   STATUS    RESTARTS   AGE"),
        Step("get pods -o wide", says="NOMINATED NODE"),
        Step("get pods -o yaml"),
        Step("get pod p1 -o json"),
        Step("get pods -o name", says="pod/p1\npod/p2\n"),
        Step("get pods -o jsonpath='{.items[*].metadata.name}'", says="p1 p2"),
        Step("get pods -o custom-columns=N:.metadata.name,I:.spec.containers[0].image", says="p2    x:1"),
        Step("get pods -o go-template='{{range .items}}{{.metadata.name}} {{end}}'", says="p1 p2"),
        Step("get pods --show-labels", says="app=b"),
        Step("get pods -L app", says="APP"),
        Step("get pods --no-headers"),
        Step("get pods --sort-by=.metadata.name"),
        Step("get pods --sort-by=.metadata.labels.app -o wide"),
        Step("get pods --chunk-size=1", says="p2"),
        Step("get pods --chunk-size=1 -o name", says="p2"),
        Step("get pods,cm", says="configmap/kube-root-ca.crt"),
        Step("get pod/p1 cm/kube-root-ca.crt"),
        Step("get all", says="pod/p1"),
        Step("get pods p2 p1"),
        Step("get pods p1 nope", code=1, says='pods "nope" not found'),
        Step("get pods nope --ignore-not-found"),
        Step("get pods nope", code=1, says='Error from server (NotFound): pods "nope" not found'),
        Step("get foos", code=1, says="doesn't have a resource type"),
        Step("get pods --show-managed-fields -o name"),
        Step("get -f - -o name", PODS),
    )


def test_selectors(play: Play) -> None:
    """Labels and fields select the same objects, and the same selectors are refused."""
    play(
        Step("apply -f -", PODS),
        Step("get pods -l app=a -o name", says="pod/p1\n"),
        Step("get pods -l app!=a -o name", says="pod/p2\n"),
        Step("get pods -l 'app in (a,b),!x' -o name", says="pod/p2\n"),
        Step("get pods -l 'app notin (a)' -o name", says="pod/p2\n"),
        Step("get pods -l app -o name", says="pod/p2\n"),
        Step("get pods --field-selector metadata.name=p2 -o name", says="pod/p2\n"),
        Step("get pods --field-selector metadata.name!=p2,status.phase=Pending -o name", says="pod/p1\n"),
        Step("get pods --field-selector spec.nodeName= -o name", says="pod/p1\n"),
        Step("get pods --field-selector spec.nodeName=n -o name"),
        Step("get pods --field-selector spec.foo=p2", code=1, says="field label not supported: spec.foo"),
        Step("get cm --field-selector data.a=p2", code=1, says="not a known field selector"),
        Step("get secrets --field-selector type=Opaque -o name"),
        Step("get pods -A -l app=a -o wide --field-selector metadata.namespace=selectors", says="NAMESPACE"),
        Step("get pods -A --field-selector metadata.namespace=selectors -o name", says="p1"),
    )


def test_tables(play: Play) -> None:
    """Each kind of the lab has the columns of the real server, narrow and wide."""
    play(
        Step("create sa robot"),
        Step("create secret generic s --from-literal=a=1"),
        Step("create role r --verb=get --resource=pods"),
        Step("create rolebinding r --role=r --serviceaccount=tables:robot --user=u --group=g"),
        Step("create service clusterip s --tcp=80:8080"),
        Step("apply -f -", f"{DEPLOYMENT}---{DAEMON_SET}---{REPLICA_SET}"),
        Step("get secret,sa,role,rolebinding", says="Opaque"),
        Step("get secret,sa,role,rolebinding -o wide", says="SERVICEACCOUNTS"),
        Step("get deploy,ds,rs", says="UP-TO-DATE"),
        Step("get deploy,ds,rs -o wide", says="CONTAINERS"),
        Step("get ns tables"),
        Step("get ns tables -o yaml"),
        Step("get lease,endpoints", code=0),
        Step("get clusterrole cluster-admin"),
        Step("get clusterrolebinding cluster-admin -o wide", says="system:masters"),
        Step("get svc -n default", says="PORT(S)"),
        Step("get cm kube-root-ca.crt"),
        Step("get deploy -o yaml"),
        Step("get ds ds1 -o yaml"),
        Step("get rs -o yaml"),
    )


def test_describe(pair: Pair, play: Play) -> None:
    """Describe reads the objects, what hangs on them, and their Events."""
    play(Step("apply -f -", f"{PODS}---{DEPLOYMENT}---{DAEMON_SET}---{REPLICA_SET}---{CONFIG_MAP}"))
    for cluster in (pair.real, pair.embedded):
        uid = cluster.kubectl("get", "pod", "p1", "-n", "describe", "-o", "jsonpath={.metadata.uid}").out
        event = EVENT.replace("NAMESPACE", "describe").replace("UID", uid)
        assert cluster.kubectl("create", "-n", "describe", "-f", "-", stdin=event).out == "event/p1.1 created\n"
    play(
        Step("create secret generic s --from-literal=a=1"),
        Step("create role r --verb=get --resource=pods --resource-name=x"),
        Step("create rolebinding r --role=r --serviceaccount=describe:default"),
        Step("describe pod p1", says="it was pulled"),
        Step("describe pods", says="Name:             p2"),
        Step("describe pods -l app=b", says="Name:             p2"),
        Step("describe pod nope", code=1, says='pods "nope" not found'),
        Step("describe pod p", says="Name:             p2"),
        Step("describe deploy d1", says="Pod Template:"),
        Step("describe ds ds1", says="Node-Selector"),
        Step("describe rs rs1", says="Replicas:"),
        Step("describe sa default", says="Tokens:"),
        Step("describe secret s", says="a:  1 bytes"),
        Step("describe cm c1", says="BinaryData"),
        Step("describe role r", says="[get]"),
        Step("describe rolebinding r", says="ServiceAccount"),
        Step("describe clusterrole cluster-admin", says="*.*"),
        Step("describe clusterrolebinding cluster-admin", says="system:masters"),
        Step("get events", says="pod/p1"),
        Step("get events -o wide", says="kubelet, node1"),
        Step("events", says="it was pulled"),
        Step("events --for pod/p1", says="it was pulled"),
        Step("events --for pod/p2", says="No events found"),
        Step("get events --field-selector reason=Pulled,involvedObject.name=p1,type=Normal -o name", says="event/p1.1"),
    )


def test_about_the_server(play: Play) -> None:
    """What kubectl tells about the server; kinds of the embedded one are a part of the real one's."""
    play(
        Step("version", says="Server Version: v1.34.4"),
        Step("cluster-info", says="Kubernetes control plane"),
        Step("api-versions", alike="among"),
        Step("api-resources", alike="among"),
        Step("api-resources -o wide", alike="among"),
        Step("api-resources --api-group=apps -o name --verbs=list", alike="among"),
        Step("get --raw /healthz", says="ok"),
        Step("get --raw /readyz", says="ok"),
        Step("get --raw /api/v1/namespaces/about-the-server/pods", says="PodList"),
        Step("get --raw /nope", code=1, says="(NotFound)"),
        Step("get --raw /api/v1/nope", code=1, says="(NotFound)"),
        Step("top pods", code=1, says="Metrics API not available"),
        Step("explain pod.spec.nope", code=1, says='field "nope" does not exist'),
        Step("explain nope", code=1, says="doesn't have a resource type"),
    )
