"""Writes docs/reference/scenarios.md from what a run of the scenarios measured: `make scenarios` runs both."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.scenarios.catalogue import SCENARIOS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "scenarios.md"
HEAD = """# Acceptance scenarios

What the original's end-to-end suites check on a real cluster, and what its users asked for. Each row is a scenario
that is played in a lab: real mic and nmi processes as shipped, pods that ask from their own network namespaces, a
simulated Azure; once on the embedded API server and once on Kubernetes' own. A scenario is data (objects, steps, what
must hold) in `tests/scenarios`. It waits for conditions, never for a time, and has to leave nothing on any host.

The tests carry the id in their names: `make test TEST_ARGS='tests/scenarios -k forty-pods'` plays one of them.
`make scenarios` plays all and writes this page anew.

Seconds are of the wall clock, from the first object to the last thing that held, with up to {at_a_time} scenarios at
the same time in one lab, on a machine with {cpus}. They say that it works, not how fast
it is: [benchmarks](benchmarks.md) says that. Where mic changes one scale set often, its own budget counts: a host takes
twelve changes at once and four a minute.

| id | what holds | embedded (s) | real (s) |
|---|---|---|---|
"""
TAIL = """| `cronjob-minute` | A pod a minute for an hour: at most two PATCHes. | virtual clock | virtual clock |

## How some of them are made

- Nodes of hosts that a scenario has for itself (`forty-pods`, `random-order`, `scale-to-zero` and others) are known to
  the API server and to ARM; no kubelet runs there. All that concerns tokens runs on the lab's own nodes.
- mic has `--identity-removal-linger=0s` and `--identity-assignment-reconcile-interval=3s`; nmi says no after three
  seconds instead of a hundred. `retry-after` and the 403 of `metadata-endpoints` are seen on a node whose nmi has
  `--set-retry-after-header` and `--block-instance-metadata`.
- `csi-*`: csi-provider as shipped; the lab's kubelet plays the driver's part and polls every two seconds. It does not
  write synced Kubernetes Secrets. Split certificate files need another flag of the provider: see `tests/csi`.
- `cronjob-minute` is `tests/mic/test_cronjob.py`: an hour would be too long for a lab.
- `upgrade-from-original` and `rollback`: stand-ins for the original's programs run in its own DaemonSet and Deployment.
  One holds the chain `aad-metadata` and passes requests on, the other renews the Endpoints record. Pods ask with
  azure-identity all the time, with a new credential for each token and its default retries; one refused call fails the
  scenario. The records have no UID, one no status, one no finalizer. While the original is stopped it opens the node,
  as it always did: pods then reach the metadata service itself until ours closes it.
"""


def seconds(folder: Path) -> dict[tuple[str, str], float]:
    """Seconds by server and id; fails for a scenario that did."""
    found = {}
    for file in folder.glob("*.json"):
        for one in json.loads(file.read_text()):
            if one["failed"]:
                raise SystemExit(f"{one['server']} {one['id']} failed: {one['failed']}")
            found[one["server"], one["id"]] = float(one["seconds"])
    return found


def page(folder: Path, at_a_time: int, cpus: str) -> str:
    """The whole page."""
    found = seconds(folder)
    rows = []
    for one in SCENARIOS:
        times = [
            f"{found[server, one.id]:.1f}" if server in one.servers else "not there" for server in ("embedded", "real")
        ]
        rows.append(f"| `{one.id}` | {one.holds} | {' | '.join(times)} |\n")
    return HEAD.format(at_a_time=at_a_time, cpus=cpus) + "".join(rows) + TAIL


if __name__ == "__main__":
    import os

    from tests.scenarios.runner import AT_A_TIME

    PAGE.write_text(
        page(Path(sys.argv[1]), AT_A_TIME, f"{os.cpu_count()} CPUs and a load average of {os.getloadavg()[2]:.0f}")
    )
