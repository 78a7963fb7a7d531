"""Manifests the stories use."""

from __future__ import annotations

POD = """
apiVersion: v1
kind: Pod
metadata: {name: p1, labels: {app: a}}
spec:
  containers:
  - {name: main, image: "x:1", ports: [{containerPort: 80}], env: [{name: A, value: b}]}
"""
PODS = f"{POD}---{POD.replace('p1', 'p2').replace('app: a', 'app: b')}"
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: c1}
data: {a: "1"}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: d1, labels: {app: d}}
spec:
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec:
      containers:
      - name: main
        image: x:1
        args: [--flag]
        resources: {limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 10m}}
        livenessProbe: {httpGet: {path: /healthz, port: 8080}}
        volumeMounts: [{name: v, mountPath: /v, readOnly: true}]
      volumes: [{name: v, hostPath: {path: /etc}}]
      nodeSelector: {kubernetes.io/os: linux}
"""
DAEMON_SET = DEPLOYMENT.replace("Deployment", "DaemonSet").replace("d1", "ds1").replace("app: d", "app: ds")
REPLICA_SET = DEPLOYMENT.replace("Deployment", "ReplicaSet").replace("d1", "rs1").replace("app: d", "app: rs")
NODE = """
apiVersion: v1
kind: Node
metadata: {name: NAME, labels: {kubernetes.io/os: linux, node-role.kubernetes.io/agent: ""}}
spec: {taints: [{key: a, value: b, effect: NoSchedule}]}
"""
EVENT = """
apiVersion: v1
kind: Event
metadata: {name: p1.1}
involvedObject: {apiVersion: v1, kind: Pod, name: p1, namespace: NAMESPACE, uid: UID}
reason: Pulled
message: it was pulled
type: Normal
count: 2
firstTimestamp: "2020-01-01T00:00:00Z"
lastTimestamp: "2020-01-01T00:00:00Z"
source: {component: kubelet, host: node1}
"""
