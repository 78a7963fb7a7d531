"""``podidentity completion SHELL``: the script that lets a shell ask ``podidentity __complete``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from podidentity.cli.typed import call, examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Shell(StrEnum):
    """The shells there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_BASH: Final = r"""# bash completion of podidentity
_podidentity() {
    local lines directive
    mapfile -t lines < <("$1" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=()
    (( ${#lines[@]} )) || return 0
    directive=${lines[-1]}
    unset 'lines[-1]'
    COMPREPLY=("${lines[@]%%$'\t'*}")
    [[ $directive == :0 ]] || compopt +o default
}
complete -o default -F _podidentity podidentity
"""
_ZSH: Final = r"""#compdef podidentity
_podidentity() {
    local -a lines found
    local directive line
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    directive=${lines[-1]}
    [[ $PREFIX == -*=* ]] && compset -P '*='
    for line in "${(@)lines[1,-2]}"; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    (( $#found )) && _describe podidentity found
    [[ $directive == :0 ]] && _files
}
if [[ $funcstack[1] == _podidentity ]]; then
    _podidentity "$@"
else
    compdef _podidentity podidentity
fi
"""
_FISH: Final = r"""# fish completion of podidentity
function __podidentity
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    set -l prefix (string match -r -- '^-[^=]*=' "$current")
    for line in $lines[1..-2]
        echo "$prefix$line"
    end
    if test "$lines[-1]" = ":0"
        set -l typed (string replace -r -- '^-[^=]*=' '' "$current")
        for path in (__fish_complete_path "$typed")
            echo "$prefix$path"
        end
    end
end
complete --command podidentity --no-files --arguments '(__podidentity)'
"""
SCRIPTS: Final[Mapping[Shell, str]] = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command(
    epilog=examples(
        "podidentity completion bash > ~/.local/share/bash-completion/completions/podidentity",
        "podidentity completion zsh > ~/.zfunc/_podidentity",
        "podidentity completion fish > ~/.config/fish/completions/podidentity.fish",
    )
)
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print the completion script of a shell; for kubectl there is kubectl_complete-podidentity."""
    print(SCRIPTS[shell], end="")


def main(argv: Sequence[str]) -> int:
    """Run with the arguments after ``completion``."""
    return call(app, argv, "podidentity completion")
