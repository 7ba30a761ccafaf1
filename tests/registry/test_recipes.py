"""Recipes: resolved, overridden, refused with the place, and read back exactly."""
# ruff: noqa: E501 (a fault and its sentence stand on one line)

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from transfuse.config.parts import Chosen
from transfuse.config.recipe import ModelSettings, Recipe, TrainSettings
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins

Overlaid = Callable[[str], Registry]


def refused(registry: Registry, *overrides: str, recipe: str = "transfusion") -> str:
    with pytest.raises(TransfuseError) as caught:
        registry.recipe(recipe, overrides)
    return str(caught.value)


def dumped(registry: Registry, *overrides: str, recipe: str = "transfusion") -> dict[str, Any]:
    return registry.recipe(recipe, overrides).dump()


class TestResolution:
    def test_two_recipes(self, registry: Registry) -> None:
        ours, theirs = registry.recipe("transfusion"), registry.recipe("chameleon")
        assert {role: chosen.name for role, chosen in ours.modalities.items()} == {
            "text": "text",
            "image": "image",
        }
        assert {role: chosen.name for role, chosen in theirs.modalities.items()} == {
            "text": "text",
            "image": "vq",
        }
        assert str(ours.mask) == "same(doc) & (le(idx) | same(span))"
        assert str(theirs.mask) == "same(doc) & le(idx)"
        assert (ours.loss, theirs.loss) == ({"text": 1, "image": 5}, {"text": 1, "image": 1})
        assert not ours.model.qk_norm
        assert theirs.model == ours.model.model_copy(update={"qk_norm": True})
        assert ours.train == theirs.train

    def test_a_recipe_extends_another(self, overlaid: Overlaid) -> None:
        registry = overlaid(
            "recipes:\n  wide: {extends: chameleon, model: {dim: 64}, train: {flops: 1e12}, summary: wider}\n"
        )
        recipe = registry.recipe("wide")
        assert (recipe.name, recipe.model.dim, recipe.model.qk_norm) == ("wide", 64, True)
        assert (recipe.train.steps, recipe.train.flops) == (None, 1e12)
        assert recipe.modalities["image"].name == "vq"
        assert registry.summary("wide") == "wider"

    def test_a_data_set_changes_a_recipe_and_those_that_extend_it(self, overlaid: Overlaid) -> None:
        registry = overlaid("""
recipes:
  plain:
    extends: transfusion
    train: {flops: 1e12, lr: 1e-3}
    data: {pets: {model: {dim: 64}, train: {flops: 2e12, lr: 2e-3}, modalities: {image: {patcher: {patch: 2}}}}}
  other:
    extends: plain
    train: {lr: 3e-3}
    data: {pets: {mask: causal}}
""")
        plain, pets = registry.recipe("plain"), registry.recipe("plain", data="pets")
        assert (plain.model.dim, plain.train.flops) == (128, 1e12)
        assert (pets.model.dim, pets.train.flops, pets.train.lr) == (64, 2e12, 2e-3)
        assert pets.dump()["modalities"]["image"]["patcher"]["patch"] == 2
        assert registry.recipe("plain", data="birds") == plain
        other = registry.recipe("other", data="pets")
        assert (other.model.dim, other.train.flops, other.train.lr) == (64, 2e12, 3e-3)
        assert str(other.mask) == "same(doc) & le(idx)"
        assert other.mask != registry.recipe("other").mask
        assert registry.recipe("plain", ["model.dim=32"], "pets").model.dim == 32
        assert registry.data("other") == ["pets"]

    def test_what_a_recipe_says_of_a_data_set_is_checked(self, overlaid: Overlaid) -> None:
        registry = overlaid(
            "recipes:\n  plain:\n    extends: transfusion\n    data: {pets: {model: {dmi: 64}}}\n"
        )
        assert registry.recipe("plain")
        (fault,) = registry.faults()
        assert "over.yaml:4: recipes.plain.data.pets.model.dmi: unknown key, did you mean 'dim'" in str(fault)
        with pytest.raises(TransfuseError, match=r"pets\.extends: unknown key"):
            overlaid("recipes:\n  plain: {data: {pets: {extends: transfusion}}}\n")

    def test_roles_are_changed_added_and_left_out(self, overlaid: Overlaid) -> None:
        registry = overlaid("""
recipes:
  text-only: {extends: transfusion, modalities: {image: null}, mask: causal}
  patched: {extends: transfusion, modalities: {image: {patcher: {patch: 4}}}}
  two: {extends: transfusion, modalities: {sketch: {kind: image, codec: {channels: 1}}}, loss: {sketch: 0}}
""")
        assert registry.recipe("text-only").loss == {"text": 1}
        assert list(registry.recipe("text-only").modalities) == ["text"]
        patched = registry.recipe("patched").dump()["modalities"]["image"]
        assert patched["patcher"] == {"name": "linear", "patch": 4, "bias": False}
        assert patched["sampler"] == {"name": "ddim", "evaluations": 50}
        two = registry.recipe("two")
        assert list(two.modalities) == ["text", "image", "sketch"]
        assert two.loss["sketch"] == 0

    def test_replacing_a_role_keeps_the_order_of_roles(self, registry: Registry) -> None:
        assert list(registry.recipe("transfusion", ["text=image_vq"]).modalities) == ["text", "image"]

    def test_a_mask_may_be_written_out(self, overlaid: Overlaid) -> None:
        registry = overlaid("recipes: {other: {extends: transfusion, mask: '(same( doc )&~k.noised)'}}")
        assert str(registry.recipe("other").mask) == "same(doc) & ~k.noised"

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("recipes:\n  x:\n    extends: transfusoin\n", ":3: recipes.x.extends: unknown recipe 'transfusoin', did you mean 'transfusion'?"),
            ("recipes:\n  x: {extends: y}\n  y: {extends: x}\n", ":3: recipes.y.extends: recipes extend each other in a circle: x → y → x"),
            ("recipes:\n  x: {mask: causal, loss: {}}\n", ":2: recipes.x.modalities: mapping should have at least 1 item"),
            ("recipes:\n  x: {modalities: {text: text}, mask: causal, loss: {}}\n", ":2: recipes.x.train: takes exactly one of steps and flops, not neither"),
            ("recipes:\n  x: {modalities: {text: text}, loss: {text: 1}, train: {steps: 1}}\n", ":2: recipes.x.mask: is missing"),
            ("recipes:\n  x:\n    extends: transfusion\n    modalities: {audio: audoi}\n", ":4: recipes.x.modalities.audio: unknown modality 'audoi', known: image, image_vq, text"),
            ("recipes:\n  x:\n    extends: transfusion\n    loss:\n      imag: 1\n", ":5: recipes.x.loss.imag: weighs no modality of this recipe, did you mean 'image'?"),
            ("recipes:\n  x:\n    extends: transfusion\n    mask: causl\n", ":4: recipes.x.mask: unknown mask 'causl', did you mean 'causal'?"),
            ("recipes:\n  x:\n    extends: transfusion\n    model: {dmi: 3}\n", ":4: recipes.x.model.dmi: unknown key, did you mean 'dim'?"),
            ("recipes:\n  x:\n    extends: transfusion\n    modalities: {span: text}\n    loss: {span: 1}\n", "modalities.text: is taken: name the role otherwise"),
            ("recipes:\n  x:\n    extends: transfusion\n    modalities: {Text: text}\n    loss: {Text: 1}\n", "string should match pattern"),
            ("modalities:\n  image:\n    codec:\n      chanels: 3\nrecipes: {x: {extends: transfusion}}\n", ":4: modalities.image.codec.chanels: unknown key, did you mean 'channels'?"),
            ("modalities:\n  image: {kind: imag}\nrecipes: {x: {extends: transfusion}}\n", ":2: modalities.image: unknown modality 'imag', did you mean 'image'?"),
            ("modalities:\n  image: {patcher: unett}\nrecipes: {x: {extends: transfusion}}\n", ":2: modalities.image.patcher: unknown patcher 'unett', did you mean 'unet'?"),
        ],
    )  # fmt: skip
    def test_faults_stand_at_their_line(self, overlaid: Overlaid, text: str, sentence: str) -> None:
        registry = overlaid(text)
        message = refused(registry, recipe="x")
        assert sentence in message
        if sentence.startswith(":"):
            assert f"over.yaml{sentence}" in message
        assert str(registry.faults()[-1])

    def test_a_forgotten_weight_is_an_error(self, overlaid: Overlaid) -> None:
        registry = overlaid("recipes:\n  x:\n    extends: transfusion\n    modalities: {audio: text}\n")
        assert "loss: has no weight for 'audio': give it one, or 0 to leave it out" in refused(
            registry, recipe="x"
        )

    def test_unknown_recipe(self, registry: Registry) -> None:
        assert (
            refused(registry, recipe="chamelion") == "unknown recipe 'chamelion', did you mean 'chameleon'?"
        )

    def test_a_fault_of_one_recipe_leaves_the_others(self, overlaid: Overlaid) -> None:
        registry = overlaid("recipes: {x: {extends: transfusion, model: {dim: 3}}}")
        assert registry.recipe("transfusion")
        assert [str(fault).endswith("not 3") for fault in registry.faults()] == [True]


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "path", "value"),
        [
            ("model.layers=6", "model.layers", 6),
            ("model.rope=[pos, row]", "model.rope", ["pos", "row"]),
            ("model={layers: 2}", "model.layers", 2),
            ("train.lr=1e-4", "train.lr", 1e-4),
            ("train.betas=[0.8, 0.9]", "train.betas", [0.8, 0.9]),
            ("train.flops=1e15", "train.steps", None),
            ("train.flops=1e15", "train.flops", 1e15),
            ("train.seed = 7", "train.seed", 7),
            ("loss.image=0", "loss.image", 0),
            ("mask=causal", "mask", "same(doc) & le(idx)"),
            ("mask=full", "mask", "full"),
            ("mask=~k.noised", "mask", "~k.noised"),
            ("mask=delta(frame, hi=1)", "mask", "delta(frame, hi=1)"),
            ("mask=table(seg, [[1, 0], [1, 1]])", "mask", "table(seg, [[1, 0], [1, 1]])"),
            ("attention=dense", "attention", "dense"),
            ("attention=fast", "attention", {"name": "fast"}),
            (
                "image.patcher.patch=2",
                "modalities.image.patcher",
                {"name": "linear", "patch": 2, "bias": False},
            ),
            ("image.patcher=unet", "modalities.image.patcher", {"name": "unet", "depth": 2}),
            ("image.patcher.name=unet", "modalities.image.patcher", {"name": "unet", "depth": 2}),
            (
                "image.patcher={name: unet, depth: 3}",
                "modalities.image.patcher",
                {"name": "unet", "depth": 3},
            ),
            ("image={codec: {channels: 8}}", "modalities.image.codec.channels", 8),
            ("image.guidance.scale=1.5", "modalities.image.guidance.scale", 1.5),
            ("image=image_vq", "modalities.image.kind", "vq"),
            ("modalities.image=image_vq", "modalities.image.kind", "vq"),
            ("modalities.image.codec.channels=8", "modalities.image.codec.channels", 8),
            ("text.vocab=99", "modalities.text.vocab", 99),
        ],
    )
    def test_a_setting_is_changed_and_nothing_else(
        self, registry: Registry, override: str, path: str, value: object
    ) -> None:
        before, after = dumped(registry), dumped(registry, override)
        *outer, last = path.split(".")
        inner_before, inner_after = before, after
        for step in outer:
            inner_before, inner_after = inner_before[step], inner_after[step]
        assert inner_after[last] == value
        if override != "train.flops=1e15" and last != "kind":
            inner_after[last] = inner_before[last]
            assert after == before

    def test_a_role_is_left_out(self, registry: Registry) -> None:
        recipe = registry.recipe("transfusion", ["image=null"])
        assert list(recipe.modalities) == list(recipe.loss) == ["text"]

    def test_a_role_is_added(self, registry: Registry) -> None:
        recipe = registry.recipe("transfusion", ["modalities.sketch=image", "loss.sketch=1"])
        assert recipe.modalities["sketch"] == recipe.modalities["image"]

    @pytest.mark.parametrize(
        "overrides",
        [
            ("image.patcher=unet", "image.patcher.depth=5"),
            ("image=image_vq", "image.codec.codes=7"),
            ("train.flops=1e12", "train.lr=0.1"),
            ("model={dim: 64}", "model.layers=2", "model.heads=2"),
        ],
    )
    def test_order_means_nothing(self, registry: Registry, overrides: Sequence[str]) -> None:
        assert dumped(registry, *overrides) == dumped(registry, *reversed(overrides))

    def test_a_new_modality_takes_what_else_is_said_of_the_role(self, registry: Registry) -> None:
        recipe = registry.recipe("transfusion", ["image=image_vq", "image.codec.codes=7"])
        assert recipe.modalities["image"].settings.codec.settings.codes == 7

    def test_the_last_of_one_key_counts(self, registry: Registry) -> None:
        assert registry.recipe("transfusion", ["model.dim=64", "model.dim=32"]).model.dim == 32

    @pytest.mark.parametrize(
        ("override", "sentence"),
        [
            ("model.dmi=3", "--set model.dmi: unknown key, did you mean 'dim'?"),
            ("modle.dim=3", "--set modle.dim: unknown key, did you mean 'model'?"),
            ("imag.patcher=unet", "--set imag.patcher: unknown key, did you mean 'image'?"),
            ("image.patchr=unet", "--set image.patchr: unknown key, did you mean 'patcher'?"),
            ("image.codec.chanels=3", "--set image.codec.chanels: unknown key, did you mean 'channels'?"),
            ("image.patcher.name=uent", "--set image.patcher.name: unknown patcher 'uent', did you mean 'unet'?"),
            ("image={codec: {chanels: 3}}", "--set image.codec.chanels: unknown key, did you mean 'channels'?"),
            ("image={guidance: {scale: x}}", "--set image.guidance.scale: should be a number, not 'x'"),
            ("loss={text: {text: 1}}", "--set loss.text: should be a number, not {'text': 1}"),
            ("train.steps=null", "--set train.steps: takes exactly one of steps and flops, not neither"),
            ("image.patcher=uent", "--set image.patcher: unknown patcher 'uent', did you mean 'unet'?"),
            ("image=imagevq", "--set image: unknown modality 'imagevq', did you mean 'image_vq'?"),
            ("image=3", "--set image: should be the name of a modality, a section or null, not 3"),
            ("loss.audio=3", "--set loss.audio: weighs no modality of this recipe, known: image, text"),
            ("loss.image=-1", "--set loss.image: input should be greater than or equal to 0, not -1"),
            ("loss.image=.nan", "--set loss.image: input should be a finite number, not nan"),
            ("loss.image=true", "--set loss.image: should be a number, not true"),
            ("mask=3", "--set mask: should be text, not 3"),
            ("mask=" + "~" * 100_000 + "full", "--set mask: should be a mask's name or an expression, not '~~~"),
            ("mask=null", "--set mask: should be a mask's name or an expression"),
            ("model.dim=12", "--set model.dim: must be an even multiple of heads = 4, not 12"),
            ("mask=causl", "--set mask: unknown mask 'causl', did you mean 'causal'?"),
            ("attention=dens", "--set attention: unknown attention backend 'dens', did you mean 'dense'?"),
            ("attention={name: fats}", "--set attention: unknown attention backend 'fats', did you mean 'fast'?"),
            ("model=3", "--set model: should be a mapping, not 3"),
            ("model.dim=x", "--set model.dim: should be an integer, not 'x'"),
            ("model.dim=true", "--set model.dim: should be an integer, not true"),
            ('model.dim="64"', "--set model.dim: should be an integer, not '64'"),
            ("model.dim=64.0", "--set model.dim: should be an integer, not 64.0"),
            ("model.norm_eps=true", "--set model.norm_eps: should be a number, not true"),
            ("train.betas=[true, 0.9]", "--set train.betas[0]: should be a number, not true"),
            ("train.lr_scale={backbone: true}", "--set train.lr_scale.backbone"),
            ("train.fill=1", "--set train.fill: should be true or false, not 1"),
            ("model.dim=30", "--set model.dim: must be an even multiple of heads = 4, not 30"),
            ("model.kv_heads=3", "--set model.kv_heads: must divide heads = 4, not 3"),
            ("model.rope=[pos, pos]", "--set model.rope: needs distinct columns, at most 16 of them"),
            ("model.rope=pos", "--set model.rope: should be a list, not 'pos'"),
            ("model.dim=[1", "--set model.dim: is not YAML: "),
            ("train.lr=0", "--set train.lr: input should be greater than 0, not 0"),
            ("train.drop=1", "--set train.drop: input should be less than 1, not 1"),
            ("train.steps=0", "--set train.steps: input should be greater than or equal to 1, not 0"),
            ("name=x", "--set name: unknown key, known: attention, crossing, eval, image, "),
            ("extends=x", "--set extends: unknown key, known: attention, crossing, eval, image, "),
            ("model.dim", "--set 'model.dim': write key=value, such as model.dim=64 or loss.image=5"),
            ("model.dim=", "--set 'model.dim=': write key=value"),
            ("=3", "--set '=3': write key=value"),
            ("model..dim=3", "--set 'model..dim=3': write key=value"),
        ],
    )  # fmt: skip
    def test_faults_name_the_override(self, registry: Registry, override: str, sentence: str) -> None:
        assert refused(registry, override).startswith(sentence)

    @pytest.mark.parametrize(
        ("overrides", "place"),
        [
            (["image.guidance.scale=3", "image.guidance.views=[]"], "image.guidance.(scale|views)"),
            (["image.guidance={scale: 3}", "image.guidance.views=[]"], "image.guidance.scale"),
            (["train={steps: 3}", "train.flops=1e12"], "train.steps"),
            (["image.patcher=3", "image.patcher.patch=2"], "image.patcher"),
            (["train.lr_scale=3", "train.lr_scale.image=2"], "train.lr_scale"),
            (["train.lr_scale.image=3", "train.lr_scale.image.codec=2"], "train.lr_scale.image"),
            (["loss={image: 3, text: 2}", "loss.image=4"], "loss.image"),
            (["model={dim: 64}", "model={dim: 32}"], "model.dim"),
            (["modalities={image: image_vq}", "image=image"], "image"),
        ],
    )
    def test_what_another_replaces(self, registry: Registry, overrides: list[str], place: str) -> None:
        message = rf"--set {place}: is replaced by another --set: give one of the two"
        for order in (overrides, overrides[::-1]):
            if order[0].partition("=")[0] != order[1].partition("=")[0] or order is overrides:
                assert re.fullmatch(message, refused(registry, *order))

    @pytest.mark.parametrize("root", ["model", "train", "loss", "modalities"])
    @pytest.mark.parametrize("value", ["3", "null", "[1]", "word"])
    def test_roots_are_mappings(self, registry: Registry, root: str, value: str) -> None:
        inside = {"loss": "image=1", "modalities": "image.codec=kl", "train": "lr=1", "model": "dim=32"}[root]
        for more in ([], [f"{root}.{inside}"], ["image.codec=kl"]):
            for order in ([f"{root}={value}", *more], [*more, f"{root}={value}"]):
                assert refused(registry, *order).startswith(f"--set {root}: should be a mapping, not ")

    def test_values_that_agree_and_the_last_of_one_key(self, registry: Registry) -> None:
        one = registry.recipe("transfusion", ["model.dim=32", "model.layers=2"])
        assert registry.recipe("transfusion", ["model={dim: 32}", "model={layers: 2}"]) == one
        assert registry.recipe("transfusion", ["model.dim=64", "model.dim=32", "model.layers=2"]) == one
        assert registry.recipe("transfusion", ["model={dim: 32, layers: 2}", "model.dim=32"]) == one

    def test_a_role_that_is_not_there_cannot_be_left_out(self, registry: Registry) -> None:
        assert refused(registry, "modalities.imag=null") == (
            "--set modalities.imag: unknown role 'imag', did you mean 'image'?"
        )

    def test_two_budgets(self, registry: Registry) -> None:
        message = refused(registry, "train.steps=3", "train.flops=1e9")
        assert message == "--set train.steps: is replaced by another --set: give one of the two"
        assert refused(registry, "train.steps=null").endswith(
            "takes exactly one of steps and flops, not neither"
        )
        assert "not both" in refused(registry, "train={steps: 3, flops: 1e9}")


