"""What was asked of the simulated Azure since it started, or since the last reset. Not kept over a restart."""

from collections import Counter

from podidentity.lab.cloud.ids import fold
from podidentity.lab.cloud.imds import normal
from podidentity.lab.cloud.wire import Call


class Counters:
    """Numbers by name, nested by the dots between: see `snapshot`."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()

    def reset(self) -> None:
        """Start again at nothing."""
        self._counts.clear()

    def count(self, service: str, operation: str, call: Call, status: int) -> None:
        """A request of any service but IMDS."""
        self._counts[service, "total"] += 1
        self._counts[service, "operations", f"{call.method} {operation}"] += 1
        self._counts[service, "status", str(status)] += 1
        if service == "arm":
            self._counts[service, "resources", fold(call.path), call.method] += 1

    def count_secret(self, vault: str, call: Call) -> None:
        """A request at a vault."""
        self._counts["vault", "secrets", f"{vault}{call.path.rstrip('/')}", call.method] += 1

    def count_imds(self, kind: str, call: Call, status: int) -> None:
        """A request at IMDS; `kind` is node, pod or unknown."""
        path = normal(call.path)
        self._counts["imds", "total"] += 1
        self._counts["imds", "status", str(status)] += 1
        self._counts["imds", "kinds", kind, path] += 1
        self._counts["imds", "peers", call.peer, path] += 1

    def snapshot(self) -> dict[str, object]:
        """Everything, nested.

        {"arm": {"total", "operations": {"PATCH Microsoft.Compute/virtualMachines": n}, "status": {"200": n},
        "resources": {folded path: {"PATCH": n}}}, "entra": {...},
        "vault": {..., "secrets": {"kv1/secrets/s": {"GET": n}}},
        "imds": {"total", "status", "kinds": {"node" | "pod" | "unknown": {path: n}},
        "peers": {address: {path: n}}}}.
        """
        tree: dict[str, object] = {service: {"total": 0, "status": {}} for service in ("arm", "entra", "imds", "vault")}
        for names, count in self._counts.items():
            node = tree
            for name in names[:-1]:
                child = node.setdefault(name, {})
                if not isinstance(child, dict):
                    raise TypeError(f"{name} is a number and a group")
                node = child
            node[names[-1]] = count
        return tree
