"""Denoise microscopy images without clean data: DecoNoising in JAX, beside the classical filters.

The public names stand in ``__init__.pyi``. Each is loaded when it is first used, so that
``import jaxdenoise`` and the help of the command line do not wait for JAX.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
