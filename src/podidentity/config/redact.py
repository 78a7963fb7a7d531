"""Values that are never shown."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

REDACTED: Final = "##### REDACTED #####"
_SHOWN: Final = 4


def redact_client_id(value: str) -> str:
    """First and last four characters around ``##### REDACTED #####``; nothing of a value shorter than eight."""
    if len(value) < 2 * _SHOWN:
        return REDACTED
    return f"{value[:_SHOWN]}{REDACTED}{value[-_SHOWN:]}"


class SecretText:
    """A text that shows itself only to who asks with ``reveal()``: not in str, repr, format, JSON or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the text itself."""
        return self._value

    def __bool__(self) -> bool:
        """Whether there is anything to hide."""
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare with another SecretText in a time that does not tell where they differ."""
        if not isinstance(other, SecretText):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode(errors="surrogatepass"), other._value.encode(errors="surrogatepass")
        )

    def __hash__(self) -> int:
        """Equal secrets, equal hashes."""
        return hash(self._value)

    def __repr__(self) -> str:
        """Nothing of the value, not even its length."""
        return REDACTED

    def __format__(self, spec: str) -> str:
        """As ``repr``, in any format."""
        return format(REDACTED, spec)

    def __reduce__(self) -> NoReturn:
        """Refuse to be written anywhere."""
        raise TypeError("a SecretText cannot be pickled or copied out")
