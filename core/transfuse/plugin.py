"""All that authors of plugins need, in one import: hooks, settings, interfaces to implement, values they take.

    from transfuse.plugin import Part, Settings, SpanModality, hookimpl

Names are brought in when they are first used; they are in ``plugin.pyi``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("transfuse", __file__)
