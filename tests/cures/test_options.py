"""Options of commands: what is said where one is missing, misspelt or of no use, done as it says."""
# ruff: noqa: E501 (a command and what it must do stand on one line)

from tests.cures.situation import Row, Situation, rows

SAMPLE = "sample run --prompt pet"


@rows({
    "cli.py: --out is missing": ("train transfusion TINY", r"(--out) is missing", "train transfusion TINY {} new"),
    "cli.py: give one of --codecs": ("train transfusion TINY --out new --codecs run --from run", r"and (--from)", "train transfusion TINY --out new {} run"),
    "arguments.py: --data is missing": ("mask --recipe transfusion", r"(--data) is missing", "mask --recipe transfusion {} pets --set image.codec=pixel"),
    "arguments.py: --recipe is missing": ("mask --data pets", r"(--recipe) is missing", "mask {} transfusion --data pets --set image.codec=pixel"),
    "arguments.py: --given": ("sample run --given text", r"such as (text=seven)", "sample run --given {} --out x.png"),
    "arguments.py: give one of --prompt": (f"{SAMPLE} --given text=a --out x.png", r"and (--document)", f"{SAMPLE} --out x.png"),
    "mask.py: give a mask": ("mask 'same(doc)' --layout text:5 --recipe transfusion --data pets", r"with (--layout)", "mask 'same(doc)' {} text:5"),
    "mask.py: EXPR is missing": ("mask --layout text:5", r"such as ('.+')", "mask {} --layout text:5"),
    "mask_layout.py: layout {short(layout)}: {short(piece)} is no item": ("mask 'same(doc)' --layout text5", r"such as (image:16), .* such as (\+noised)", "mask 'same(doc)' --layout {}{}"),
    "mask_layout.py: layout {short(layout)}: document": ("mask 'same(doc)' --layout 'text:5 /'", r"such as (text:5)", "mask 'same(doc)' --layout 'text:5 / {}'"),
    "output_paths.py: {option} {path}: cannot be written: give": ("mask 'same(doc)' --layout text:5 --out m.gif", r"ends in (\.png)", "mask 'same(doc)' --layout text:5 --out m{}"),
    "device.py: --device {text}: write": ("train transfusion TINY --dry-run --device gpu", r"write auto, (cpu)", "train transfusion TINY --dry-run --device {}"),
    "data.py: data build": ("data build emojis --out built", r"did you mean '(emoji)'", "data build {} --help"),
    "sample.py: --given {role}: this model": ("sample run --given txt=pet --out x.png", r"did you mean '(\w+)'", "sample run --given {}=pet --out x.png"),
    "sample.py: --given {role}={value": ("sample run --given image=pets/p0.png", r"(image=@)FILE", "sample run --given {}pets/p0.png"),
    "sample.py: --tokens": (f"{SAMPLE} --want image --tokens 3 --out x.png", r"(leave it out)", f"{SAMPLE} --want image --out x.png"),
    "sample.py: --want {role}": (f"{SAMPLE} --want imgae --out x.png", r"did you mean '(\w+)'", SAMPLE + " --want {} --out x.png"),
    "decoding.py: modality {want} has no shape": (f"{SAMPLE} --want image:9x9 --out x.png", r"known: (\w+)", SAMPLE + " --want image:{} --out x.png"),
    "sample_output.py: --out is missing": (SAMPLE, r"such as (samples\.svg)", SAMPLE + " --out {}"),
    "sample_output.py: --out {out}: cannot": (f"{SAMPLE} --want image --out x.mp4", r"image \(.*(\.npy)\)", SAMPLE + " --want image --out x{}"),
    "sample_output.py: --out {out}: drawings": (f"{SAMPLE} --want text --out x.png", r"ends in (\.svg)", SAMPLE + " --want text --out x{}"),
    "document_files.py: write a list": ("sample run --document pets/p0.txt", r"", "sample run --prompt pet --out x.svg"),
    "run_folder.py: {self.path} is not there": ("sample rnu --prompt pet --out x.png", r"(transfuse train)", "train transfusion TINY --out rnu"),
})  # fmt: skip
def test_an_option_as_it_should_be(s: Situation, row: Row) -> None:
    s.pets()
    s.follows(row)
