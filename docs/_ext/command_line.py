"""The directive ``command-line``: the reference of the command line, generated from its parser.

`reference` is a pure function from an `argparse` parser to Markdown, one section a verb.
"""

import argparse
import re


def reference(parser):
    """Return the reference of a parser with subcommands as Markdown."""
    return "\n".join(
        line for name, verb, text in verbs(parser) for line in _verb(parser.prog, name, verb, text)
    )


def verbs(parser):
    """Yield the name, the parser and the one-line description of each subcommand."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help for choice in action._choices_actions}
            for name, verb in action.choices.items():
                yield name, verb, texts.get(name) or verb.description or ""


def _verb(prog, name, verb, text):
    yield f"## `{prog} {name}`\n"
    yield f"{_sentence(text)}\n"
    yield f"```text\n{_usage(verb)}\n```\n"
    for group in verb._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        ]
        if not actions:
            continue
        yield f"**{_title(group)}**\n"
        for action in actions:
            yield f"{_names(action)}\n: {_help(verb, action)}\n"


def _usage(verb):
    formatter = argparse.HelpFormatter(verb.prog, width=88)
    formatter.add_usage(verb.usage, verb._actions, verb._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _title(group):
    named = {"positional arguments": "Arguments", "options": "Options"}
    title = named.get(group.title) or group.title or "Options"
    return title[0].upper() + title[1:]


def _names(action):
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{f'{name} {value}'.strip()}`" for name in action.option_strings)


def _value(action):
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return action.metavar
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _help(verb, action):
    text = argparse.HelpFormatter(verb.prog)._expand_help(action) if action.help else ""
    return f"{_sentence(text)}{_default(action, text)}".strip() or "See the `TrainConfig` field."


def _default(action, text):
    plain = action.default not in (None, False, True, argparse.SUPPRESS, [])
    return f" Default: `{action.default}`." if plain and "default" not in text else ""


def _sentence(text):
    """Return a line of help as a sentence that is safe in Markdown, its flags as code."""
    text = " ".join(text.split()).rstrip(".")
    text = re.sub(r"([\\`*_<>\[\]{}])", r"\\\1", text)
    text = re.sub(r"--[a-z][a-z-]*", r"`\g<0>`", text)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def setup(app):
    """Register the directive."""
    from sphinx.util.docutils import SphinxDirective

    from jaxdenoise.cli.parser import parser

    class CommandLine(SphinxDirective):
        def run(self):
            return self.parse_text_to_nodes(reference(parser()), allow_section_headings=True)

    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
