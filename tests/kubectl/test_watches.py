"""kubectl get -w and wait: what is told of each change, and when they end; both servers answer alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.kubectl.clusters import LINE_SECONDS, Pair, Step, embedded_cluster
from tests.kubectl.objects import CONFIG_MAP, POD, PODS
from tests.ports import free_port
from tests.real_server import kubernetes_programs

Play = Callable[..., None]
RUNNING = """patch pod p1 --subresource=status -p '{"status":{"phase":"Running"}}'"""


def test_watching_a_list(pair: Pair, play: Play) -> None:
    """Every change of a pod is a row: made, changed, deleted, and none for what the selector leaves out."""
    play(Step("apply -f -", PODS))
    with pair.watching("watching-a-list", "get", "pods", "-w") as rows:
        rows.arrive(3)
        play(Step(RUNNING))
        rows.arrive(4)
        play(Step("apply -f -", POD.replace("p1", "p3")))
        rows.arrive(5)
        play(Step("delete pod p2 --grace-period=0 --force"))
        rows.arrive(7)  # first it is terminating, then gone
    with pair.watching("watching-a-list", "get", "pods", "-w", "-l", "app=b", "--no-headers") as rows:
        play(Step("label pod p3 app=b --overwrite"))
        rows.arrive(1)
        play(Step("label pod p3 x=y"))
        rows.arrive(2)
        play(Step("label pod p3 app=a --overwrite"))
        rows.arrive(3)


def test_watching_in_other_forms(pair: Pair, play: Play) -> None:
    """One object, only its changes, names, whole objects, all namespaces, and the events' types."""
    space = "watching-in-other-forms"
    play(Step("apply -f -", f"{POD}---{CONFIG_MAP}"))
    forms = {
        "one object": (["get", "pod", "p1", "-w"], 3),
        "names": (["get", "pods", "-w", "-o", "name"], 2),
        "fields": (["get", "pods", "-w", "-o", 'jsonpath={.status.phase}{"\\n"}'], 2),
        "events' types": (["get", "pods", "-w", "--output-watch-events"], 3),
        "columns": (["get", "pods", "-w", "-o", "custom-columns=N:.metadata.name,P:.status.phase"], 3),
        "everywhere": (["get", "pods", "-A", "-w", "--field-selector", f"metadata.namespace={space}"], 3),
        "wide": (["get", "pods", "-w", "-o", "wide", "--field-selector", "metadata.name=p1"], 3),
        "labels": (["get", "pods", "-w", "--show-labels", "-L", "app"], 3),
    }
    for number, (form, (words, count)) in enumerate(forms.items()):
        with pair.watching(space, *words) as rows:
            rows.arrive(count - 1, form)
            play(Step(f"label pod p1 a{number}=b"))
            rows.arrive(count, form)


def test_waiting(pair: Pair, play: Play) -> None:
    """A wait ends when the condition comes, the field gets its value, the object is made or gone."""
    space = "waiting"
    play(Step("apply -f -", POD))
    ready = """patch pod p1 --subresource=status -p '{"status":{"conditions":[{"type":"Ready","status":"STATUS"}]}}'"""
    label = "{.metadata.labels.x}"
    stories = (
        ("--for=condition=Ready", ready.replace("STATUS", "True")),
        ("--for=condition=Ready=False", ready.replace("STATUS", "False")),
        ("--for=jsonpath={.status.phase}=Running", RUNNING),
        (f"--for=jsonpath={label}", "label pod p1 x=y"),
        ("--for=delete", "delete pod p1 --grace-period=0 --force"),
        ("--for=create", "apply -f -"),
    )
    for what, command in stories:
        with pair.watching(space, "wait", "pod/p1", what, "--timeout=30s") as rows:
            play(Step(command, POD if command.startswith("apply") else ""))
            assert rows.codes() == (0, 0), what
            if what != "--for=delete":  # kubectl says nothing when its first look finds nothing
                rows.arrive(1, what)
    play(
        Step("wait pod --all --for=jsonpath={.status.phase}=Pending --timeout=5s", says="condition met"),
        Step("wait pod/p1 --for=delete --timeout=2s", code=1, says="timed out waiting for the condition"),
        Step("wait pod/p1 --for=jsonpath={.status.phase}=Running --timeout=2s", code=1, says="timed out"),
        Step("wait pod/p1 --for=jsonpath={.nope} --timeout=2s", code=1),
        Step("wait pod/p1 --for=nope --timeout=2s", code=1, says="unrecognized condition"),
        Step("wait pod --for=delete", code=1, says="resource(s) were provided"),
        Step("wait ns/waiting --for=jsonpath={.status.phase}=Active --timeout=5s", says="condition met"),
        Step("wait pod -l a=none --for=delete --timeout=5s"),
        Step("wait pod -l a=none --for=condition=Ready --timeout=5s", code=1, says="no matching resources found"),
    )


def test_waiting_across_a_restart(tmp_path: Path) -> None:
    """What waits for the end of an object goes on waiting when the embedded API server is started again."""
    programs, port = kubernetes_programs("kubectl"), free_port()
    held = CONFIG_MAP.replace("{name: c1}", "{name: c1, finalizers: [example.org/hold]}")
    with ExitStack() as stack:
        with embedded_cluster(tmp_path, programs, port) as cluster:
            assert cluster.kubectl("apply", "-f", "-", stdin=held).code == 0
            deleting = stack.enter_context(cluster.start("delete", "cm", "c1", "--timeout=40s", "-v=6"))
            assert deleting.says("watch=true")
        with embedded_cluster(tmp_path, programs, port) as cluster:
            assert deleting.process.poll() is None
            loose = cluster.kubectl("patch", "cm", "c1", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
            assert loose.code == 0, loose
            assert deleting.process.wait(LINE_SECONDS) == 0, deleting.lines
            assert cluster.kubectl("get", "cm", "c1").code == 1


def test_a_held_object(play: Play) -> None:
    """A finalizer keeps an object terminating; delete and wait end when it is taken away."""
    held = CONFIG_MAP.replace("{name: c1}", "{name: c1, finalizers: [example.org/hold]}")
    play(
        Step("apply -f -", held),
        Step("delete cm c1 --timeout=2s", code=1, says="timed out waiting for the condition on configmaps/c1"),
        Step("get cm c1 -o jsonpath={.metadata.finalizers}", says="example.org/hold"),
        Step("delete cm c1 --wait=false", says="deleted"),
        Step(
            """patch cm c1 --type=merge -p '{"metadata":{"finalizers":["example.org/other"]}}'""",
            code=1,
            says="no new finalizers can be added",
        ),
        Step("""patch cm c1 --type=merge -p '{"metadata":{"finalizers":null}}'""", says="patched"),
        Step("get cm c1", code=1, says="not found"),
    )
