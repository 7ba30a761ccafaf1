"""What interfaces of modules have in common: ``help()`` shows what a plugin implements, and not all of torch's."""

from abc import ABCMeta
from collections.abc import Iterable

from torch import nn


class _Shown(ABCMeta):
    def __dir__(cls) -> Iterable[str]:
        """The names that ``nn.Module`` does not have already, and those that a class below it writes anew."""
        own = {name for base in cls.__mro__ if not issubclass(nn.Module, base) for name in vars(base)}
        return sorted(own | set(super().__dir__()) - set(dir(nn.Module)))


class Interface(nn.Module, metaclass=_Shown):
    """An abstract ``nn.Module``."""

    def __dir__(self) -> list[str]:
        """Of an object all names, as of any module."""
        return sorted({*super().__dir__(), *dir(nn.Module)})
