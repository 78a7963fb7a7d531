"""What was asked of the simulated Azure since it started, or since the last reset. Not kept over a restart."""

from collections import Counter

from podidentity.lab.cloud.ids import fold
from podidentity.lab.cloud.imds import normal
from podidentity.lab.cloud.wire import Call

_LIMIT = 20_000


class Counters:
    """Numbers by name, nested by the dots between: see `snapshot`."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()

    def _add(self, *names: str) -> None:
        """One more; names that are new when there are very many already are not told apart."""
        known = names in self._counts or len(self._counts) < _LIMIT
        self._counts[names if known else (names[0], "further")] += 1

    def reset(self) -> None:
        """Start again at nothing."""
        self._counts.clear()

    def count(self, service: str, operation: str, call: Call, status: int) -> None:
        """A request of any service but IMDS."""
        self._add(service, "total")
        self._add(service, "operations", f"{call.method} {operation}")
        self._add(service, "status", str(status))
        if service == "arm":
            self._add(service, "resources", fold(call.path), call.method)

    def count_secret(self, vault: str, call: Call) -> None:
        """A request at a vault."""
        self._add("vault", "secrets", f"{vault}{call.path.rstrip('/')}", call.method)

    def count_imds(self, kind: str, call: Call, status: int) -> None:
        """A request at IMDS; `kind` is node, pod or unknown."""
        path = normal(call.path)
        self._add("imds", "total")
        self._add("imds", "status", str(status))
        self._add("imds", "kinds", kind, path)
        self._add("imds", "peers", call.peer, path)

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
