"""kubectl apply, diff, edit, patch, replace, label, annotate, delete, wait: both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable

from tests.kubectl.clusters import Step
from tests.kubectl.objects import CONFIG_MAP, DAEMON_SET, DEPLOYMENT, POD, PODS

Play = Callable[..., None]
TWO, THREE = CONFIG_MAP.replace('"1"', '"2"'), CONFIG_MAP.replace('"1"', '"3"')


def test_apply(play: Play) -> None:
    """Apply creates, configures, leaves alone, and only pretends to when told so; diff agrees with it."""
    play(
        Step("diff -f -", CONFIG_MAP, code=1, says='+  a: "1"'),
        Step("apply -f - --dry-run=server", CONFIG_MAP, says="configmap/c1 created (server dry run)"),
        Step("get cm c1", code=1),
        Step("apply -f -", CONFIG_MAP, says="configmap/c1 created"),
        Step("apply -f -", CONFIG_MAP, says="configmap/c1 unchanged"),
        Step("diff -f -", CONFIG_MAP),
        Step("diff -f -", TWO, code=1, says='+  a: "2"'),
        Step("apply -f - --dry-run=server", TWO, says="configmap/c1 configured (server dry run)"),
        Step("apply -f - --dry-run=client", TWO, says="configmap/c1 configured (dry run)"),
        Step("get cm c1 -o jsonpath={.data.a}", says="1"),
        Step("apply -f - -o yaml", TWO, says='a: "2"'),
        Step("apply -f -", CONFIG_MAP + "dat: {}\n", code=1, says='unknown field "dat"'),
        Step("apply view-last-applied cm c1", says='a: "2"'),
        Step("apply -f - --prune --all --prune-allowlist=core/v1/ConfigMap", TWO, says="configmap/c1 unchanged"),
        Step("get cm", says="c1"),
    )


def test_apply_workloads(play: Play) -> None:
    """A strategic merge patch changes one container and one variable of it, and takes back what a file leaves out."""
    variables = "env: [{name: A, value: a}, {name: B, value: b}]"
    other = DEPLOYMENT.replace("x:1", "x:2").replace("args: [--flag]", variables)
    play(
        Step("apply -f -", f"{DEPLOYMENT}---{DAEMON_SET}", says="daemonset.apps/ds1 created"),
        Step("apply -f -", f"{DEPLOYMENT}---{DAEMON_SET}", says="daemonset.apps/ds1 unchanged"),
        Step("diff -f -", other, code=1, says="+      - env:"),
        Step("apply -f -", other, says="deployment.apps/d1 configured"),
        Step("get deploy d1 -o jsonpath='{.spec.template.spec.containers[0]}'", says="x:2"),
        Step("apply -f -", other.replace("{name: A, value: a}, ", "").replace("cpu: 10m", "cpu: 20m")),
        Step("get deploy d1 -o yaml", says="cpu: 20m"),
        Step("set image deploy/d1 *=y:3", says="image updated"),
        Step("apply -f -", DEPLOYMENT, says="configured"),
        Step("get deploy d1 -o yaml", says="x:1"),
        Step("apply -f -", DEPLOYMENT.replace("app: d}", "app: e}"), code=1, says="field is immutable"),
        Step("apply -f -", DAEMON_SET.replace("x:1", "x:2"), says="daemonset.apps/ds1 configured"),
        Step("get ds ds1 -o yaml", says='template.generation: "2"'),
    )


def test_patch(play: Play) -> None:
    """Each patch type, what does not change anything, and what cannot be applied."""
    play(
        Step("apply -f -", f"{CONFIG_MAP}---{DEPLOYMENT}---{POD}"),
        Step("""patch cm c1 -p '{"data":{"x":"y"}}'""", says="configmap/c1 patched\n"),
        Step("""patch cm c1 -p '{"data":{"x":"y"}}'""", says="configmap/c1 patched (no change)"),
        Step("""patch cm c1 --type merge -p '{"data":{"x":null,"z":"1"}}'""", says="patched\n"),
        Step("""patch cm c1 --type json -p '[{"op":"remove","path":"/data/z"}]'""", says="patched\n"),
        Step("""patch cm c1 --type json -p '[{"op":"remove","path":"/data/z"}]'""", code=1, says="rejected"),
        Step("""patch cm c1 --type json -p '[{"op":"test","path":"/data/a","value":"9"}]'""", code=1),
        Step("""patch cm c1 --type json -p '{}'""", code=1, says="error decoding patch"),
        Step("""patch cm c1 --type json -p '[{"op":"nope","path":"/data/a","value":"9"}]'""", code=1),
        Step("""patch cm c1 -p '{"dta":{"x":"1"}}'""", says='Warning: unknown field "dta"'),
        Step("""patch cm c1 -p x""", code=1, says="cannot unmarshal string into Go value"),
        Step("""patch cm c1 --type merge -p '{"data":{"x":1}}'""", code=1, says="of type string"),
        Step("""patch cm nope -p '{"data":{"x":"1"}}'""", code=1, says="not found"),
        Step("get cm c1 -o yaml"),
        Step(
            """patch deploy d1 -p '{"spec":{"template":{"spec":{"containers":[{"name":"b","image":"b"}]}}}}'""",
            says="patched",
        ),
        Step(
            """patch deploy d1 -p '{"spec":{"template":{"spec":{"containers":[{"image":"b"}]}}}}'""",
            code=1,
            says="does not contain declared merge key: name",
        ),
        Step("""patch deploy d1 -p '{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}'"""),
        Step("get deploy d1 -o yaml", says="Recreate"),
        Step("""patch deploy d1 -p '{"spec":{"selector":{"matchLabels":{"x":"y"}}}}'""", code=1, says="immutable"),
        Step("""patch pod p1 --subresource=status -p '{"status":{"phase":"Running"}}'""", says="patched"),
        Step("""patch pod p1 -p '{"status":{"phase":"Failed"}}'""", says="no change"),
        Step("get pod p1 -o jsonpath={.status.phase}", says="Running"),
        Step("set image pod/p1 main=y:2", says="image updated"),
        Step("""patch pod p1 -p '{"spec":{"hostNetwork":true}}'""", code=1, says="may not change", alike="first"),
        Step("""patch ns default -p '{"metadata":{"name":"other"}}'""", code=1),
    )


def test_edit_replace_label_annotate(play: Play) -> None:
    """The other verbs that write, with what they refuse."""
    play(
        Step("create -f -", CONFIG_MAP, says="configmap/c1 created"),
        Step("create -f -", CONFIG_MAP, code=1, says='Error from server (AlreadyExists): error when creating "STDIN"'),
        Step("edit cm c1", editor="true", says="Edit cancelled, no changes made."),
        Step("edit cm c1", editor="""sed -i 's/a: "1"/a: "7"/'""", says="configmap/c1 edited"),
        Step("get cm c1 -o jsonpath={.data}", says='{"a":"7"}'),
        Step("replace -f -", TWO, says="configmap/c1 replaced"),
        Step("replace -f -", TWO.replace("{name: c1}", '{name: c1, resourceVersion: "1"}'), code=1, says="(Conflict)"),
        Step("replace -f -", TWO.replace("c1", "nope"), code=1, says="not found"),
        Step("replace --force -f -", THREE, says="replaced"),
        Step("label cm c1 a=b", says="labeled"),
        Step("label cm c1 a=c", code=1, says="--overwrite"),
        Step("label cm c1 a=c --overwrite", says="labeled"),
        Step("label cm c1 a=c --overwrite", says="not labeled"),
        Step("label cm c1 --list", says="a=c"),
        Step("label cm c1 a-", says="unlabeled"),
        Step("label cm c1 a=b --resource-version=1", code=1, says="modified"),
        Step("label cm --all b=c", says="kube-root-ca.crt labeled"),
        Step("label cm c1 a=!!", code=1, says="invalid label value"),
        Step("annotate cm c1 a='b c'", says="annotated"),
        Step("annotate cm c1 --list", says="a=b c"),
        Step("annotate cm c1 a-", says="annotated"),
        Step("get cm c1 -o yaml"),
        Step("apply -f -", TWO, says="missing the kubectl.kubernetes.io/last-applied-configuration annotation"),
        Step("apply set-last-applied -f -", TWO, says="configured"),
    )


def test_delete_and_wait(play: Play) -> None:
    """Delete by name, file, label, all, now and by force; wait for conditions, fields, creation and the end."""
    play(
        Step("apply -f -", f"{PODS}---{CONFIG_MAP}---{DEPLOYMENT}"),
        Step("delete -f -", CONFIG_MAP, says='configmap "c1" deleted from delete-and-wait namespace'),
        Step("delete -f -", CONFIG_MAP, code=1, says='configmaps "c1" not found'),
        Step("delete cm c1 --ignore-not-found"),
        Step("delete pod p1 --dry-run=server", says="(server dry run)"),
        Step("delete pod -l app=a --now", says='pod "p1" deleted'),
        Step("delete pod p2 --grace-period=0 --force", says="force deleted"),
        Step("delete pod p2 --wait=false", code=1, says="not found"),
        Step("delete pod -l app=a", says="No resources found"),
        Step("apply -f -", PODS),
        Step("""patch pod p1 --subresource=status -p '{"status":{"phase":"Running"}}'"""),
        Step("wait pod/p1 --for=jsonpath={.status.phase}=Running --timeout=5s", says="pod/p1 condition met"),
        Step("wait pod/p1 --for=condition=Ready --timeout=1s", code=1, says="timed out waiting for the condition"),
        Step("wait pod/p1 --for=create --timeout=5s", says="condition met"),
        Step("wait pod/nope --for=create --timeout=1s", code=1, says="timed out waiting for the condition"),
        Step("wait pod -l app=b --for=jsonpath={.status.phase}=Pending --timeout=5s", says="pod/p2 condition met"),
        Step("delete pod --all --timeout=20s", says='pod "p2" deleted'),
        Step("wait pod/p1 --for=delete --timeout=5s"),
        Step("wait pod/p1 --for=condition=Ready --timeout=1s", code=1, says='pods "p1" not found'),
        Step("delete nope x", code=1, says="doesn't have a resource type"),
        Step("delete ns default --wait=false", code=1, says="this namespace may not be deleted"),
    )
