"""Options of commands: what is said where one is missing, misspelt or of no use, done as it says."""
# ruff: noqa: E501, UP031 (a command and what it must do stand on one line)

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
    "arguments.py: --dtype": (f"{SAMPLE} --out x.png --dtype half", r"or (bfloat16)", SAMPLE + " --out x.png --dtype {}"),
    "data.py: data set {data.name}: split": ("data show train-only --split test", r"give another (--split)", "data show train-only {} train"),
    "data.py: --out {out}: none of these": ("data show texts --out t.png", r"ends in (\.svg)", "data show texts --out t{}"),
    "tasks.py: eval.split: data set": ("eval run --split tset", r"did you mean '(\w+)'", "eval run --split {}"),
    "stores.py: data set {source.name} has no end": ("data pack scenes --out s.zarr", r"train on it by (its) name", "data show scenes"),
    "data_group.py: --part {part} and --parts": ("data pack train-only --out s.zarr --part 1/2 --parts 3", r"leave (--parts) out", "data pack train-only --out s.zarr --part 1/2"),
    "data_group.py: --recipe is missing": ("data pack train-only --out s.zarr --codecs run", r"(--recipe) is missing", "data pack pets --out s.zarr {} transfusion --codecs run TINY_SETS"),
    "stores.py: --part {text}": ("data pack train-only --out s.zarr --part 1of2", r"such as (1/8)", "data pack train-only --out s.zarr --part {}"),
    "stored.py: --codecs {folder} holds neither": ("data pack pets --out s.zarr --recipe transfusion --codecs pets TINY_SETS", r"what `transfuse (train-codec)`", "{} transfusion TINY --out fitted"),
    "check_plugin.py: no plugin": ("plugins check tiels", r"did you mean '(\w+)'", "plugins check {}"),
    "audit.py: give --layout": ("mask --audit mine.py:causal", r"give (--layout)", "mask --audit mine.py:causal {} text:5"),
    "audit.py: {size} positions": ("mask --audit mine.py:causal --layout text:600", r"(\d+) at most", "mask --audit mine.py:causal --layout text:9"),
    "audit.py: --audit {target}: write": ("mask --audit mine.py --layout text:5", r"write FILE\.py(:)FUNCTION", "mask --audit mine.py{}causal --layout text:5"),
    "audit.py: --audit {target}: {file}": ("mask --audit mine.py:casual --layout text:5", r"did you mean '(\w+)'", "mask --audit mine.py:{} --layout text:5"),
    "new_plugin.py: --kind": ("plugins new audio --out own --kind spna", r"did you mean '(\w+)'", "plugins new audio --out own --kind {}"),
    "new_plugin.py: --out": ("plugins new audio --out pets", r"(new) or empty", "plugins new audio --out {}"),
    "new_plugin.py: {name} is taken": ("plugins new text --out own", r"choose (another) name", "plugins new {} --out own"),
    "data.py: data build": ("data build emojis --out built", r"did you mean '(emoji)'", "data build {} --help"),
    "sample.py: --given {role}: this model": ("sample run --given txt=pet --out x.png", r"did you mean '(\w+)'", "sample run --given {}=pet --out x.png"),
    "sample.py: --given {role}={value": ("sample run --given image=pets/p0.png", r"(image=@)FILE", "sample run --given {}pets/p0.png"),
    "sample.py: --tokens": (f"{SAMPLE} --want image --tokens 3 --out x.png", r"(leave it out)", f"{SAMPLE} --want image --out x.png"),
    "sample.py: --want {role}": (f"{SAMPLE} --want imgae --out x.png", r"did you mean '(\w+)'", SAMPLE + " --want {} --out x.png"),
    "asked.py: modality {want} has no shape": (f"{SAMPLE} --want image:9x9 --out x.png", r"known: (\w+)", SAMPLE + " --want image:{} --out x.png"),
    "sample_output.py: --out is missing": (SAMPLE, r"such as (samples\.svg)", SAMPLE + " --out {}"),
    "sample_output.py: --out {out}: cannot": (f"{SAMPLE} --want image --out x.mp4", r"image \(.*(\.npy)\)", SAMPLE + " --want image --out x{}"),
    "sample_output.py: --out {out}: drawings": (f"{SAMPLE} --want text --out x.png", r"ends in (\.svg)", SAMPLE + " --want text --out x{}"),
    "document_files.py: write a list": ("sample run --document pets/p0.txt", r"", "sample run --prompt pet --out x.svg"),
    "run_folder.py: {self.path} is not there": ("sample rnu --prompt pet --out x.png", r"(transfuse train)", "train transfusion TINY --out rnu"),
})  # fmt: skip
def test_an_option_as_it_should_be(s: Situation, row: Row) -> None:
    s.pets()
    s.pets(folder="train-only", captions=False)
    s.write(
        "train-only/documents.jsonl",
        "".join('{"items": [{"image": "p%d.png"}], "split": "train"}\n' % i for i in range(6)),
    )
    s.write("texts/documents.jsonl", '{"items": [{"text": "pet"}], "split": "train"}\n')
    s.write("mine.py", "def causal(b, h, q, k):\n    return q >= k\n")
    s.follows(row)
