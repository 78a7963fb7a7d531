"""The real kubectl on running pods: logs, exec, copies, rollouts; a lab on either API server answers alike."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.conftest import new_lab
from tests.kubectl.clusters import Cluster, Pair, Step
from tests.real_server import kubernetes_programs

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

TALKER = """
apiVersion: v1
kind: Pod
metadata: {name: talker, labels: {app: talker}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "for i in 1 2 3 4 5; do echo line $i; done; echo last; touch /tmp/said; exec sleep 1000"]
    readinessProbe: {periodSeconds: 1, exec: {command: [test, -e, /tmp/said]}}
  - {name: side, image: busybox, command: [sh, -c, "echo aside >&2; exec sleep 1000"]}
"""
DRIP = """
apiVersion: v1
kind: Pod
metadata: {name: drip}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    # kubectl sends --since-time in whole seconds: the two lines are of two
    command:
    - sh
    - -c
    - |
      echo begun; s=$(date +%s)
      while [ ! -e /tmp/go -o $(date +%s) -le $s ]; do sleep 0.1; done
      echo went; exit 3
"""
CRASH = """
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers: [{name: main, image: busybox, command: [sh, -c, "echo I fail; exit 4"]}]
"""
UNKNOWN = """
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec:
  containers: [{name: main, image: example.org/no/such:image}]
