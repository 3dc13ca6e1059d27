"""Messages of the library name options as Python does; here they become flags. Needs no JAX."""

import argparse
import re

from jaxdenoise.cli.parser import options_of, verb_names

# Arguments of the library whose flag has another name.
_ALIASES = {"psfs": "psf", "noise_std": "noise", "count": "processes", "index": "process"}
_VALUE = r"\.\.\.|\([^()]*\)|\[[^\[\]]*\]|\"[^\"]*\"|'[^']*'|[^\s,;:()\"']+"
_OPTION = re.compile(rf"(?<![\w./\\=-])(\w+)=({_VALUE})")


def in_flags(text: str, verb: str) -> str:
    """Return a message with options as flags: ``overwrite=True`` becomes ``--overwrite``.

    ``name=value`` becomes ``--name value``, and ``name=...`` only ``--name``. Names that are no
    options of the verb, nor of another one, stay.
    """
    options: dict[str, argparse.Action] = {}
    for name in [*verb_names(), verb]:  # the last one wins
        options |= options_of(name)

    def flag(match):
        name, value = match.groups()
        action = options.get(_ALIASES.get(name, name))
        return match.group() if action is None else _flag(action, value) or match.group()

    return _OPTION.sub(flag, text)


def _flag(action: argparse.Action, value: str) -> str | None:
    """The flag that sets a value, or None if no flag does."""
    name = action.option_strings[-1]
    if action.nargs == 0:  # a switch
        return name if value in (str(action.const), "...") else None
    if value == "...":
        return name
    if value[0] in "([":
        value = ",".join(part.strip().strip("'\"") for part in value[1:-1].split(","))
    return f"{name} {value.strip(chr(34) + chr(39))}"
