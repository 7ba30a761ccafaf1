"""Settings, recipes and registries: what is said where one is unknown or does not go with others, done as it says."""
# ruff: noqa: E501 (a setting and what it must be stand on one line)

from tests.cures.situation import Row, Situation, rows

DRY = "train transfusion TINY --dry-run --set"
MEANT = r"did you mean '([\w-]+)'"
VQ = "train chameleon CODES --dry-run --set"
ANY = "train chameleon --data pets --dry-run --set"
VIEW = "{views: [{drop: [X], scale: 2}]}"


@rows({
    "parts.py: unknown key, {did_you": (f"{DRY} model.dmi=32", MEANT, f"{DRY} model.{{}}=32"),
    "overrides.py: {SOURCE} {key}": (f"{DRY} modle.dim=32", MEANT, f"{DRY} {{}}.dim=32"),
    "overrides.py: {SOURCE} {short(text)}": (f"{DRY} model.dim", r"such as model(\.dim=64)", f"{DRY} model{{}}"),
    "overrides.py: is replaced": (f"{DRY} train.flops=1e6", "(give one)", "train transfusion FLOPS --dry-run"),
    "parts.py: unknown {noun(self.kind)} {name}, {hint}": (f"{DRY} image.objective=ddmp", MEANT, f"{DRY} image.objective={{}}"),
    "registry.py: unknown {what} {name.value}": (f"{VQ} mask=causl", MEANT, f"{VQ} mask={{}}"),
    "recipe.py: weighs no modality": (f"{DRY} loss.img=3", MEANT, f"{DRY} loss.{{}}=3"),
    "recipe.py: names {role}": (f"{DRY} eval.tasks=[text->imge]", MEANT, f"{DRY} eval.tasks=[text->{{}}]"),
    "guidance.py: modality": (f"{DRY} 'image.guidance={VIEW.replace('X', 'txt')}'", MEANT, f"{DRY} 'image.guidance={VIEW.replace('X', '{}')}'"),
    "layout.py: mask {mask}: unknown column": (f"{DRY} mask=same(dco)", MEANT, f"{DRY} 'mask=same({{}}) & le(idx)'"),
    "text.py: unknown atom": (f"{DRY} 'mask=smae(doc) & le(idx)'", MEANT, f"{DRY} 'mask={{}}(doc) & le(idx)'"),
    "text.py: delta takes": (f"{DRY} 'mask=same(doc) & delta(idx, low=0)'", MEANT, f"{DRY} 'mask=same(doc) & delta(idx, {{}}=0)'"),
    "mask_checks.py: mask {mask}: documents": (f"{DRY} mask=le(idx)", r"write mask: (same.*), or say", f"{DRY} 'mask={{}}'"),
    "yaml_text.py: anchors": (f"{DRY} 'text={{vocab: &x 280}}'", r"write the value (out)", f"{DRY} 'text={{vocab: 280}}'"),
    "yaml_text.py: {_at(place)}key": (f"{DRY} 'model={{2: 3}}'", r"(quote) it", f"{DRY} 'model={{dim: 32}}'"),
    "fsq.py": (f"{ANY} image.codec=fsq --set image.codec.levels=[64,64,64,64]", r"at most ()1,000,000", f"{ANY} image.codec=fsq --set image.codec.levels=[8,8]"),
    "modality.py: codec {settings.codec.name} gives codes": (f"{DRY} image.codec=vq", r"use codec (kl)", f"{DRY} image.codec={{}}"),
    "modality.py: codec {codec.name} gives latents": (f"{ANY} image.codec=kl", r"use codec (vq)", f"{ANY} image.codec={{}}"),
})  # fmt: skip
def test_a_setting_as_it_should_be(s: Situation, row: Row) -> None:
    s.pets()
    s.follows(row)
