"""kubectl create in its many forms, run, expose, scale, set, rollout without controllers: both servers answer alike."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from tests.kubectl.clusters import Pair, Step

Play = Callable[..., None]


def test_create(play: Play) -> None:
    """Typed creates (protobuf bodies) make the same objects as on the real server."""
    play(
        Step("create sa robot", says="serviceaccount/robot created"),
        Step("create sa robot", code=1, says="failed to create serviceaccount"),
        Step("create configmap c --from-literal=a=1 --from-file=b=/etc/hostname", says="configmap/c created"),
        Step("create secret generic s --from-literal=a=1", says="secret/s created"),
        Step("create secret generic t --type=x/y --from-literal=a=1", says="secret/t created"),
        Step("create secret docker-registry d --docker-username=a --docker-password=b", says="secret/d created"),
        Step("create deployment d --image=x --image=y:2 --replicas=2", says="deployment.apps/d created"),
        Step("create deployment p --image=x --port=80 -- sleep 10", says="deployment.apps/p created"),
        Step("create role r --verb=get --resource=pods,deploy", says="created"),
        Step("create rolebinding r --role=r --serviceaccount=create:robot", says="created"),
        Step("create rolebinding v --clusterrole=view --user=joe --group=g", says="created"),
        Step("create clusterrole k-create --verb=get,list --resource=pods --resource-name=a", says="created"),
        Step("create clusterrole k-create2 --verb=get --non-resource-url=/x", says="created"),
        Step("create clusterrolebinding k-create --clusterrole=k-create --serviceaccount=create:robot"),
        Step("create service clusterip s --tcp=80:http", says="service/s created"),
        Step("create service externalname e --external-name=x.y --tcp=80", says="service/e created"),
        Step("create ns k-create-more", says="namespace/k-create-more created"),
        Step("delete ns k-create-more --wait=false", says="deleted"),
        Step("create token robot --duration=10m --audience=x -o yaml", says="kind: TokenRequest"),
        Step("create token robot --duration=5m", code=1, says="may not specify a duration less than 10 minutes"),
        Step("create token nope", code=1, says='serviceaccounts "nope" not found'),
        Step("create token robot --bound-object-kind=Pod --bound-object-name=nope", code=1, says="not found"),
        Step("create token robot --bound-object-kind=Node --bound-object-name=nope", code=1, says="not found"),
        Step("run r --image=x --env=A=b --labels=a=b --port=80 -- sleep 10", says="pod/r created"),
        Step("get deploy,secret,sa,role,rolebinding -o yaml"),
        Step("get svc -o yaml"),
        Step("get cm c -o jsonpath={.data.a}", says="1"),
        Step("get pod r -o jsonpath={.spec.containers[0]}", says="sleep"),
        Step("get clusterrole k-create k-create2 -o yaml"),
        Step("delete clusterrole k-create k-create2", says="deleted"),
        Step("delete clusterrolebinding k-create", says="deleted"),
    )


def test_change_workloads(play: Play) -> None:
    """Scale, set, expose, rollout: what they write and what they say, before any controller acts."""
    play(
        Step("create deployment d --image=x --port=80"),
        Step("scale deploy d --replicas=3", says="deployment.apps/d scaled"),
        Step("scale deploy d --replicas=3 --current-replicas=9", code=1, says="Expected replicas to be 9"),
        Step("scale deploy nope --replicas=3", code=1, says="not found"),
        Step("scale deploy d --replicas=-1", code=1),
        Step("set image deploy/d x=y:2", says="image updated"),
        Step("set image deploy/d nope=y:2", code=1, says="unable to find container"),
        Step("set env deploy/d A=b", says="env updated"),
        Step("set env deploy/d --list", says="A=b"),
        Step("set env deploy/d A-", says="env updated"),
        Step("set resources deploy/d --limits=cpu=1,memory=64Mi", says="resource requirements updated"),
        Step("set serviceaccount deploy/d robot", says="serviceaccount updated"),
        Step("set selector deploy/d a=b", code=1),
        Step("rollout pause deploy/d", says="paused"),
        Step("rollout pause deploy/d", code=1, says="already paused"),
        Step("rollout resume deploy/d", says="resumed"),
        Step("rollout restart deploy/d", says="restarted"),
        Step("rollout history deploy/d", says="No rollout history found."),
        Step("rollout undo deploy/d", code=1, says="no rollout history found"),
        Step("rollout status deploy/d --timeout=1s", code=1, says="timed out waiting"),
        Step("get deploy d -o yaml", says="replicas: 3"),
        Step("expose deploy d --port=80 --target-port=http", says="service/d exposed"),
        Step("expose deploy d --port=80", code=1, says='services "d" already exists'),
        Step("describe svc d", says="TargetPort"),
        Step("get endpoints d", code=1, says="not found"),
    )


@pytest.mark.parametrize(
    "command",
    [
        "create job j --image=x",
        "create cronjob j --image=x --schedule='* * * * *'",
        "create quota q --hard=cpu=1",
        "create ingress i --rule=a/b=c:1",
        "create pdb p --selector=a=b --min-available=1",
        "create priorityclass p --value=1",
        "create service nodeport s --tcp=80",
        "create service loadbalancer s --tcp=80",
    ],
)
def test_what_is_not_made_is_said(pair: Pair, command: str) -> None:
    """A kind the embedded server has not is refused with the way to get it, never half made."""
    said = pair.embedded.kubectl(*shlex.split(command))
    assert said.code == 1
    assert "--api-server=real" in said.err
