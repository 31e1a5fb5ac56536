"""`penny completion`: a script for bash that completes services, commands, verbs and options.

Written out in full, from the manifests and the modules' command lines: completing a word starts no Python.
"""
from __future__ import annotations

import argparse
import importlib
import sys
from types import SimpleNamespace

from penny.core import manifest as manifests
from penny.core import run
from penny.core.run import Context

SCRIPT = """\
# penny's completion for bash: eval "$(penny completion)" in ~/.bashrc
_penny() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} key=${COMP_WORDS[1]} known
    case $before in --home) COMPREPLY=($(compgen -d -- "$word")); return ;; esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "%s" -- "$word")); return
    fi
    if [ "$COMP_CWORD" -gt 2 ]; then
        case "$key ${COMP_WORDS[2]}" in
%s        esac
    fi
    case $key in
%s    esac
    COMPREPLY=($(compgen -W "$known" -- "$word"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _penny penny bin/penny ./bin/penny
"""


def once(settings: SimpleNamespace, context: Context, options: argparse.Namespace) -> int:
    """Print the script."""
    sys.stdout.write(script())
    return run.DONE


def script() -> str:
    names = manifests.names()
    tops, verbs = [], []
    for name in names:
        manifest = manifests.load(name)
        parser = run.build_parser(manifest, importlib.import_module(manifest.module))
        words = _options(parser)
        for action in parser._actions:  # argparse has no public way to list subparsers
            if isinstance(action, argparse._SubParsersAction):
                words += sorted(action.choices)
                verbs += ['            "%s %s") known="%s" ;;\n' % (name, verb, " ".join(_options(sub)))
                          for verb, sub in action.choices.items()]
        tops.append('        %s) known=${known-"%s"} ;;\n' % (name, " ".join(words)))
    return SCRIPT % (" ".join(names), "".join(verbs), "".join(tops))


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [word for action in parser._actions for word in action.option_strings if word.startswith("--")]


if __name__ == "__main__":
    run.main("completion")
