"""Training: documents that do not fit, steps that diverge, parts that lack something; done as it is told, it trains."""
# ruff: noqa: E501, UP031 (lines of JSON, which are full of braces)

import json
from pathlib import Path

import pytest
from transfuse.training import Trainer
from transfuse.training.progress import StepRows

from tests.cures.situation import Situation, cures


class TestDocumentsTooLong:
    @pytest.fixture
    def long(self, s: Situation) -> Situation:
        s.pets()
        s.write("pets/p3.txt", " ".join(f"{n} pets" for n in range(40, 120)))
        return s

    @cures("survey.py: {what}: {named}")
    @pytest.mark.parametrize("way", ["train.budget", "train.too_long=skip", "train.too_long=cut"])
    def test_one(self, long: Situation, way: str) -> None:
        long.refused(*long.train())
        cure = long.finds(rf"({way}[=\d]*)")
        assert "step" in long.works(*long.train(cure))

    @cures("survey.py: {what}, so none is left")
    def test_all(self, s: Situation) -> None:
        s.pets()
        s.refused(*s.train("train.budget=8", "train.too_long=skip"))
        budget = s.finds(r"raise (train\.budget) to") + "=" + s.finds(r"train\.budget to (\d+)")
        s.works(*s.train(budget, "train.too_long=skip"))

    @cures("survey.py: , give {grid} a larger codec.down or patch")
    @pytest.mark.parametrize("way", ["down", "patch", "size"])
    def test_pictures_that_are_large(self, s: Situation, way: str) -> None:
        s.pets(side=32)
        down, patch = "image.codec.down=2", "image.patcher.patch=1"
        s.refused(*s.train(down, patch, pixels=False))
        down, patch = ("image.codec.down=4", patch) if way == "down" else (down, patch)
        patch = "image.patcher.patch=4" if way == "patch" else patch
        s.works(*s.train(down, patch, pixels=False, data="pets;size=16" if way == "size" else "pets"))

    @cures("stream.py: {document.source}: only text can be cut")
    @pytest.mark.parametrize("way", ["budget", "skip"])
    def test_pictures_that_cutting_text_does_not_help(self, s: Situation, way: str) -> None:
        s.pets()
        s.refused(*s.train("train.budget=12", "train.too_long=cut"))
        if way == "budget":
            more = int(s.finds(r"(\d+) positions are still too many: raise train\.budget by that"))
            s.works(*s.train(f"train.budget={12 + more}", "train.too_long=cut"))
        else:
            s.refused(*s.train("train.budget=12", s.finds(r"say (train\.too_long=skip)")))
            s.works(*s.train("train.too_long=skip", "train.budget=" + s.finds(r"train\.budget to (\d+)")))


