"""A component's settings are a frozen dataclass whose fields say which flag fills them. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from podidentity.config.errors import VersionRequested
from podidentity.config.flags import BOOL, INT, TEXT, Flag, Table

if TYPE_CHECKING:
    from podidentity.config.flags import Kind, Parsed

T = TypeVar("T")
N = TypeVar("N", int, float)

AZURE_NAMES: Final = (
    "CLOUD",
    "TENANT_ID",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "SUBSCRIPTION_ID",
    "RESOURCE_GROUP",
    "VM_TYPE",
    "USE_MSI",
    "USER_ASSIGNED_MSI_CLIENT_ID",
    "AZURE_ENVIRONMENT_FILEPATH",
    "MSI_ENDPOINT",
    "MSI_SECRET",
)
"""Names of the environment that the Azure side reads."""
_NAMESPACED: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def flag(
    name: str,
    kind: Kind[T],
    default: T,
    help_text: str,
    check: Callable[[T], str] | None = None,
    *,
    show: Callable[[T], str] | None = None,
) -> T:  # as dataclasses.field is typed
    """Give a dataclass field that the flag ``name`` fills; ``show`` writes a value that is not for every eye."""
    made = Flag(name, kind, default, help_text, check) if check else Flag(name, kind, default, help_text)
    return field(default=default, repr=show is None, metadata={"flag": made, "show": show or _plain})


def switch(name: str, help_text: str, *, default: bool = False) -> bool:
    """Give a dataclass field that a boolean flag fills."""
    return flag(name, BOOL, default, help_text)


def azure_environ_field() -> Mapping[str, str]:
    """Give a dataclass field for ``azure_environ``: it holds a secret, so only the names in it are ever shown."""
    return field(default_factory=dict, repr=False, metadata={"show": lambda value: " ".join(sorted(value))})


def azure_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Pick what the Azure side reads from an environment."""
    return {name: environ[name] for name in AZURE_NAMES if name in environ}


def above_zero(value: float) -> str:
    """Check for durations and rates."""
    return "" if value > 0 else "must be above 0"


def at_least(lowest: N) -> Callable[[N], str]:
    """Give a check for a number."""
    return lambda value: "" if value >= lowest else f"must be at least {lowest:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A check that knows its words: for completion."""

    words: tuple[str, ...]

    def __call__(self, value: str) -> str:
        """Say what is wrong with ``value``."""
        return "" if value in self.words else f"is none of {', '.join(self.words)}"


def one_of(*words: str) -> OneOf:
    """Give a check for a word."""
    return OneOf(words)


def dated(value: str) -> str:
    """Check for an api-version of Azure."""
    return "" if _DATED.fullmatch(value) else "is not an api-version such as 2024-07-01"


def namespaced(value: str) -> str:
    """Check for ``namespace/name``, or nothing."""
    return "" if not value or _NAMESPACED.fullmatch(value) else "is not namespace/name"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    """What every component has. ``notices``: what was given and has no effect, one sentence each, to log at start.

    ``given``: the names of the fields that the command line set.
    """

    verbosity: int = flag("v", INT, 0, "log verbosity: 5 decisions, 6 cache and events, 7 objects")
    custom_user_agent: str = flag("custom-user-agent", TEXT, "", "appended to the user agent")
    notices: tuple[str, ...] = ()
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False, metadata={"show": lambda _: ""})


S = TypeVar("S", bound=CommonSettings)

VERSION: Final = Flag("version", BOOL, default=False, help="print the version and exit")
# A flag without help is accepted and has no effect.
_KLOG: Final[tuple[Flag[Any], ...]] = (
    Flag("vmodule", TEXT, "", ""),
    Flag("logtostderr", BOOL, default=True, help=""),
    Flag("alsologtostderr", BOOL, default=False, help=""),
    Flag("stderrthreshold", TEXT, "ERROR", ""),
    Flag("log_dir", TEXT, "", ""),
    Flag("log_file", TEXT, "", ""),
    Flag("log_file_max_size", INT, 1800, ""),
    Flag("add_dir_header", BOOL, default=False, help=""),
    Flag("skip_headers", BOOL, default=False, help=""),
    Flag("skip_log_headers", BOOL, default=False, help=""),
    Flag("one_output", BOOL, default=False, help=""),
    Flag("log_backtrace_at", TEXT, "", ""),
)
_AS_IT_IS: Final[Mapping[str, tuple[object, ...]]] = {
    "logtostderr": (None, True),
    "alsologtostderr": (None, True, False),
}
"""Values that ask for what is so anyway: the log goes to stderr. None: not given."""


class Grammar(Protocol):
    """``goflag.parse`` or ``pflag.parse``."""

    def __call__(self, argv: Sequence[str], table: Table) -> Parsed:
        """Read a command line."""


def flag_table(
    settings: type[CommonSettings],
    command: str,
    without_effect: Iterable[Flag[Any]] = (),
    examples: Sequence[str] = (),
) -> Table:
    """Give the flags of a component; ``without_effect``: further ones, without help, that are accepted."""
    fields = (item.metadata["flag"] for item in _flag_fields(settings))
    return Table(command, (VERSION, *fields, *_KLOG, *without_effect), examples)


def read_flags(settings: type[S], argv: Sequence[str], grammar: Grammar, table: Table) -> S:
    """Fill the fields that have flags from ``argv`` (without the command's name); the others keep their defaults.

    ``table``: the ``flag_table`` of these settings. A flag without help that is given becomes a notice. UsageError,
    HelpRequested, VersionRequested.
    """
    flags = {item.name: cast("Flag[Any]", item.metadata["flag"]) for item in _flag_fields(settings)}
    dropped = [one for one in table.flags.values() if not one.help]
    parsed = grammar(argv, table)
    if parsed.values.get(VERSION.name):
        raise VersionRequested
    notices = [
        f"--{one.name} has no effect"
        for one in dropped
        if parsed.values.get(one.name) not in _AS_IT_IS.get(one.name, (None,))
    ]
    if parsed.rest:
        ignored = " ".join(f'"{argument}"' for argument in parsed.rest)
        notices.append(f"ignored: {ignored}; the value of a boolean flag is written --name=value")
    given = {name: parsed.values[one.name] for name, one in flags.items() if one.name in parsed.values}
    made: Callable[..., S] = settings
    return made(**given, notices=tuple(notices), given=frozenset(given))


def describe(settings: CommonSettings) -> dict[str, str]:
    """Give every setting by its name as text that may be logged: client ids are shortened, secrets left out."""
    shown: dict[str, str] = {}
    for item in dataclasses.fields(settings):
        value: object = getattr(settings, item.name)
        writer: Callable[[Any], str] = item.metadata.get("show", _plain)
        shown[item.name] = writer(value)
    return shown


def _flag_fields(settings: type[CommonSettings]) -> list[dataclasses.Field[Any]]:
    return [item for item in dataclasses.fields(settings) if "flag" in item.metadata]