class TestDump:
    @pytest.mark.parametrize("name", ["transfusion", "chameleon"])
    @pytest.mark.parametrize(
        "overrides",
        [
            (),
            ("train.lr=0.1234567890123456789", "attention=fast"),
            ("image.patcher=unet", "train.flops=1e15"),
        ],
    )
    def test_a_recipe_is_read_back_exactly(
        self, registry: Registry, plugins: Plugins, name: str, overrides: tuple[str, ...]
    ) -> None:
        if name == "chameleon" and "image.patcher=unet" in overrides:
            overrides = ("train.flops=1e15",)
        recipe = registry.recipe(name, overrides)
        dump = json.loads(json.dumps(recipe.dump(), allow_nan=False))
        back = Recipe.from_dump(dump, plugins)
        assert back == recipe
        assert back.dump() == recipe.dump()
        assert isinstance(back.modalities["image"], Chosen)

    def test_a_dump_says_the_width_of_swiglu(self, registry: Registry) -> None:
        """So that a run opens where the default is another."""
        assert registry.recipe("transfusion", ["model.dim=256"]).dump()["model"]["hidden"] == 704
        assert registry.recipe("transfusion", ["model.hidden=72"]).dump()["model"]["hidden"] == 72

    def test_a_damaged_dump_is_refused(self, registry: Registry, plugins: Plugins) -> None:
        dump = registry.recipe("transfusion").dump()
        for key in dump:
            if key not in ("attention", "crossing", "eval", "model"):
                with pytest.raises(TransfuseError, match=rf"^run/recipe.json.*{key}"):
                    Recipe.from_dump({k: v for k, v in dump.items() if k != key}, plugins, "run/recipe.json")
        for bad in (
            None,
            [],
            3,
            "x",
            {**dump, "extra": 1},
            {**dump, "modalities": 3},
            {**dump, "mask": "same("},
        ):
            with pytest.raises(TransfuseError, match=r"^run/recipe.json"):
                Recipe.from_dump(bad, plugins, "run/recipe.json")


class TestSettings:
    @pytest.mark.parametrize(
        ("dim", "width"), [(2, 64), (32, 64), (36, 128), (128, 320), (192, 512), (256, 704), (4096, 10944)]
    )
    def test_swiglu_width_is_the_multiple_of_64_nearest_to_eight_thirds(self, dim: int, width: int) -> None:
        model = ModelSettings(dim=dim, heads=1)
        assert model.hidden == model.swiglu_width == width
        assert width % 64 == 0
        assert width == 64 or abs(width - 8 * dim / 3) <= 32
        assert ModelSettings(dim=dim, heads=1, hidden=10).swiglu_width == 10

    def test_heads(self) -> None:
        model = ModelSettings(dim=64, heads=8, kv_heads=2)
        assert (model.head_width, model.key_value_heads) == (8, 2)
        assert ModelSettings(dim=64, heads=8).key_value_heads == 8

    @pytest.mark.parametrize("key", ["lr", "eps", "clip"])
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
    def test_numbers_that_train_wrongly_are_refused(self, key: str, value: float) -> None:
        with pytest.raises(ValueError, match=key):
            TrainSettings.model_validate({"steps": 1, key: value})
