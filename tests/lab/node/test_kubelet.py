"""The kubelet against the embedded API, with real processes in real namespaces."""

import asyncio
import base64
import json

import pytest
from bench import PODS, SERVER, Cluster, container, eventually, phase, ready, waiting

pytestmark = pytest.mark.e2e
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"


@pytest.mark.parametrize("node", [0, 1])
async def test_a_pod_runs_is_ready_answers_and_goes(lab: Cluster, node: int) -> None:
    """Protects the whole way of an ordinary pod on both network variants, and that it is gone at once."""
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    ports = [{"name": "web", "containerPort": 80}]
    name = f"web-{node}"
    await lab.run(name, node, container={"image": "nginx:1.27", "readinessProbe": probe, "ports": ports})
    pod = await lab.until(name, ready)
    assert pod["status"]["podIP"].startswith(f"10.244.{node}.")
    assert pod["status"]["hostIP"] == f"10.240.0.{4 + node}"
    done = await lab.exec(name, "sh", "-c", "hostname; cat /etc/hosts; ls /root /home; ls -d /proc/1")
    lines = done.stdout.decode()
    assert lines.startswith(f"{name}\n")
    assert "10.240.0.2 management.azure.com" in lines
    assert f"{pod['status']['podIP']}\t{name}" in lines
    assert await lab.delete(name) < 3


async def test_environment_arguments_and_credentials(lab: Cluster) -> None:
    """Protects what the shipped manifests rely on: $(VAR), fieldRef, secretKeyRef, the service account's files."""
    await lab.create(
        SECRETS, apiVersion="v1", kind="Secret", metadata={"name": "s"}, data={"k": base64.b64encode(b"v").decode()}
    )
    env = [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "BOTH", "value": "$(KEY)-$(NODE_NAME)-$(NOWHERE)"},
    ]
    script = "import json, os, sys; d='/var/run/secrets/kubernetes.io/serviceaccount/'\n"
    script += "print(json.dumps({'args': sys.argv[1:], 'env': dict(os.environ), 'ns': open(d + 'namespace').read(),"
    script += " 'token': open(d + 'token').read(), 'ca': open(d + 'ca.crt').read()[:11]}))"
    given = {"image": "podidentity/azure-sdk", "args": ["-c", script, "--node=$(NODE_NAME)", "$$(KEY)"], "env": env}
    await lab.run("env", restartPolicy="Never", container=given)
    pod = await lab.until("env", phase("Succeeded"))
    assert container(pod)["state"]["terminated"]["reason"] == "Completed"
    seen = json.loads(await lab.logs("env"))
    assert seen["args"] == ["--node=node0", "$(KEY)"]
    assert seen["env"]["BOTH"] == "v-node0-$(NOWHERE)"
    assert seen["env"]["HOST_IP"] == pod["status"]["podIP"]
    assert seen["env"]["KUBERNETES_SERVICE_HOST"] == "10.240.0.1"
    assert seen["env"]["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
    assert (seen["ns"], seen["token"].count("."), seen["ca"]) == ("default", 2, "-----BEGIN ")
    await lab.delete("env")


async def test_volumes(lab: Cluster) -> None:
    """Protects the volume kinds pods use: contents, modes, read-only mounts, sharing, the node's own paths."""
    await lab.create(CONFIG_MAPS, apiVersion="v1", kind="ConfigMap", metadata={"name": "c"}, data={"a": "1", "b": "2"})
    volumes = [
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "deep/a"}], "defaultMode": 0o400}},
        {"name": "one", "configMap": {"name": "c"}},
        {"name": "shared", "emptyDir": {}},
        {"name": "lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
        {"name": "azure", "hostPath": {"path": "/etc/kubernetes"}},
        {"name": "sockets", "hostPath": {"path": "/var/run/sockets", "type": "DirectoryOrCreate"}},
    ]
    mounts = [
        {"name": "config", "mountPath": "/config", "readOnly": True},
        {"name": "one", "mountPath": "/opt/b", "subPath": "b"},
        {"name": "shared", "mountPath": "/shared"},
        {"name": "lock", "mountPath": "/run/xtables.lock"},
        {"name": "azure", "mountPath": "/etc/kubernetes", "readOnly": True},
        {"name": "sockets", "mountPath": "/provider"},
    ]
    (lab.folder / "nodes/node0/etc-kubernetes/azure.json").write_text("{}")
    script = "cat /config/deep/a /opt/b /shared/init /etc/kubernetes/azure.json; stat -L -c %a /config/deep/a; "
    script += "touch /config/x || echo read-only; touch /etc/kubernetes/x || echo read-only; touch /provider/x"
    await lab.run(
        "volumes",
        restartPolicy="Never",
        volumes=volumes,
        initContainers=[
            {
                "name": "init",
                "image": "busybox",
                "command": ["sh", "-c", "echo from-init > /shared/init"],
                "volumeMounts": mounts[2:3],
            }
        ],
        container={"command": ["sh", "-c", script], "volumeMounts": mounts},
    )
    pod = await lab.until("volumes", phase("Succeeded"))
    said = [line for line in (await lab.logs("volumes")).splitlines() if "touch:" not in line]
    assert said == ["12from-init", "{}400", "read-only", "read-only"]
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert (lab.folder / "nodes/node0/run/sockets/x").exists()
    assert (lab.folder / "nodes/node0/run/xtables.lock").is_file()
    await lab.delete("volumes")


