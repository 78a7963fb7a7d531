"""What can be made to go wrong, or slow, while the simulated Azure runs."""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from podidentity.lab.cloud.wire import Call

Service = Literal["arm", "entra", "imds", "vault"]


class FaultsError(Exception):
    """The description of faults cannot be used; the text is one line."""


class FaultRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to some requests.

    Requests of a service that fit `method` and `path` (a regular expression, searched in the raw target, any case)
    are delayed by `delay` seconds and, with a `status`, answered with it instead of being handled; `drop` closes the
    connection after the delay. `times` bounds how often, -1 is for ever. `after` lets the service do its work first
    and then withholds the answer: with `drop`, the client does not know that its write went through.
    """

    service: Service
    method: str = ""
    path: str = ""
    status: int = 0
    code: str = ""
    message: str = ""
    headers: dict[str, str] = {}
    delay: float = 0
    drop: bool = False
    after: bool = False
    times: int = -1

    def fits(self, service: Service, call: Call) -> bool:
        """Whether the rule is about this request."""
        return (
            self.service == service
            and (not self.method or self.method.upper() == call.method)
            and re.search(self.path, call.target, re.IGNORECASE) is not None
        )


class ArmLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """ARM's and compute's budgets: pairs of capacity and refill (ARM: per second; compute: per minute)."""

    reads: tuple[float, float] = (250, 25)
    writes: tuple[float, float] = (200, 10)
    deletes: tuple[float, float] = (200, 10)
    host_update: tuple[float, float] = (12, 4)
    host_update_subscription: tuple[float, float] = (1500, 500)
    host_get: tuple[float, float] = (36, 12)
    operation_poll: tuple[float, float] = (45, 15)


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every switch, with its normal value. Times are seconds.

    `arm_delay_vm`, `arm_delay_vmss`: how long an identity operation takes. `arm_limits`: None switches them off.
    `arm_conflict_code`: the code of the 409 for a write during another ("Conflict" is the older one).
    `arm_operation_retry_after`: a Retry-After header on long-running operations, 0 for none as recorded.
    `arm_operation_error`: "code: message" with which operations end that start while it is set, "" for success.
    `role_delay`: how long a new role assignment takes to be honoured. `token_lifetime`: of every token issued.
    `imds_status`, `imds_retry_after`: IMDS answers every token request with this status. `imds_delay`: of a token
    that is not in its cache. `imds_limits`: 20 requests a second and 5 at a time. `imds_stale_ids`: the cache goes by
    resource id alone, so that an identity created anew is answered with the old one's token.
    """

    arm_delay_vm: float = 0.2
    arm_delay_vmss: float = 0.5
    arm_limits: ArmLimits | None = ArmLimits()
    arm_conflict_code: str = "ConflictingConcurrentWriteNotAllowed"
    arm_operation_retry_after: int = 0
    arm_operation_error: str = ""
    role_delay: float = 0
    token_lifetime: int = 86_400
    imds_status: int = 0
    imds_retry_after: int = 0
    imds_delay: float = 0
    imds_limits: bool = True
    imds_stale_ids: bool = False
    rules: tuple[FaultRule, ...] = ()


class FaultSwitch:
    """The faults that hold now. Reading is `switch.now`; rules with `times` are used up by `take`."""

    def __init__(self, initial: Faults | None = None) -> None:
        self._initial = initial or Faults()
        self.now = self._initial
        self._left: dict[int, int] = {}
        self.set(self._initial)

    def set(self, faults: Faults) -> None:
        """Replace everything."""
        for rule in faults.rules:
            try:
                re.compile(rule.path)
            except re.error as error:
                raise FaultsError(f'faults: rules: "{rule.path}" is not a regular expression: {error}') from error
        self.now = faults
        self._left = {}

    def merge(self, body: bytes) -> None:
        """Change the switches named in a JSON object, keep the others; FaultsError when one is not known."""
        try:
            named = msgspec.json.decode(body, type=dict[str, object])
            merged = msgspec.to_builtins(self.now) | named
            self.set(msgspec.convert(merged, Faults))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FaultsError(f"faults: {error}") from error

    def reset(self) -> None:
        """Back to how the process was started."""
        self.set(self._initial)

    def take(self, service: Service, call: Call) -> FaultRule | None:
        """The first rule that fits the request and is not used up."""
        return next((rule for rule in self._fitting(service, call) if self._use(rule)), None)

    def _fitting(self, service: Service, call: Call) -> Iterable[FaultRule]:
        return (rule for rule in self.now.rules if rule.fits(service, call))

    def _use(self, rule: FaultRule) -> bool:
        index = self.now.rules.index(rule)
        left = self._left.get(index, rule.times)
        if left == 0:
            return False
        self._left[index] = left - 1 if left > 0 else left
        return True
