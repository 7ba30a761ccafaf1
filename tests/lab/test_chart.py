"""Charts show every finite point in place; a mask's picture shows its cells."""

import re

import pytest
from transfuse import TransfuseError
from transfuse_lab.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, line_chart, strip
from transfuse_lab.report.masks import MaskPicture, draw_mask


def lines(svg: str, kind: str) -> list[list[tuple[float, float]]]:
    """The points of each curve or band."""
    paths = re.findall(r'<path d="M([^"Z]+)Z?" class="' + kind, svg)
    return [[(float(x), float(y)) for x, y in (p.split() for p in path.split("L"))] for path in paths]


def chart(*series: Series) -> str:
    return line_chart(series, "x", "y", "a chart")


def test_a_curve_fills_the_frame_from_left_to_right() -> None:
    svg = chart(Series("a", 0, (((0, 5, 10), (100.0, 10.0, 1.0)),)))
    ((start, middle, end),) = lines(svg, "curve")
    assert (start[0], middle[0], end[0]) == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    assert TOP < start[1] < middle[1] < end[1] < HEIGHT - BOTTOM
    # On a log scale three powers of ten are evenly spaced.
    assert middle[1] - start[1] == pytest.approx(end[1] - middle[1], abs=0.2)


def test_a_value_that_is_not_positive_makes_the_scale_linear() -> None:
    ((start, middle, end),) = lines(chart(Series("a", 0, (((0, 1, 2), (0.0, 1.0, 2.0)),))), "curve")
    assert start[1] - middle[1] == pytest.approx(middle[1] - end[1], abs=0.2)


def test_seeds_are_averaged_and_banded_by_their_extremes() -> None:
    seeds = (((0.0, 10.0), (0.0, 0.0)), ((0.0, 5.0, 10.0), (4.0, 2.0, 4.0)))
    svg = chart(Series("a", 3, seeds))
    (curve,), (band,) = lines(svg, "curve"), lines(svg, "band")
    heights = [y for _, y in band]
    assert curve[0][1] == pytest.approx((max(heights) + min(heights)) / 2, abs=0.2)
    assert 'class="curve c3"' in svg


def test_seeds_are_drawn_only_where_all_have_data() -> None:
    ((start, *_, end),) = lines(
        chart(
            Series("a", 0, (((0, 8), (1.0, 1.0)), ((2, 10), (1.0, 1.0)))),
            Series("b", 1, (((0, 10), (1, 2)),)),
        ),
        "curve c0",
    )
    across = (WIDTH - LEFT - RIGHT) / 10
    assert (start[0], end[0]) == pytest.approx((LEFT + 2 * across, LEFT + 8 * across), abs=0.1)


def test_a_curve_ends_where_it_stops_being_finite() -> None:
    ((first, second),) = lines(
        chart(Series("a", 0, (((0, 1, 2, 3), (2.0, 1.0, float("nan"), 1.0)),))), "curve"
    )
    assert first[0] < second[0]


@pytest.mark.parametrize(
    "curves", [(), (((), ()),), (((0, 1), (float("inf"), 1.0)),), (((0, 1), (1, 1)), ((2, 3), (1, 1)))]
)
def test_nothing_to_draw_is_said(curves: tuple) -> None:
    assert "No curve" in chart(Series("a", 0, curves))


@pytest.mark.parametrize(("x", "y"), [((0,), (5.0,)), ((0, 1), (2.0, 2.0)), ((0, 0), (0.0, 0.0))])
def test_flat_and_single_points_are_drawn(x: tuple, y: tuple) -> None:
    assert "nan" not in chart(Series("a", 0, ((x, y),)))


@pytest.mark.parametrize("high", [1.3, 7.0, 40.0, 5e4])
def test_the_vertical_axis_has_three_to_nine_marks(high: float) -> None:
    svg = chart(Series("a", 0, (((0, 1), (1.0, high)),)))
    assert 3 <= svg.count('class="rule"') <= 9


def test_a_strip_has_a_dot_a_value_in_order() -> None:
    svg = strip([(1.0, 3.0), (2.0, None)], "values")
    dots = [(float(x), colour) for x, colour in re.findall(r'cx="([\d.]+)"[^>]*class="dot (c\d)"', svg)]
    assert [colour for _, colour in dots] == ["c0", "c0", "c1"]
    assert dots[0][0] < dots[2][0] < dots[1][0]
    assert strip([(None,), ()], "nothing") == ""


def test_a_mask_is_drawn_cell_by_cell() -> None:
    svg = draw_mask(MaskPicture(("a",), "m", ("#.#", "##.", "...")))
    cells = {
        (int(y), int(x) + step)
        for x, y, width in re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="1" class="seen"', svg)
        for step in range(int(width))
    }
    assert cells == {(0, 0), (0, 2), (1, 0), (1, 1)}


@pytest.mark.parametrize("drawing", [(), ("#", "##"), ("#x",)])
def test_what_is_no_drawing(drawing: tuple[str, ...]) -> None:
    with pytest.raises(TransfuseError, match="mask m: a drawing is rows"):
        MaskPicture((), "m", drawing)


def test_labels_stand_beside_their_rows() -> None:
    svg = draw_mask(MaskPicture(("a",), "m", ("#", "."), ("text", "image")))
    assert re.findall(r"<text[^>]*>(\w+)</text>", svg) == ["text", "image"]
    with pytest.raises(TransfuseError, match="1 labels for 2 queries"):
        MaskPicture((), "m", ("#", "."), ("text",))
