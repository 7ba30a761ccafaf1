"""HTML as values: text is escaped, and made visible, unless it is already HTML, so nothing can forget to."""

from html import escape
from typing import Any

from transfuse_lab.visible import visible

VOID = frozenset({"wbr", "img", "meta"})
SHAPES = frozenset({"rect", "circle", "line", "path"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name_: str, *children: Any, **attributes: Any) -> Html:
    """An element. Children that are not `Html` are escaped; None is left out; lists are laid flat.

    A trailing underscore of an attribute is dropped (``class_``), others become hyphens
    (``stroke_width``); an attribute that is None is left out, and True stands alone.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    inner = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name_ in VOID:
        return Html(f"<{name_}{inner}>")
    if name_ in SHAPES and not children:
        return Html(f"<{name_}{inner}/>")
    return Html(f"<{name_}{inner}>{join(*children)}</{name_}>")


def join(*children: Any) -> Html:
    """Children one after another, escaped where they are not `Html`."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, list | tuple):
            parts.append(join(*child))
        elif isinstance(child, Html):
            parts.append(child)
        elif child is not None:
            parts.append(escape(visible(str(child))))
    return Html("".join(parts))


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    # SVG's own spelling of these is mixed.
    name = {"viewbox": "viewBox", "preserveaspectratio": "preserveAspectRatio"}.get(name, name)
    return f" {name}" if value is True else f' {name}="{escape(visible(str(value)), quote=True)}"'
