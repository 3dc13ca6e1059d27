"""The measurements on a result, the verdict, the page.

The room may be called, as the public name `jaxdenoise.report` promises: see
`jaxdenoise.workflows.arrays.report`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Report(ModuleType):
    """A module that writes a report when it is called."""

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        # By name: the function stands on a higher floor, and is not needed before it is called.
        return import_module("jaxdenoise.workflows.arrays").report(*arrays, **options)


sys.modules[__name__].__class__ = _Report
