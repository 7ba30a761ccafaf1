"""Many pictures and words painted into one PNG."""

from collections.abc import Sequence
from io import BytesIO

from transfuse.errors import TransfuseError

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""


def paint(
    size: tuple[int, int],
    pictures: Sequence[tuple[bytes, Box]],
    words: Sequence[tuple[str, tuple[int, int], int, str]],
) -> bytes:
    """A white PNG of ``size`` (width, height) with each PNG in its box, enlarged without smoothing.

    words: a text, its left and top, pixels of type, a colour. Raises TransfuseError for a picture that is no PNG.
    """
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGB", size, "white")
    for data, (left, top, width, height) in pictures:
        try:
            with Image.open(BytesIO(data), formats=("PNG",)) as opened:
                picture = opened.convert("RGBA")
        except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ...
            raise TransfuseError(f"a drawing is no readable PNG: {str(error)[:200]}") from None
        kind = Image.Resampling.NEAREST if width >= picture.width else Image.Resampling.BOX
        picture = picture.resize((width, height), kind)
        sheet.paste(picture, (left, top), picture)
    pen = ImageDraw.Draw(sheet)
    for text, place, pixels, colour in words:
        pen.text(place, text, colour, ImageFont.load_default(pixels))
    buffer = BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