class TestLosses:
    @cures("guards.py: step {step}")
    @pytest.mark.parametrize("setting", ["train.lr", "train.clip"])
    def test_a_step_that_diverges(self, s: Situation, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the same folder, where the run goes on from what it saved."""
        s.pets()
        s.works(*s.train())
        real = Trainer._watch

        def watch(trainer: Trainer, made: StepRows, means: dict, finite: bool) -> None:
            train = trainer.recipe.train
            wild = train.lr > 0.005 and train.clip > 0.5
            trainer.guard.in_a_row += wild
            real(trainer, made, means, finite and not wild)

        monkeypatch.setattr(Trainer, "_watch", watch)
        changes = ("recipe.json", "modalities.json", "metrics.jsonl", "events.jsonl", "speed.jsonl", "latest")
        s.refused(*s.train("train.steps=8", "train.skips=0", "train.keep_last=3"), but=changes)
        assert setting in s.finds(r"lower (train\.lr or train\.clip)")
        told = s.works(*s.train("train.steps=8", f"{setting}=0.001"))
        assert "going on after step 5" in told, "the state was saved when it stopped"

    @cures("silence.py: role {role} weighs")
    @pytest.mark.parametrize("way", ["longer", "mend", "weight"])
    def test_a_role_without_a_loss(self, s: Situation, way: str) -> None:
        s.pets(captions=False)
        document = '{"items": [{"text": "pet"}, {"image": "p%d.png"%s}]}\n'
        listing = "pets/documents.jsonl"
        s.write(
            listing,
            "".join(document % (i, ', "loss": false' if way != "longer" or i else "") for i in range(6)),
        )
        steps = "train.steps=1" if way == "longer" else "train.steps=4"
        assert "role 'image' weighs" in s.works(
            *s.train(steps, "train.budget=40" if way == "longer" else "train.budget=160")
        )
        if way == "longer":
            done = s.works(*s.train("train.steps=30", out="other"))
        elif way == "mend":
            s.write(listing, "".join(document % (i, "") for i in range(6)))
            done = s.works(*s.train(out="other"))
        else:
            done = s.works(*s.train(s.finds(r"say (loss\.image: 0)").replace(": ", "="), out="other"))
        assert "weighs" not in done

    @cures("recipe.py: has no weight for {role}")
    @pytest.mark.parametrize("weight", [1, 0])
    def test_a_role_without_a_weight(self, s: Situation, weight: int) -> None:
        s.pets()
        recipe = "recipes: {own: {modalities: {text: text, image: {kind: image, codec: pixel}}, mask: causal, loss: {%s}}}"
        s.write("registry.yaml", recipe % "text: 1")
        command = (
            "train",
            "own",
            "--data",
            "pets",
            "--dry-run",
            "--set",
            "train.budget=800",
            "--set",
            "train.steps=2",
        )
        s.refused(*command)
        s.write("registry.yaml", recipe % f"text: 1, {s.finds('no weight for .(image)')}: {weight}")
        s.works(*command)


class TestParts:
    @cures("build.py: data set {data.name}")
    @pytest.mark.parametrize("way", ["without", "call"])
    def test_data_without_a_role(self, s: Situation, way: str) -> None:
        s.pets(captions=False)
        s.write(
            "pets/documents.jsonl",
            "".join('{"items": [{"text": "pet"}, {"photo": "p%d.png"}]}\n' % i for i in range(6)),
        )
        data = "pets;images=[photo]"
        s.refused(*s.train(data=data))
        if way == "without":
            s.works(*s.train(data=data, without="image"))
            assert s.finds(r"--set (image=null)", -2)
        else:
            s.write(
                "registry.yaml",
                "recipes: {own: {extends: transfusion, modalities: {image: null, photo: {kind: image, codec: pixel}}, loss: {photo: 1}}}",
            )
            s.works("train", "own", "--data", data, "--dry-run", "--set", "train.budget=800")

    @cures("modality.py: {place} is not there", "modality.py: {place} has ids up to")
    def test_a_tokenizer_that_is_not_there(self, s: Situation) -> None:
        s.pets()
        s.works(*s.train())
        s.refused(*s.train("text.tokenizer=nowhere.json", out="other"))
        facts = json.loads(Path("run/modalities.json").read_text())["modalities"]["text"]
        s.write(
            "tokenizer.json",
            json.dumps(
                json.loads(facts["tokenizer"]) if isinstance(facts["tokenizer"], str) else facts["tokenizer"]
            ),
        )
        s.refused(*s.train("text.tokenizer=tokenizer.json", out="other"))
        s.works(*s.train("text.tokenizer=tokenizer.json", s.finds("say (.*)"), out="other"))

    @cures("modality.py: {self.name}: {changed} of")
    @pytest.mark.parametrize("way", ["none"])
    def test_a_tokenizer_that_drops_letters(self, s: Situation, way: str) -> None:
        from tokenizers import Tokenizer, models

        s.pets()
        Tokenizer(models.WordLevel({"pet": 0, "?": 1}, unk_token="?")).save("tokenizer.json")
        assert "are not what the tokenizer gives back" in s.works(
            *s.train("text.tokenizer=tokenizer.json", "text.vocab=null")
        )
        assert "gives back" not in s.works(*s.train(out="other"))

    @cures("modality.py: guidance.rescale")
    def test_guidance_of_codes(self, s: Situation) -> None:
        s.pets()
        s.refused(*s.train("image.guidance={scale: 2, rescale: 0.5}", recipe="chameleon"))
        s.works(
            *s.train(
                "image.guidance={scale: 2, rescale: " + s.finds("leave it (0)") + "}", recipe="chameleon"
            )
        )

    @cures("select.py: attention backend {name} cannot serve")
    @pytest.mark.parametrize("cure", ["auto", "dense"])
    def test_attention_that_cannot_serve(self, s: Situation, cure: str) -> None:
        s.pets()
        s.refused(*s.train("attention=flex"))
        assert s.finds("Choose another or (auto)")
        s.works(*s.train(f"attention={cure}"))

    @cures("device.py: --device {text}: torch sees no CUDA")
    @pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
    def test_no_gpu(self, s: Situation) -> None:
        s.pets()
        s.refused(*s.train(), "--device", "cuda")
        assert s.finds("(leave --device out)")
        s.works(*s.train())
