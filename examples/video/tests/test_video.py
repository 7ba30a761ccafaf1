"""The kits over frames and clips; a clip, its positions and its mask by eye; what a metric says without a model."""

import numpy as np
import pytest
from tf_video.data import Clips, ClipSettings, clip
from tf_video.metric import FrameError, moved_on
from transfuse import Registry
from transfuse.plugin import Evaluation, Item, Task
from transfuse.testing import DataSetTests, ModalityTests

RECIPE = Registry.open().recipe("clips")
DATA = Clips(ClipSettings(train=60, heldout=12))


class TestFrame(ModalityTests):
    mask = RECIPE.mask
    rope = RECIPE.model.rope

    @pytest.fixture
    def modality(self):
        return RECIPE.modalities["frame"].build(name="frame")

    @pytest.fixture
    def raws(self):
        return list(DATA.raw("train", "frame"))[:8]


class TestClips(DataSetTests):
    @pytest.fixture
    def data(self):
        return DATA


def test_a_digit_bounces():
    frames = clip(np.ones((8, 8), np.float32), (0, 16), (0, -8), 5)
    assert [int(frame[0].any(axis=0).argmax()) for frame in frames] == [16, 8, 0, 8, 16]
    assert all(frame.sum() == 64 for frame in frames)


def test_both_copies_of_a_frame_stand_at_one_time_and_at_their_rows_and_columns():
    frame = RECIPE.modalities["frame"].build(name="frame")
    frame.fit([np.zeros((1, 16, 16), np.float32)], 0, print)
    noised, clean = frame.spans(Item("frame", None), frame.encode(np.zeros((1, 16, 16), np.float32)))
    for span, after in ((noised, 7), (clean, 8)):
        assert span.columns["row"].tolist() == [-1, 0, 0, 1, 1, -1]
        assert span.columns["column"].tolist() == [-1, 0, 1, 0, 1, -1]
        times, cursor = frame.positions(span, 7)
        assert (times.tolist(), cursor) == ([7] * 6, after)


def test_frames_see_earlier_frames_clean_and_themselves_whole():
    """Two frames of a patch each, with their markers: noised, clean, noised, clean."""
    columns = {
        "doc": np.zeros(12, int),
        "idx": np.arange(12),
        "span": np.repeat(range(4), 3),
        "noised": np.repeat([1, 0, 1, 0], 3),
    }
    assert RECIPE.mask.draw(columns) == [
        *["###........."] * 3, *["...###......"] * 3, *["...######..."] * 3, *["...###...###"] * 3,
    ]  # fmt: skip


def test_what_no_model_gets_right():
    frames = clip(np.random.default_rng(0).random((8, 8), np.float32), (0, 0), (8, 0), 4)
    assert np.array_equal(moved_on(frames[0], frames[1]), frames[2])
    assert not np.array_equal(moved_on(frames[1], frames[2]), frames[3])  # it bounces
    prompts = [(Item("frame", frames[0]), Item("frame", frames[1]))]
    asked = Evaluation(Task.parse("frame+frame->frame"), prompts, truth=[frames[2]], made=[frames[2]])
    found = FrameError().compute(asked)
    assert found["frame_error"] == found["frame_error_moved"] == 0 < found["frame_error_repeated"]
    assert found["frame_error_repeated"] == pytest.approx(2 * found["frame_error_empty"])
    assert found["frame_placed"] == found["frame_placed_moved"] == 1
    bounced = Evaluation(asked.task, [(prompts[0][1], Item("frame", frames[2]))], [frames[3]], [frames[2]])
    found = FrameError().compute(bounced)
    assert found["frame_placed"] == found["frame_placed_moved"] == 0
    assert found["frame_error_moved"] == pytest.approx(2 * found["frame_error_empty"])
