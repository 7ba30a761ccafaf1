"""transfuse: models that predict the next token and diffuse the rest, in one transformer.

What people use, brought in when it is first used: `import transfuse` is instant and imports no torch. The names
are in ``__init__.pyi``; authors of plugins find all they need in `transfuse.plugin`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