async def test_exec_says_how_the_command_ended(lab: Cluster) -> None:
    """Protects exit codes, both output streams, big output, and the message of a missing program."""
    await lab.run("exec", container={"command": ["sleep", "1000"]})
    await lab.until("exec", ready)
    done = await lab.exec("exec", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (bytes(done.stdout), bytes(done.stderr), done.code) == (b"out\n", b"err\n", 3)
    big = await lab.exec("exec", "sh", "-c", "head -c 3000000 /dev/zero")
    assert (len(big.stdout), big.code) == (3_000_000, 0)
    killed = await lab.exec("exec", "sh", "-c", "kill -9 $$")
    assert killed.code == 137
    with pytest.raises(Exception, match=r"no-such-program.*executable file not found"):
        await lab.exec("exec", "no-such-program")
    await lab.delete("exec")


async def test_exec_passes_stdin_and_its_end(lab: Cluster) -> None:
    """Protects ``kubectl exec -i``: the command sees the caller's bytes and the end of them."""
    await lab.run("stdin", container={"command": ["sleep", "1000"]})
    await lab.until("stdin", ready)
    got = bytearray()
    async with lab.open_exec("stdin", "cat", stdin="true", stderr="true") as socket:
        await socket.send_bytes(b"\x00hello ")
        await socket.send_bytes(b"\x00world")
        await socket.send_bytes(b"\xff\x00")
        async for message in socket:
            if message.data[:1] == b"\x01":
                got += message.data[1:]
            elif message.data[:1] == b"\x03":
                assert json.loads(message.data[1:])["status"] == "Success"
    assert got == b"hello world"
    await lab.delete("stdin")


async def test_exec_with_a_terminal(lab: Cluster) -> None:
    """Protects ``kubectl exec -it``: a controlling terminal of the caller's size."""
    await lab.run("tty", container={"command": ["sleep", "1000"]})
    await lab.until("tty", ready)
    got = bytearray()
    async with lab.open_exec("tty", "sh", stdin="true", tty="true") as socket:
        await socket.send_bytes(b'\x04{"Width":101,"Height":33}\n')
        await socket.send_bytes(b"\x00tty >/dev/tty; stty size; exit 5\n")
        async for message in socket:
            if message.data[:1] == b"\x01":
                got += message.data[1:]
            elif message.data[:1] == b"\x03":
                assert json.loads(message.data[1:])["details"]["causes"][0]["message"] == "5"
    assert b"33 101" in got
    await lab.delete("tty")


async def test_logs_can_be_cut_followed_and_dated(lab: Cluster) -> None:
    """Protects kubectl logs: --tail, --since, --timestamps, --previous, -f."""
    script = "for i in 1 2 3 4 5; do echo line $i; done; sleep 0.5; echo late; exec sleep 1000"
    await lab.run("logs", container={"command": ["sh", "-c", script]})
    await lab.until("logs", ready)
    async with lab.session() as session:
        url = f"{SERVER}{PODS}/logs/log?container=main&follow=true&tailLines=1"
        async with session.get(url, ssl=lab.tls) as response:
            while b"late" not in await response.content.readline():
                pass
    assert (await lab.logs("logs", tailLines="2")).splitlines() == ["line 5", "late"]
    assert (await lab.logs("logs", sinceSeconds="3600")).startswith("line 1\n")
    assert await lab.logs("logs", limitBytes="3") == "lin"
    assert (await lab.logs("logs", timestamps="true", tailLines="1")).split(" ")[0].endswith("Z")
    with pytest.raises(Exception, match="previous terminated container"):
        await lab.logs("logs", previous="true")
    await lab.delete("logs")


async def test_a_crashing_container_starts_again_with_back_off(lab: Cluster) -> None:
    """Protects restart counts, the last state, CrashLoopBackOff and the previous log."""
    await lab.run("crash", container={"command": ["sh", "-c", "echo I fail; exit 4"]})
    pod = await lab.until("crash", lambda pod: waiting(pod) == "CrashLoopBackOff")
    status = container(pod)
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 4)
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main")
    assert not ready(pod)
    assert await lab.logs("crash", previous="true") == "I fail\n"
    assert await lab.delete("crash") < 3


