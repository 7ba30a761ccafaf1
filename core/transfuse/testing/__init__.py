"""For tests of your own plugins, masks and packers: kits of checks, Hypothesis strategies, comparison of masks.

Names are brought in when they are first used; they are in ``__init__.pyi``. The test classes need pytest, strategies
and the packing machine Hypothesis, and nothing else here either. Imports any room of core; nothing of core imports it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