"""
DAEMONS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox
        command: [sh, -c, "echo present; touch /tmp/said; exec sleep 1000"]
        readinessProbe: {periodSeconds: 1, exec: {command: [test, -e, /tmp/said]}}
"""
RESTARTS = "{.status.containerStatuses[0].restartCount}"
REASON = "{.status.containerStatuses[0].state.waiting.reason}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def labs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """A lab of one node on each API server."""
    programs = kubernetes_programs("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
    async with AsyncExitStack() as stack:
        clusters = []
        for kind in ("real", "embedded"):
            lab = await stack.enter_async_context(new_lab(nodes=1, api_server=kind))
            pki, kubeconfig = lab.layout.pki, lab.layout.kubeconfig
            cache = tmp_path_factory.mktemp(kind)
            clusters.append(Cluster(kind, programs, f"https://127.0.0.1:{lab.spec.port}", pki, kubeconfig, cache))
        pair = Pair(*clusters)
        try:
            yield pair
        finally:
            pair.close()


async def play(labs: Pair, *story: Step) -> None:
    """Type commands in namespace default of both labs, which answer alike."""
    complaints = await asyncio.to_thread(labs.differences, "default", story)
    assert not complaints, "\n\n".join(["", *complaints])


def running(name: str, manifest: str) -> Sequence[Step]:
    """Make a pod and wait until it is ready."""
    ready = Step(f"wait pod/{name} --for=condition=Ready --timeout=40s", says="condition met")
    return Step("apply -f -", manifest, says=f"pod/{name} created"), ready


async def test_logs(labs: Pair) -> None:
    """Logs are cut, dated, named and refused as on a cluster."""
    await play(
        labs,
        *running("talker", TALKER),
        Step("logs talker", says='Defaulted container "main" out of: main, side'),
        Step("logs talker -c side", says="aside"),
        Step("logs talker --tail=2", says="line 5\nlast"),
        Step("logs talker --tail=0"),
        Step("logs talker --since=1h --tail=1", says="last"),
        Step("logs talker --since-time=2020-01-01T00:00:00Z --tail=1", says="last"),
        Step("logs talker --since-time=2099-01-01T00:00:00Z"),
        Step("logs talker --since=1h --since-time=2020-01-01T00:00:00Z", code=1, says="at most one of"),
        Step("logs talker --timestamps --tail=1", says="last"),
        Step("logs talker --limit-bytes=6", says="line 1"),
        Step("logs talker --all-containers", alike="nothing", says="aside"),
        Step("logs talker --all-containers --prefix --tail=1", alike="nothing", says="[pod/talker/side] aside"),
        Step("logs -l app=talker -c main --tail=1", says="last"),
        Step("logs -l app=nobody", says="No resources found"),
        Step("logs talker -p -c main", code=1, says="previous terminated container"),
        Step("logs talker -c nope", code=1, says="container nope is not valid for pod talker"),
        Step("logs nope", code=1, says='pods "nope" not found'),
        *(Step("apply -f -", pod, says="created") for pod in (CRASH, UNKNOWN)),
        Step(f"wait pod/crash --for=jsonpath={RESTARTS}=1 --timeout=30s", says="condition met"),
        Step("logs crash -p", says="I fail"),
        Step(f"wait pod/unknown --for=jsonpath={REASON}=ImagePullBackOff --timeout=30s", says="condition met"),
        Step("logs unknown", code=1, says='(BadRequest): container "main" in pod "unknown" is waiting to start'),
        Step("exec unknown -- true", code=1, says='(NotFound): container "main" is not running'),
        Step("delete pod crash unknown --now", says="deleted"),
    )


async def test_followed_logs(labs: Pair) -> None:
    """A followed log goes on with the container and ends with it; lines since a moment are those since then."""
    await play(labs, *running("drip", DRIP))
    with labs.watching("default", "logs", "-f", "drip") as rows:
        await asyncio.to_thread(rows.arrive, 1)
        await play(labs, Step("exec drip -- touch /tmp/go"))
        await asyncio.to_thread(rows.arrive, 2)
        assert await asyncio.to_thread(rows.codes) == (0, 0)
    for cluster in (labs.real, labs.embedded):
        dated = await asyncio.to_thread(cluster.kubectl, "logs", "drip", "--timestamps", "--tail=1")
        since = dated.out.split()[0]
        later = await asyncio.to_thread(cluster.kubectl, "logs", "drip", f"--since-time={since}")
        assert later.out == "went\n"
    phase = "{.status.phase}"
    await play(
        labs,
        Step(f"wait pod/drip --for=jsonpath={phase}=Failed --timeout=20s", says="condition met"),
        Step("get pod drip", says="Error"),
        Step("logs drip", says="begun\nwent"),
        Step("logs -f drip", says="begun\nwent"),
        Step("exec drip -- true", code=1, says="cannot exec into a container in a completed pod"),
        Step("delete pod drip", says="deleted"),
    )


async def test_exec(labs: Pair) -> None:
    """Commands in a pod have its files, the caller's input, their own exit code and both outputs."""
    await play(
        labs,
        Step("apply -f -", TALKER),
        Step("wait pod/talker --for=condition=Ready --timeout=40s", says="condition met"),
        Step("exec talker -c main -- hostname", says="talker"),
        Step("exec talker -- true", says='Defaulted container "main"'),
        Step("exec talker -c main -- sh -c 'echo out; echo err >&2; exit 3'", code=3, says="exit code 3"),
        Step("exec talker -c side -- sh -c 'kill -9 $$'", code=137, says="exit code 137"),
        Step("exec -i talker -c main -- cat", "from here", says="from here"),
        Step("exec -it talker -c main -- tty", "", code=1, says="Unable to use a TTY"),
        Step("exec talker -c main -- no-such-program", code=1, says="executable file not found"),
        Step("exec talker -c nope -- true", code=1, says="container nope is not valid for pod talker"),
        Step("exec nope -- true", code=1, says='pods "nope" not found'),
        Step("exec talker -c main", code=1, says="you must specify at least one command"),
        Step("exec talker -c main -- sh -c 'head -c 2000000 /dev/zero | wc -c'", says="2000000"),
        Step("get pod talker", says="2/2"),
        Step("describe pod talker", alike="nothing", says="Started container side"),
        Step("port-forward pod/talker 0:80", code=1, alike="nothing", says="error upgrading connection"),
        Step("attach talker -c main", code=1, alike="nothing", says="attach"),
    )
    real, embedded = await asyncio.to_thread(
        labs.say, "exec", "talker", "-c", "main", "--", "true", env={"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
    )
    assert (real.code, embedded.code) == (1, 1)
    assert "--api-server=real" in embedded.err


def at_a_terminal(cluster: Cluster, *words: str, typed: bytes = b"") -> tuple[int, str]:
    """What kubectl says to a person at a terminal of 33 lines and 101 columns, who types; its exit code first."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    try:
        process = cluster.popen(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    finally:
        os.close(theirs)
    heard = bytearray()
    with process, os.fdopen(ours, "r+b", buffering=0) as terminal:
        while True:
            try:
                heard += terminal.read(4096)
            except OSError:  # nobody has the other end any more
                return process.wait(20), heard.decode().replace("\r\n", "\n")
            if typed and b"$ " in heard:
                terminal.write(typed)
                typed = b""


async def test_a_terminal_in_a_pod(labs: Pair) -> None:
    """`exec -it` has a terminal of the caller's size, takes what is typed, and ends with the shell's exit code."""
    await play(labs, Step("apply -f -", TALKER), Step("wait pod/talker --for=condition=Ready --timeout=40s"))
    exec_in = ("exec", "-it", "talker", "-c", "main", "--")
    # the size comes in a message of its own, which a quick command outruns
    sized = ("sh", "-c", 'until [ "$(stty size)" != "0 0" ]; do sleep 0.05; done; stty size')
    for cluster in (labs.real, labs.embedded):
        assert await asyncio.to_thread(at_a_terminal, cluster, *exec_in, *sized) == (0, "33 101\n")
        shell = (*exec_in, "env", "PS1=$ ", "sh")
        code, heard = await asyncio.to_thread(at_a_terminal, cluster, *shell, typed=b"echo $((6*7)); exit 5\n")
        assert (code, "42\n" in heard) == (5, True), (cluster.label, heard)


async def test_copies(labs: Pair, tmp_path: Path) -> None:
    """`cp` is a `tar` in the container: it works both ways where there is one."""
    (tmp_path / "here").write_text("text\n")
    await play(
        labs,
        Step("apply -f -", TALKER),
        Step("wait pod/talker --for=condition=Ready --timeout=40s", says="condition met"),
        Step(f"cp {tmp_path}/here talker:/tmp/there -c main"),
        Step("exec talker -c main -- cat /tmp/there", says="text"),
        Step(f"cp talker:/tmp/there {tmp_path}/back -c main", alike="nothing"),
    )
    assert (tmp_path / "back").read_text() == "text\n"


async def test_daemon_sets(labs: Pair) -> None:
    """A DaemonSet has a pod on the node, rolls out anew, and is logged by its name."""
    await play(
        labs,
        Step("apply -f -", DAEMONS, says="daemonset.apps/each created"),
        Step("rollout status ds/each --timeout=40s", alike="nothing", says="successfully rolled out"),
        Step("get ds each", says="1         1         1"),
        Step("logs ds/each", says="present"),
        Step("exec ds/each -- echo inside", says="inside"),
        Step("set env ds/each A=b", says="env updated"),
        Step("rollout restart ds/each", says="restarted"),
        Step("rollout status ds/each --timeout=40s", alike="nothing", says="successfully rolled out"),
        Step("get pod -l app=each -o jsonpath={.items[*].spec.containers[0].env[0].value}", says="b"),
        Step("describe ds each", says="1 Running"),
        Step("delete ds each --cascade=foreground --timeout=40s", says="deleted"),
        Step("get pod -l app=each", says="No resources found"),
    )


async def test_rollouts(labs: Pair) -> None:
    """Workloads come, scale, roll out, go back, and are logged and entered by their name."""
    await play(
        labs,
        Step("create deployment web --image=busybox --replicas=2 -- sh -c 'echo hello; exec sleep 1000'"),
        Step("rollout status deploy/web --timeout=40s", alike="nothing", says="successfully rolled out"),
        Step("get deploy web", says="2/2"),
        Step("logs deploy/web", alike="nothing", says="hello"),
        Step("exec deploy/web -- echo inside", says="inside"),
        Step("scale deploy web --replicas=1", says="scaled"),
        Step("wait deploy/web --for=jsonpath={.status.replicas}=1 --timeout=30s", says="condition met"),
        Step("set env deploy/web A=b", says="env updated"),
        Step("rollout status deploy/web --timeout=40s", alike="nothing", says="successfully rolled out"),
        Step("rollout history deploy/web", says="REVISION"),
        Step("rollout undo deploy/web", says="rolled back"),
        Step("rollout status deploy/web --timeout=40s", alike="nothing", says="successfully rolled out"),
        Step("get deploy web -o jsonpath={.spec.template.spec.containers[0].env}"),
        Step("rollout restart deploy/web", says="restarted"),
        Step("rollout status deploy/web --timeout=40s", alike="nothing", says="successfully rolled out"),
        Step("get rs -l app=web --no-headers -o custom-columns=R:.spec.replicas --sort-by=.spec.replicas"),
        Step("delete deploy web", says="deleted"),
        Step("wait pod -l app=web --for=delete --timeout=30s", alike="nothing"),
        Step("run once --rm -i --image=busybox --restart=Never -- echo said", alike="nothing", says="falling back"),
    )