async def test_liveness_restarts_a_hung_container(lab: Cluster) -> None:
    """Protects liveness probes: SIGTERM, SIGKILL after the grace period, and a new instance."""
    script = "trap '' TERM; if [ -e /cache/x ]; then sleep 1000; else touch /cache/x; touch /tmp/sick; sleep 1000; fi"
    probe = {"exec": {"command": ["sh", "-c", "test ! -e /tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    await lab.run(
        "sick",
        terminationGracePeriodSeconds=1,
        volumes=[{"name": "cache", "emptyDir": {}}],
        container={
            "command": ["sh", "-c", script],
            "livenessProbe": probe,
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        },
    )
    pod = await lab.until("sick", lambda pod: container(pod).get("restartCount") == 1 and ready(pod))
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 137
    reasons = {event["reason"] for event in await lab.events("sick")}
    assert {"Unhealthy", "Killing", "Started"} <= reasons
    await lab.delete("sick")


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_period(lab: Cluster) -> None:
    """Protects graceful shutdown: the time is given, and not more; a daemon of the container's goes too."""
    script = "(setsid sleep 12345 &) ; trap '' TERM; while :; do sleep 0.1; done"
    await lab.run("stubborn", terminationGracePeriodSeconds=1, container={"command": ["sh", "-c", script]})
    await lab.until("stubborn", ready)
    assert 0.9 < await lab.delete("stubborn") < 4
    await lab.run(
        "looker", restartPolicy="Never", container={"command": ["sh", "-c", "ps ax | grep [1]2345 || echo none"]}
    )
    await lab.until("looker", phase("Succeeded"))
    assert await lab.logs("looker") == "none\n"
    await lab.delete("looker")


async def test_what_cannot_start_says_why(lab: Cluster) -> None:
    """Protects the messages of an unknown image, a missing Secret, a missing program and a volume that is not there."""
    await lab.run("image", container={"image": "example.com/none:1"})
    pod = await lab.until("image", lambda pod: "Pull" in waiting(pod))
    assert "the lab runs images by its own table" in container(pod)["state"]["waiting"]["message"]
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}]
    await lab.run("config", container={"command": ["true"], "env": env})
    pod = await lab.until("config", lambda pod: "Config" in waiting(pod))
    assert container(pod)["state"]["waiting"]["message"] == 'secret "absent" not found'
    await lab.run("program", restartPolicy="Never", container={"command": ["no-such-program"]})
    pod = await lab.until("program", phase("Failed"))
    ended = container(pod)["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert "executable file not found in $PATH" in ended["message"]
    await lab.run(
        "place",
        restartPolicy="Never",
        volumes=[{"name": "v", "emptyDir": {}}],
        container={"command": ["true"], "volumeMounts": [{"name": "v", "mountPath": "/usr/new"}]},
    )
    pod = await lab.until("place", phase("Failed"))
    assert container(pod)["state"]["terminated"]["message"] == "mount: /usr/new: Read-only file system"
    volume = {"name": "v", "configMap": {"name": "later"}}
    given = {"command": ["sleep", "1000"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await lab.run("mount", volumes=[volume], container=given)
    assert (
        await lab.says("mount", "FailedMount")
        == 'MountVolume.SetUp failed for volume "v" : configmap "later" not found'
    )
    await lab.create(CONFIG_MAPS, apiVersion="v1", kind="ConfigMap", metadata={"name": "later"}, data={"a": "1"})
    await lab.until("mount", ready)
    for name in ("image", "config", "program", "place", "mount"):
        await lab.delete(name)


async def test_security_context(lab: Cluster) -> None:
    """Protects that dropped capabilities and a read-only root hold, as the shipped manifests ask for them."""
    context = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}}
    script = "grep CapEff /proc/self/status; touch /tmp/x || touch /x || echo closed"
    await lab.run(
        "secure",
        hostNetwork=True,
        restartPolicy="Never",
        container={"command": ["sh", "-c", script], "securityContext": context},
    )
    pod = await lab.until("secure", phase("Succeeded"))
    assert pod["status"]["podIP"] == "10.240.0.4"
    said = await lab.logs("secure")
    assert "CapEff:\t0000000000003000" in said
    assert said.endswith("closed\n")
    await lab.delete("secure")


async def test_the_node_is_registered(lab: Cluster) -> None:
    """Protects what the scheduler, the API server and mic read of a Node."""
    node = json.loads(await lab.client.raw("GET", "/api/v1/nodes/node1"))
    assert node["spec"]["providerID"].startswith("azure:///subscriptions/s/")
    assert node["metadata"]["labels"]["kubernetes.io/os"] == "linux"
    assert node["metadata"]["labels"]["agentpool"] == "pool"
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert [item["status"] for item in node["status"]["conditions"] if item["type"] == "Ready"] == ["True"]
    lease = json.loads(
        await lab.client.raw("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1")
    )
    assert lease["spec"]["holderIdentity"] == "node1"


async def test_a_restarted_kubelet_starts_its_pods_again(lab: Cluster) -> None:
    """Protects against a node that stays empty, or keeps strays of the old kubelet, after a crash of the kubelet."""
    script = "(setsid sleep 54321 &) ; exec sleep 1000"
    await lab.run("again", 1, container={"command": ["sh", "-c", script]})
    await lab.until("again", ready)
    ready_file = lab.folder / "run/node1.ready"
    ready_file.unlink()
    lab.kill_kubelet("node1")

    async def back() -> bool:
        return ready_file.exists()

    await eventually(back, 30)
    pod = await lab.until("again", lambda pod: ready(pod) and container(pod)["restartCount"] == 0)
    assert pod["status"]["podIP"].startswith("10.244.1.")
    await lab.prints("again", b"1\n", "sh", "-c", "ps ax | grep -c '[5]4321'")
    await lab.delete("again")


async def test_pods_that_end_in_any_moment_leave_no_network(lab: Cluster) -> None:
    """Protects the addresses: a namespace and a route left behind would be in the way of the address's next pod."""
    held = lab.folder / "nodes/node0/run/netns"
    before = set(held.iterdir())
    for turn in range(3):
        names = [f"brief-{turn}-{number}" for number in range(8)]
        await asyncio.gather(*(lab.run(name, terminationGracePeriodSeconds=0) for name in names))
        if turn:
            await asyncio.gather(*(lab.until(name, lambda pod: pod["status"].get("podIP")) for name in names))
        await asyncio.gather(*(lab.delete(name) for name in names))

    async def as_before() -> bool:
        return set(held.iterdir()) <= before

    await eventually(as_before)
