"""From a command line to an exit code."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import podidentity
from podidentity.cli.entry import COMMANDS, guarded, run
from podidentity.cli.main import main, too_old
from podidentity.config.errors import ConfigError, HelpRequested, UsageError


def raising(error: BaseException) -> int:
    """Stand for a command that fails."""
    raise error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("no such flag"), 2, "podidentity x: no such flag\n"),
        (ConfigError("no such\n  file"), 1, "podidentity x: no such file\n"),
        (PermissionError(13, "Permission denied", "/etc/x"), 1, "podidentity x: /etc/x: Permission denied\n"),
        (OSError(98, "Address already in use"), 1, "podidentity x: Address already in use\n"),
        (TimeoutError("too slow"), 1, "podidentity x: too slow\n"),
        (KeyboardInterrupt(), 130, ""),
        (ExceptionGroup("g", [ExceptionGroup("h", [ConfigError("deep")])]), 1, "podidentity x: deep\n"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130, ""),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of error has its exit code and one line on stderr, without a traceback."""
    assert guarded("podidentity x", lambda: raising(error)) == code
    assert capsys.readouterr() == ("", words)


@pytest.mark.parametrize("error", [LookupError("bug"), ExceptionGroup("g", [ConfigError("x"), LookupError("bug")])])
def test_a_bug_is_not_dressed_up(error: BaseException) -> None:
    """What no person can mend keeps its traceback, also beside something that they could."""
    with pytest.raises(type(error)):
        guarded("podidentity x", lambda: raising(error))


def test_help_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """Help that was asked for is an answer, not an error."""
    assert guarded("podidentity x", lambda: raising(HelpRequested("usage: x"))) == 0
    assert capsys.readouterr() == ("usage: x\n", "")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["nmmi"], 2, 'podidentity: unknown command "nmmi"; did you mean nmi?\n'),
        (["frobnicate"], 2, 'podidentity: unknown command "frobnicate"; see --help\n'),
        (["-v"], 2, 'podidentity: unknown command "-v"; see --help\n'),
        (
            ["mic", "--forceNamespace"],
            2,
            "podidentity mic: unknown flag --forceNamespace; did you mean --forceNamespaced?\n",
        ),
        (
            ["mic", "--syncRetryDuration=5"],
            2,
            'podidentity mic: --syncRetryDuration: "5" has no unit, write for example 5s\n',
        ),
        (
            ["nmi", "--node="],
            2,
            "podidentity nmi: --node is empty; give the node's name, in a manifest --node=$(NODE_NAME)",
        ),
        (["csi-provider", "--endpoint=x"], 2, "podidentity csi-provider: invalid endpoint: x; write --endpoint="),
        (["version", "--jsn"], 2, "podidentity version: No such option: --jsn"),
        (["version", "x"], 2, "podidentity version: Got unexpected extra argument"),
    ],
)
def test_wrong_command_lines(argv: Sequence[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command or flag is exit 2 and one line that names the nearest known one."""
    assert run(["podidentity", *argv]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(words)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help names every command with what it is for."""
    assert run(["podidentity", *argv]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the same list is an error, on stderr."""
    assert run(["podidentity"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "  nmi " in captured.err


@pytest.mark.parametrize("name", ["mic", "nmi"])
def test_components_print_the_originals_version_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``mic --version`` needs no environment and prints the original's line."""
    assert run(["podidentity", name, "--version"]) == 0
    assert capsys.readouterr().out.startswith(f"MIC Version: {podidentity.__version__} - NMI Version: ")


def test_csi_provider_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The provider's version is JSON with the original's two keys."""
    assert run(["podidentity", "csi-provider", "--version"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["version", "buildDate"]


@pytest.mark.parametrize("argv", [["mic", "-h"], ["nmi", "--help"], ["csi-provider", "--help"], ["version", "--help"]])
def test_every_command_has_help(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help of each command is printed, exit 0."""
    assert run(["podidentity", *argv]) == 0
    assert f"podidentity {argv[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["version"], ["--version"]])
def test_version_is_a_table(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A person reads version, Python and platform."""
    assert run(["podidentity", *argv]) == 0
    text = capsys.readouterr().out
    assert podidentity.__version__ in text
    assert "python" in text


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads the same as one object."""
    assert run(["podidentity", "version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == podidentity.__version__


def test_mic_without_its_namespace() -> None:
    """A whole process: missing MIC_POD_NAMESPACE is one line and exit 1, before anything is loaded or contacted."""
    environ = {name: value for name, value in os.environ.items() if name != "MIC_POD_NAMESPACE"}
    done = subprocess.run(
        [sys.executable, "-m", "podidentity", "mic"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("podidentity mic: MIC_POD_NAMESPACE is not set; ")
    assert done.stderr.count("\n") == 1


def test_a_component_does_not_load_what_only_people_use() -> None:
    """A component's start imports neither typer, nor rich, nor the lab: it counts under a CPU limit."""
    code = (
        "import sys; from podidentity.cli.entry import run; run(['podidentity', 'nmi', '--version']);"
        "print(*sorted({'typer', 'rich', 'grpc', 'podidentity.lab', 'azure.identity', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[1:] == [""]


def test_an_old_python_gets_a_sentence() -> None:
    """The first check needs no new syntax, and says which Python is needed and which one this is."""
    assert too_old((3, 11, 0)) == too_old((3, 13, 0)) == too_old((4, 0)) == ""
    assert too_old((3, 9, 2)).startswith("podidentity: Python 3.11 or newer is needed, this is 3.9 (")
    package = Path(podidentity.__file__).parent
    for name in ("__init__.py", "__main__.py", "cli/__init__.py", "cli/main.py"):
        ast.parse((package / name).read_text(), feature_version=(3, 7))
        assert "from __future__" not in (package / name).read_text()


def test_main_exits_with_the_code() -> None:
    """The installed command is this function; it ends the process with the command's exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["podidentity", "nonsense"])
    assert ended.value.code == 2
