"""What keeps the package readable: small modules and functions, one door for the command line."""

import ast
import re
from pathlib import Path

import jaxdenoise

PACKAGE = Path(jaxdenoise.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {str(file.relative_to(PACKAGE)): file.read_text(encoding="utf-8") for file in FILES}

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 350, 60


def test_no_module_is_long():
    lengths = {name: len(text.splitlines()) for name, text in MODULES.items()}
    assert {name: count for name, count in lengths.items() if count > MOST_LINES} == {}


def test_no_function_is_long():
    functions = [
        (name, node)
        for name, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]
    lengths = {f"{name}:{one.name}": one.end_lineno - one.lineno + 1 for name, one in functions}
    assert {
        name: count for name, count in lengths.items() if count > MOST_LINES_OF_A_FUNCTION
    } == {}


def test_only_the_command_line_knows_flags():
    pattern = re.compile(r"argparse|Namespace|args\.|\"--?[a-z]|`--[a-z]|[ (]--[a-z]")
    found = [
        name
        for name, text in MODULES.items()
        if not name.startswith("cli") and pattern.search(text)
    ]
    assert found == []


def test_the_devices_that_are_given_decide():
    """A module that asks for the default backend would compile wrongly for other devices."""
    assert [name for name, text in MODULES.items() if "default_backend" in text] == []
