"""The kits over speech and its data; what a spectrogram keeps; files; dates. What needs the prompts fetches them."""

from pathlib import Path

import numpy as np
import pytest
from tf_speech.data import DATES, Dates, DateSettings, date, fetch
from tf_speech.mel import HOP, RATE, log_mel, waveform
from tf_speech.metric import HeardAsAsked
from transfuse import Registry
from transfuse.plugin import Evaluation, Item, Task, TransfuseError
from transfuse.testing import DataSetTests, ModalityTests

RECIPE = Registry.open().recipe("dates")


def tone(seconds: float, hertz: float) -> np.ndarray:
    at = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * at) * np.sin(np.pi * at / seconds)).astype(np.float32)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prompts, from Debian's archive."""
    folder = tmp_path_factory.mktemp("sounds")
    try:
        fetch(folder)
    except TransfuseError as error:
        pytest.skip(str(error))
    return folder


class TestSpeech(ModalityTests):
    mask = RECIPE.mask

    @pytest.fixture
    def modality(self):
        return RECIPE.modalities["speech"].build(name="speech")

    @pytest.fixture
    def raws(self):
        return [tone(0.25 + 0.25 * (i % 2), 300 + 200 * i) for i in range(6)]


class TestDates(DataSetTests):
    @pytest.fixture
    def data(self, sounds):
        return Dates(DateSettings(folder=str(sounds)))


def test_a_wave_with_this_spectrogram_is_found():
    mels = log_mel(tone(0.512, 700))
    assert mels.shape == (0.512 * RATE / HOP, 40)
    loud = mels > mels.max() - 2
    assert np.abs(log_mel(waveform(mels)) - mels)[loud].mean() < 0.3
    assert np.array_equal(waveform(mels), waveform(mels))


def test_files_are_wav_of_telephones(tmp_path):
    speech, wave = RECIPE.modalities["speech"].build(name="speech"), tone(0.256, 500)
    speech.save(wave, tmp_path / "a.wav")
    assert np.abs(speech.load(tmp_path / "a.wav") - wave).max() < 1e-4
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(TransfuseError, match=r"b\.wav: is no WAV file"):
        speech.load(tmp_path / "b.wav")


def test_what_is_too_long_is_said():
    speech = RECIPE.modalities["speech"].build(name="speech")
    speech.fit([tone(0.25, 500)], 0, lambda line: None)
    with pytest.raises(TransfuseError, match=r"0\.5 s are too long"):
        speech.encode(tone(0.5, 500))


def test_dates_are_distinct_and_said_as_people_do():
    said = {date(number) for number in range(DATES)}
    assert len(said) == DATES
    assert {"january first", "july twenty first", "december thirty first", "may thirtieth"} <= said


def test_missing_prompts_are_named_with_the_command_that_fetches_them(tmp_path):
    with pytest.raises(TransfuseError, match=r"no prompts in .*: `python\S* -m tf_speech"):
        Dates(DateSettings(folder=str(tmp_path))).document("train", 0)


def test_recordings_are_told_apart_and_heard_again_after_their_phases_went(sounds):
    data = Dates(DateSettings(folder=str(sounds)))
    held = [data.document("heldout", i) for i in range(12)]
    truth = [document.items[1].data for document in held]
    made = [waveform(log_mel(np.pad(wave, (0, -len(wave) % HOP)))) for wave in truth]
    prompts = [document.items[:1] for document in held]
    task = Task.parse("text->speech")

    def heard(made):
        return HeardAsAsked().compute(
            Evaluation(task, prompts, truth, made, examples=lambda split: iter(one))
        )

    one = [((Item("text", "no date"),), truth[0])]
    assert heard(made)["heard_as_asked"] == 1
    assert heard(made[1:] + made[:1])["heard_as_asked"] == 0
    assert heard(made)["heard_as_asked_copied"] == heard(made)["heard_as_asked_chance"] == 1 / 12
