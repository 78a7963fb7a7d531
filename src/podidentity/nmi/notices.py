"""What nmi tells of its dealings with Azure and of the Secrets it uses: logged, counted, and kept for ``/status``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.azure.errors import AzureError
from podidentity.config.redact import redact_client_id
from podidentity.nmi.journal import Meter
from podidentity.nmi.tokens.source import TokenRequest
from podidentity.telemetry.logging import Logger

EXPIRY_NOTICE_SECONDS: Final = 30 * 86400.0
_DAY: Final = 86400.0
_MOST_KEPT: Final = 256
_MOST_NAMES: Final = 64
_LINES_A_SECOND: Final = 2.0
_LINES_AT_ONCE: Final = 50.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Something an operator should mend: ``about`` what, ``text`` says it, ``since`` when (epoch seconds)."""

    about: str
    text: str
    since: float


class Conditions:
    """What stands now, one text for each thing; the oldest is dropped when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._standing: OrderedDict[str, Condition] = OrderedDict()

    def raised(self, about: str, text: str) -> bool:
        """Note a condition; return whether it is news."""
        before = self._standing.get(about)
        if before is not None and before.text == text:
            return False
        self._standing[about] = Condition(about, text, self._clock.wall())
        self._standing.move_to_end(about)
        while len(self._standing) > _MOST_KEPT:
            self._standing.popitem(last=False)
        return True

    def cleared(self, about: str) -> None:
        """Forget the condition of a thing."""
        self._standing.pop(about, None)

    def standing(self) -> list[Condition]:
        """Return all, the oldest first."""
        return list(self._standing.values())


class _Seldom:
    """Remembers when something was last said, so that it is said once in a while."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._said: OrderedDict[Hashable, float] = OrderedDict()

    def due(self, key: Hashable) -> bool:
        now = self._clock.monotonic()
        last = self._said.get(key)
        if last is not None and now - last < self._seconds:
            return False
        self._said[key] = now
        self._said.move_to_end(key)
        while len(self._said) > _MOST_KEPT:
            self._said.popitem(last=False)
        return True


class Notices:
    """Observes calls to IMDS and the proofs of service principals."""

    def __init__(self, log: Logger, meter: Meter, conditions: Conditions, *, clock: Clock) -> None:
        self._log = log
        self._meter = meter
        self._conditions = conditions
        self._clock = clock
        self._lines = TokenBucket(_LINES_A_SECOND, _LINES_AT_ONCE, clock)
        self._daily = _Seldom(clock, _DAY)
        self._named: set[str] = set()

    def imds(self, request: TokenRequest, seconds: float, failure: AzureError | None) -> None:
        """Record a call to IMDS."""
        kind = "adal_token_msi_userassignedid" if request.client_id or request.resource_id else "adal_token_msi"
        self._azure(kind, seconds, failure)

    def entra(self, seconds: float, failure: AzureError | None) -> None:
        """Record a call to Entra ID."""
        self._azure("adal_token", seconds, failure)

    def _azure(self, kind: str, seconds: float, failure: AzureError | None) -> None:
        if failure is None:
            self._meter.observe("imds_operations_duration_seconds", seconds, operation_type=kind)
        else:
            self._meter.count("imds_operations_errors_count", operation_type=kind)

    def imds_unnamed(self, request: TokenRequest) -> None:
        """Record a token that IMDS gave without saying whose it is."""
        self._meter.count("nmi_tokens_without_client_id_count")
        if self._daily.due(("unnamed", request.client_id)):
            client_id = redact_client_id(request.client_id)
            self._log.warning("the metadata endpoint does not say whose token it gave", clientid=client_id)

    def imds_foreign(self, request: TokenRequest, client_id: str) -> None:
        """Record a token of another identity than the one asked for: it was thrown away."""
        self._meter.count("nmi_foreign_tokens_count")
        if self._lines.try_take() == 0:
            self._log.error(
                "token of another identity thrown away",
                pod=request.caller,
                wanted=redact_client_id(request.client_id),
                came=redact_client_id(client_id),
            )

    def secret_problem(self, secret: str, reason: str) -> None:
        """Record a Secret that cannot be used."""
        self._meter.count("nmi_secret_problems_count")
        if self._conditions.raised(f"Secret {secret}", reason) and self._lines.try_take() == 0:
            self._log.error("failed to get the proof of a service principal", secret=secret, error=reason)

    def secret_usable(self, secret: str, not_after: float | None) -> None:
        """Record a Secret that can be used, and its certificate's end when that is near."""
        about = f"Secret {secret}"
        if not_after is None:
            self._conditions.cleared(about)
            return
        self._meter.gauge("nmi_certificate_expiry_timestamp_seconds", not_after, secret=self._name(secret))
        if not_after - self._clock.wall() > EXPIRY_NOTICE_SECONDS:
            self._conditions.cleared(about)
            return
        day = f"{datetime.fromtimestamp(not_after, UTC):%Y-%m-%d}"
        self._conditions.raised(about, f"Secret {secret}: its certificate expires on {day}; renew it")
        if self._daily.due(("expiry", secret)):
            self._log.warning("certificate of a service principal expires soon", secret=secret, day=day)

    def _name(self, secret: str) -> str:
        """Return the label for a Secret: not too many are told apart."""
        if secret in self._named or len(self._named) < _MOST_NAMES:
            self._named.add(secret)
            return secret
        return "other"
