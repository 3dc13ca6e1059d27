"""The directives of the API's pages, which are made from docstrings.

``package-modules`` takes all modules of a package: a page names only its package, so that a module
that is added, split or moved needs no change. ``public-names`` takes names of `jaxdenoise` itself.
"""

import importlib
import inspect
import pkgutil
import re


def module_names(package):
    """Return the names of the public modules of a package, sorted; of a plain module its own."""
    module = importlib.import_module(package)
    if not hasattr(module, "__path__"):
        return [package]
    found = (info.name for info in pkgutil.iter_modules(module.__path__))
    return [f"{package}.{name}" for name in sorted(found) if not name.startswith("_")]


def reference(package):
    """Return Markdown with one section for each module of a package."""
    return "\n".join(_section(name) for name in module_names(package))


def public_names(names):
    """Return Markdown with the documentation of some public names of `jaxdenoise`."""
    package = importlib.import_module("jaxdenoise")
    lines = []
    for name in names:
        if inspect.isclass(getattr(package, name)):
            lines += [f".. autoclass:: jaxdenoise.{name}", "   :members:", ""]
        else:
            lines += [f".. autofunction:: jaxdenoise.{name}", ""]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _section(name):
    directive = f".. automodule:: {name}\n   :members:\n   :show-inheritance:"
    return f"## `{name}`\n\n```{{eval-rst}}\n{directive}\n```\n"


def _join_sources(app, what, name, obj, options, lines):
    """Make a paragraph of each "Source: ...", whose hanging indent reST takes for a definition."""
    lines[:] = join_sources(lines)


def join_sources(lines):
    """Return the lines of a docstring with each "Source: ..." as a paragraph of one indent."""
    joined, within = [], None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if re.match(r"\s*Sources?: \S", line):
            within = indent
            joined += ["", line] if joined and joined[-1].strip() else [line]
        elif within is not None and line.strip():
            joined.append(" " * within + line.strip())
        else:
            within = None
            joined.append(line)
    return joined


def _skip_fields(app, what, name, obj, skip, options):
    """Leave out NamedTuple fields: the docstring of the class describes them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Register the directives."""
    from sphinx.util.docutils import SphinxDirective

    class PackageModules(SphinxDirective):
        required_arguments = 1

        def run(self):
            text = reference(self.arguments[0])
            return self.parse_text_to_nodes(text, allow_section_headings=True)

    class PublicNames(SphinxDirective):
        required_arguments = 1
        optional_arguments = 50

        def run(self):
            return self.parse_text_to_nodes(public_names(self.arguments))

    app.add_directive("package-modules", PackageModules)
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("autodoc-process-docstring", _join_sources, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
