"""What ``terraform output`` prints, as values: its JSON, or what it prints without ``-json``. No I/O.

Either may be of one output (``terraform output NAME``), whose value then stands under an empty name. PowerShell's ``>``
writes UTF-16, and lines end as the system that wrote them likes.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

import msgspec

from podidentity.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | <<-?(?P<end>\w+)\r?\n(?P<text>.*?)\n[ \t]*(?P=end)(?=\s|$)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w-])
    | (?P<word>[A-Za-z_][\w-]*)
    | (?P<hidden><sensitive>)
    | (?P<sign>[=\[\]{}(),:])
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}
_NOT: Final = "not the JSON of `terraform output -json`, without a name after it"


def decoded(data: bytes) -> str:
    """The text of a file that people made with whatever shell they have. Raises ConfigError."""
    if not data.strip():
        raise ConfigError("is empty")
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not text ({error.reason} at byte {error.start})") from error


def read_values(data: bytes) -> Mapping[str, object]:
    """Values by the names of their outputs. Raises ConfigError when it is neither form."""
    try:
        text = decoded(data)
    except ConfigError as error:
        raise ConfigError(f"{_NOT}: {error}") from error
    try:
        found = msgspec.json.decode(text.encode(), type=object)
    except (msgspec.DecodeError, RecursionError) as error:
        if text.lstrip().startswith("{"):  # JSON that ends too early, for instance
            raise ConfigError(f"{_NOT}: {error}") from error
        return _written(text)
    if isinstance(found, dict) and all(isinstance(one, dict) and "value" in one for one in found.values()):
        return {str(name): one["value"] for name, one in found.items()}
    if isinstance(found, dict | list) and found:
        return {"": found}
    raise ConfigError(f"{_NOT}: it is {'empty' if not found else 'a single value'}")


def _written(text: str) -> Mapping[str, object]:
    """What is printed without ``-json``: ``name = value`` lines, or one value."""
    tokens = _Tokens(text)
    try:
        if not tokens.names_follow():
            return {"": tokens.whole_value()}
        return tokens.pairs()
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{_NOT}: {error}") from error


class _Tokens:
    """A reader of terraform's own notation, one token ahead. Its methods raise ValueError."""

    def __init__(self, text: str) -> None:
        self._text = text.rstrip()
        self._at = 0

    def names_follow(self) -> bool:
        """Whether the text begins with ``name =``."""
        return re.match(r"\s*[A-Za-z_][\w-]*\s*=", self._text) is not None

    def pairs(self, close: str = "") -> dict[str, object]:
        """``name = value`` until the sign ``close``, or the end of the text."""
        found: dict[str, object] = {}
        while not self._ends(close):
            name = self._next()
            key = msgspec.json.decode(name["string"]) if name["string"] else name["word"]
            sign = self._next()["sign"]
            if not isinstance(key, str) or sign not in {"=", ":"}:
                raise ValueError(f'"name = value" expected before character {self._at}')
            found[key] = self._value()
            self._skip(",")
        return found

    def whole_value(self) -> object:
        """The one value that the text is."""
        value = self._value()
        if not self._ends(""):
            raise ValueError(f"something follows at character {self._at}")
        return value

    def _value(self) -> object:
        token = self._next()
        if token["string"] or token["number"]:
            return msgspec.json.decode(token["string"] or token["number"] or "")
        if token["text"] is not None:
            return token["text"] + "\n"
        if token["hidden"]:
            raise ValueError("a sensitive value is hidden there; `terraform output -json` prints it")
        if token["word"]:
            return self._called(token["word"])
        if token["sign"] == "{":
            return self.pairs("}")
        if token["sign"] == "[":
            return self._items()
        raise ValueError(f'"{token["sign"]}" before character {self._at} is no value')

    def _called(self, word: str) -> object:
        """``tolist(...)`` and its kin are what is inside them."""
        if word in _WORDS:
            return _WORDS[word]
        if self._next()["sign"] != "(":
            raise ValueError(f'"{word}" before character {self._at} is no value')
        value = self._value()
        if self._next()["sign"] != ")":
            raise ValueError(f'")" expected before character {self._at}')
        return value

    def _items(self) -> list[object]:
        found = []
        while not self._ends("]"):
            found.append(self._value())
            self._skip(",")
        return found

    def _next(self) -> Mapping[str, str | None]:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise ValueError(f"cannot be read at character {self._at}")
        self._at = match.end()
        return match.groupdict()

    def _ends(self, close: str) -> bool:
        """Whether the sign ``close`` is next, and take it; for an empty one, whether the text is over."""
        if not close:
            return self._at >= len(self._text)
        return self._skip(close)

    def _skip(self, sign: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match["sign"] != sign:
            return False
        self._at = match.end()
        return True
