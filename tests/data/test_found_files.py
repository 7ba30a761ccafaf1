"""Every file of a data folder is used or named; links, spellings, listings of others and folders of classes."""

import json
import os
import socket
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse.datasets import DataSet
from transfuse.documents import Document
from transfuse.registry.plugins import Plugins
from transfuse_lab.datasets import data_section, open_data
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.datasets.found_files import found_files
from transfuse_lab.datasets.interleaved import Interleaved
from transfuse_pictures.files import SUFFIXES


def picture(path: Path, caption: str = "", shade: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path, "PNG")
    if caption:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def lines(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for number in range(4):
        picture(tmp_path / "pets" / f"p{number}.png", f"pet {number}")
    return tmp_path / "pets"


def captions(data: DataSet) -> list[str]:
    return sorted([caption for split in data.splits for caption in data.raw(split, "text")])


def documents(data: DataSet) -> list[Document]:
    return [data.document(split, i) for split in ("train", "tune", "test") for i in range(data.size(split))]


# -- what became of every file


def test_where_all_is_used_the_account_says_so(pets: Path) -> None:
    assert Folder(pets).account() == "8 files: 4 captioned pictures, 4 text files"


def test_what_is_not_used_is_counted_by_kind_with_the_first_of_each(pets: Path) -> None:
    for name in ("b.heic", "a.HEIC", "sub/c.heic", "README", ".DS_Store", ".git/config", "._p0.png", "x.mp4"):
        (pets / name).parent.mkdir(exist_ok=True)
        (pets / name).write_bytes(b"")
    assert Folder(pets).account() == (
        "16 files: 4 captioned pictures, 4 text files; 8 not used: 3 .heic (first a.HEIC), "
        "3 hidden (first .DS_Store), 1 without a suffix (first README), 1 .mp4 (first x.mp4)"
    )


def test_kinds_beyond_the_first_are_counted_together(pets: Path) -> None:
    for number in range(10):
        (pets / f"a.k{number}").write_bytes(b"")
    assert Folder(pets).account().endswith(", 4 of other kinds")
    assert "18 files: " in Folder(pets).account()


@pytest.mark.parametrize("form", ["beside", "listing", "metadata", "classes", "documents"])
def test_used_and_not_used_are_all_the_files_there_are(tmp_path: Path, form: str) -> None:
    """However captions are given; text files beside pictures are not used where a listing or folders say them."""
    folder = tmp_path / "pets"
    names = [f"cat/p{number}.png" for number in range(3)]
    for name in names:
        picture(folder / name, "a cat")
    (folder / "notes.md").write_text("")
    if form == "listing":
        lines(folder / "captions.jsonl", *({"image": name, "caption": "a"} for name in names))
    elif form == "metadata":
        lines(folder / "metadata.jsonl", *({"file_name": name, "text": "a"} for name in names))
    elif form == "documents":
        lines(
            folder / "documents.jsonl",
            *({"items": [{"image": name}]} for name in names[:2]),
            {"items": [{"text": "a"}]},
        )
    data = Interleaved(folder) if form == "documents" else Folder(folder, classes=form == "classes")
    there = [path for path in folder.rglob("*") if path.is_file()]
    assert data.account().startswith(f"{len(there)} files: ")
    texts, notes = "3 .txt (first cat/p0.txt)", "1 .md (first notes.md)"
    assert (
        data.account().partition(": ")[2]
        == {
            "beside": f"3 captioned pictures, 3 text files; 1 not used: {notes}",
            "listing": f"3 captioned pictures, 1 listing; 4 not used: {texts}, {notes}",
            "metadata": f"3 captioned pictures, 1 listing; 4 not used: {texts}, {notes}",
            "classes": f"3 captioned pictures; 4 not used: {texts}, {notes}",
            "documents": f"1 listing, 2 pictures; 5 not used: {texts}, 1 .png (first cat/p2.png), {notes}",
        }[form]
    )


def test_what_lies_beside_a_listing_given_by_name_is_no_part_of_the_data(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "a")
    listing = lines(tmp_path / "some.jsonl", {"items": [{"image": "a.png"}, {"text": "a"}], "split": "train"})
    assert Interleaved(listing).account() == "2 files: 1 listing, 1 picture"


@pytest.mark.parametrize("command", ["train", "train-codec"])
def test_commands_say_it_once(pets: Path, cli: Any, command: str, tmp_path: Path) -> None:
    small = [f"--set={key}" for key in ("image.codec=pixel", "image.patcher.patch=4", "model.dim=32",
             "model.layers=1", "model.heads=2", "train.budget=128", "train.steps=1")]  # fmt: skip
    done = cli(command, "transfusion", "--data", str(pets), "--out", str(tmp_path / "run"), *small)
    assert done.stdout.count("data pets: 8 files: 4 captioned pictures, 4 text files\n") == 1
    if command == "train":
        done = cli("train", "transfusion", "--data", str(pets), "--dry-run", *small)
        assert done.stdout.count("data pets: 8 files: 4 captioned pictures, 4 text files\n") == 1


def test_compare_and_pack_say_it_before_they_begin(pets: Path, cli: Any, tmp_path: Path) -> None:
    said = "data pets: 8 files: 4 captioned pictures, 4 text files\n"
    done = cli("compare", "no-such-recipe", "--data", str(pets), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert done.stdout == said
    assert cli("data", "pack", str(pets), "--out", str(tmp_path / "pets.zarr")).stdout.count(said) == 1


# -- every kind of picture


def test_pictures_of_all_kinds_are_used_by_content(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        picture(tmp_path / f"a{suffix}", shade=7)
    (tmp_path / "a.txt").write_text("one caption for all")
    picture(tmp_path / "B.PNG")
    (tmp_path / "B.TXT").write_text("in capitals")
    data = Folder(tmp_path)
    assert captions(data) == ["in capitals"] + ["one caption for all"] * len(SUFFIXES)
    assert "not used" not in data.account()


# -- texts without pictures


def test_a_text_file_without_its_picture_is_an_error_and_its_cures_hold(pets: Path) -> None:
    (pets / "lost.txt").write_text("a lost cat")
    with pytest.raises(
        TransfuseError, match=r"lost\.txt has no image beside it: add the image, move .*, or write c"
    ):
        Folder(pets)
    lines(pets / "captions.jsonl", *({"image": f"p{n}.png", "caption": "a"} for n in range(4)))
    assert "5 .txt (first lost.txt)" in Folder(pets).account()
    (pets / "captions.jsonl").unlink()
    picture(pets / "lost.png")
    assert "a lost cat" in captions(Folder(pets))


def test_a_picture_of_a_kind_that_is_not_read_is_named_by_its_text(pets: Path) -> None:
    (pets / "new.heic").write_bytes(b"")
    (pets / "new.txt").write_text("a photo")
    (pets / "old.txt").write_text("a photo")
    with pytest.raises(
        TransfuseError,
        match=r"new\.txt has no image beside it \(nor have 1 other text files\), and new\.heic is not of a kind",
    ):
        Folder(pets)


# -- links


def test_links_inside_the_folder_are_followed(pets: Path) -> None:
    picture(pets / ".store" / "x.png", "behind a link")
    (pets / "more").symlink_to(".store")
    (pets / "q.png").symlink_to("p0.png")
    (pets / "q.txt").write_text("again")
    assert captions(Folder(pets)) == ["again", "behind a link", *(f"pet {n}" for n in range(4))]


def test_the_folder_itself_may_be_a_link(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").symlink_to(pets)
    assert captions(Folder(tmp_path / "whole")) == captions(Folder(pets))


@pytest.mark.parametrize("what", ["folder", "file", "unused file"])
def test_a_link_out_of_the_folder_is_refused_or_followed_as_told(
    pets: Path, tmp_path: Path, what: str
) -> None:
    outside = picture(tmp_path / "outside" / "x.png", "outside")
    (tmp_path / "outside" / "notes.md").write_text("")
    if what == "folder":
        (pets / "cats").symlink_to(outside.parent)
    elif what == "file":
        (pets / "x.png").symlink_to(outside)
        (pets / "x.txt").symlink_to(outside.with_suffix(".txt"))
    else:
        (pets / "x.md").symlink_to(outside.parent / "notes.md")
    with pytest.raises(TransfuseError, match=r"is a link that leads out of the folder, to /.*;links=follow"):
        Folder(pets)
    assert ("outside" in captions(Folder(pets, links="follow"))) == (what != "unused file")


def test_links_that_lead_nowhere_or_round_are_named(pets: Path) -> None:
    (pets / "gone.png").symlink_to("nowhere.png")
    (pets / "loop").symlink_to(".")
    (pets / "self").symlink_to("self")
    (pets / "sub").mkdir()
    (pets / "sub" / "up").symlink_to("..")
    assert (
        Folder(pets)
        .account()
        .endswith("; 4 not used: 2 linked to nothing (first gone.png), 2 linked again (first loop)")
    )


def test_each_folder_is_read_once_where_it_is_or_by_the_first_link_to_it(pets: Path, tmp_path: Path) -> None:
    """Else a picture would be trained on under one name and held out under another; and many links are many paths."""
    picture(pets / "b" / "x.png", "inside")
    (pets / "a").symlink_to("b")
    picture(tmp_path / "far" / "y.png", "outside")
    (tmp_path / "far" / "back").symlink_to(pets)
    for name in ("c", "d", "e"):
        (pets / name).symlink_to(tmp_path / "far")
    data = Folder(pets, links="follow")
    assert captions(data) == ["inside", "outside", *(f"pet {n}" for n in range(4))]
    assert {document.source.split("(")[1] for document in documents(data)} >= {"b/x.png)", "c/y.png)"}
    assert data.account().endswith("; 4 not used: 4 linked again (first a)")


def test_pipes_and_sockets_are_never_opened(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)  # a socket's path is short
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.txt")
        assert "2 of no regular kind (first pipe.png)" in Folder(pets).account()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(pets: Path) -> None:
    (pets / "shut").mkdir(mode=0)
    with pytest.raises(TransfuseError, match="shut cannot be read"):
        found_files(pets)


# -- spellings


@pytest.fixture(params=["NFC", "NFD"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def other(form: str) -> str:
    return {"NFC": "NFD", "NFD": "NFC"}[form]


def test_names_are_found_in_another_unicode_form(tmp_path: Path, form: Any) -> None:
    def spelt(form: Any, name: str) -> str:
        return unicodedata.normalize(form, name)

    picture(tmp_path / "a" / spelt(form, "été/café.png"))
    image = spelt(other(form), "été/café.png")
    lines(tmp_path / "a" / "captions.jsonl", {"image": image, "caption": "a", "split": "train"})
    assert "1 captioned picture, 1 listing" in Folder(tmp_path / "a").account()
    lines(tmp_path / "a" / "documents.jsonl", {"items": [{"image": image}], "split": "train"})
    assert Interleaved(tmp_path / "a").size("train") == 1
    picture(tmp_path / "b" / spelt(form, "café.png"))
    (tmp_path / "b" / spelt(other(form), "café.txt")).write_text("beside")
    assert captions(Folder(tmp_path / "b")) == ["beside"]


def test_of_two_spellings_that_are_both_there_each_is_itself(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        picture(tmp_path / unicodedata.normalize(form, "é.png"), form)
    if len(list(tmp_path.iterdir())) == 2:
        pytest.skip("this file system takes them for one")
    data = Folder(tmp_path)
    assert captions(data) == ["NFC", "NFD"]
    for document in documents(data):
        assert unicodedata.is_normalized(document.items[0].data, document.source)


# -- listings of others


def test_the_listing_of_hugging_face_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    written = [{"file_name": f"{name}.png", "text": name, "label": 3, "boxes": [[1]]} for name in ("a", "b")]
    lines(tmp_path / "metadata.jsonl", *written)
    data = Folder(tmp_path)
    assert captions(data) == ["a", "b"]
    assert data.account() == (
        "3 files: 2 captioned pictures, 1 listing; in metadata.jsonl not read: boxes, label"
    )


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
def test_either_name_of_a_key_is_read_in_either_listing(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png")
    lines(tmp_path / name, {"file_name": "a.png", "caption": "b", "split": "train"})
    assert captions(Folder(tmp_path)) == ["b"]
    lines(tmp_path / name, {"image": "a.png", "text": "c", "caption": "b"})
    with pytest.raises(TransfuseError, match="line 1: 'text' and 'caption' mean the same"):
        Folder(tmp_path)
    lines(tmp_path / name, {"image": "a.png"})
    with pytest.raises(TransfuseError, match=r"line 1: 'caption' is missing \(or 'text'\)"):
        Folder(tmp_path)


def test_two_listings_are_one_too_many(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("captions.jsonl", "metadata.jsonl"):
        lines(tmp_path / name, {"image": "a.png", "caption": "b"})
    with pytest.raises(TransfuseError, match=r"holds captions\.jsonl and metadata\.jsonl: leave the one"):
        Folder(tmp_path)


def test_a_listing_deeper_in_the_folder_is_pointed_at(tmp_path: Path, installed: Plugins) -> None:
    picture(tmp_path / "more" / "a.png")
    lines(tmp_path / "more" / "metadata.jsonl", {"file_name": "a.png", "text": "b", "split": "train"})
    with pytest.raises(TransfuseError, match=rf"or read more/metadata\.jsonl: --data '{tmp_path}/more'"):
        Folder(tmp_path)
    assert captions(open_data(f"{tmp_path}/more", installed)) == ["b"]


def in_splits(data: DataSet) -> dict[str, list[str]]:
    return {split: sorted(data.raw(split, "text")) for split in ("train", "tune", "test")}


def test_the_folders_of_hugging_face_are_splits_of_one_data_set(tmp_path: Path) -> None:
    for place in ("train", "validation", "test"):
        picture(tmp_path / place / "sub" / "a.png")
        record = {"file_name": "sub/a.png", "text": place, "label": 1}
        lines(tmp_path / place / "metadata.jsonl", record)
    data = Folder(tmp_path)
    assert in_splits(data) == {"train": ["train"], "tune": ["validation"], "test": ["test"]}
    assert data.account() == (
        "6 files: 3 captioned pictures, 3 listings; in metadata.jsonl not read: label; "
        "the folder train is trained on, test and validation held out"
    )
    (tmp_path / "train" / "metadata.csv").write_text("file_name,text\nsub/a.png,b\n")
    with pytest.raises(TransfuseError, match=r"holds train/metadata\.jsonl and train/metadata\.csv: leave"):
        Folder(tmp_path)


@pytest.mark.parametrize("form", ["classes", "text files", "a listing above"])
def test_folders_called_train_and_test_are_splits_however_captions_are_given(
    tmp_path: Path, form: str
) -> None:
    names = [
        f"{place}/{what}/{n}.png" for place in ("train", "test") for what in ("cat", "dog") for n in range(3)
    ]
    for name in names:
        picture(tmp_path / name)
        if form == "text files":
            (tmp_path / name).with_suffix(".txt").write_text(name.split("/")[1])
    if form == "a listing above":
        listed = [{"image": name, "caption": name.split("/")[1]} for name in names]
        lines(tmp_path / "captions.jsonl", {**listed[0], "split": "train"}, *listed[1:])
    data = Folder(tmp_path, classes=form == "classes")
    found = dict.fromkeys(("train", "test"), ["cat"] * 3 + ["dog"] * 3)
    assert in_splits(data) == found | {"tune": []}


def test_of_a_folder_called_validation_alone_half_is_for_the_test(tmp_path: Path) -> None:
    for place in ("train", "validation"):
        for n in range(40):
            picture(tmp_path / place / "a" / f"{n}.png")
    data = Folder(tmp_path, classes=True)
    assert data.size("train") == 40
    assert 10 < data.size("test") < 30
    assert data.size("tune") + data.size("test") == 40


def test_without_one_of_each_a_folders_name_says_no_split(tmp_path: Path) -> None:
    for n in range(20):
        picture(tmp_path / "train" / f"{n}.png")
    lines(tmp_path / "train" / "metadata.jsonl", *[{"file_name": f"{n}.png", "text": "a"} for n in range(20)])
    data = Folder(tmp_path)
    assert 0 < data.size("test") < 10 < data.size("train")
    assert "held out" not in data.account()


def test_a_picture_of_a_split_that_no_class_holds_is_named(tmp_path: Path) -> None:
    for name in ("train/cat/a.png", "test/b.png"):
        picture(tmp_path / name)
    with pytest.raises(
        TransfuseError, match=r"test/b\.png has no caption: move it into the folder of its class"
    ):
        Folder(tmp_path, classes=True)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_is_read(tmp_path: Path, mark: str, end: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    rows = ["file_name,label,text", 'a.png,3,"a ""grey"" cat, asleep"', "", f'b.png,4,"two{end}lines"', ""]
    (tmp_path / "metadata.csv").write_bytes((mark + end.join(rows)).encode())
    data = Folder(tmp_path)
    assert captions(data) == ['a "grey" cat, asleep', f"two{end}lines"]
    assert data.account() == "3 files: 2 captioned pictures, 1 listing; in metadata.csv not read: label"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("file_name,text\na.png", "csv line 2: has 1 columns and the first line 2"),
        ("file_name,text\na.png,b,c", "csv line 2: has 3 columns and the first line 2"),
        ("file_name,text,text\na.png,b,c", "csv line 1: names a column twice"),
        ('file_name,text\na.png,"b', "csv line 2: not a table with commas"),
        ("file_name,words\na.png,b", r"csv line 2: 'caption' is missing \(or 'text'\)"),
        ("file_name,text\nq.png,b", "csv line 2: image 'q.png' is not in the folder"),
        ("file_name,text\na.png, ", "csv line 2: the caption is empty"),
        ("", "a.png has no caption"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, body: str, message: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text(body)
    with pytest.raises(TransfuseError, match=message):
        Folder(tmp_path)


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
def test_a_listing_of_captions_may_be_named_itself(tmp_path: Path, installed: Plugins, name: str) -> None:
    picture(tmp_path / "a.png")
    lines(tmp_path / name, {"image": "a.png", "caption": "b", "split": "train"})
    assert data_section(f"{tmp_path / name};size=2", installed) == {
        "name": "folder", "path": str(tmp_path.resolve()), "size": 2,
    }  # fmt: skip


def test_a_listing_that_is_one_json_list_is_told_the_form(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "captions.jsonl").write_text('[\n{"image": "a.png", "caption": "b"},\n]')
    with pytest.raises(
        TransfuseError, match=r"line 1: not JSON: .*; write one object a line, nothing around"
    ):
        Folder(tmp_path)


# -- folders of classes


def test_on_request_the_folders_name_is_the_caption(tmp_path: Path, installed: Plugins) -> None:
    for name in ("cat/a.png", "cat/b.png", "train/dög/c.png"):
        picture(tmp_path / name)
    with pytest.raises(
        TransfuseError, match=rf"cat/a\.png has no caption .*: --data '{tmp_path};classes=true'"
    ):
        open_data(str(tmp_path), installed)
    assert captions(open_data(f"{tmp_path};classes=true", installed)) == ["cat", "cat", "dög"]
    picture(tmp_path / "x.png")
    with pytest.raises(TransfuseError, match=r"x\.png has no caption: move it into the folder of its class"):
        Folder(tmp_path, classes=True)


# -- paths


def test_a_tilde_is_the_users_home(pets: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pets.parent))
    monkeypatch.chdir(pets)
    for text in ("~/pets", "~/pets;size=2"):
        assert data_section(text, installed)["path"] == str(pets.resolve())
    with pytest.raises(TransfuseError, match="'~nobody-of-this-name/pets' is neither"):
        data_section("~nobody-of-this-name/pets", installed)
    Path("~").mkdir()
    picture(pets / "~" / "a.png", "here")
    assert data_section("~", installed)["path"] == str((pets / "~").resolve())


def test_a_name_of_any_length_is_no_traceback(installed: Plugins) -> None:
    with pytest.raises(TransfuseError, match="is neither a data set nor"):
        data_section("a" * 5000, installed)


def test_a_folder_of_pictures_may_hold_a_manifest_of_its_own(pets: Path, installed: Plugins) -> None:
    (pets / "manifest.json").write_text('{"name": "my gallery"}')
    data = open_data(str(pets), installed)
    assert data.account().endswith("1 not used: 1 .json (first manifest.json)")


def test_settings_reach_the_pictures(pets: Path, installed: Plugins) -> None:
    section = data_section(f"{pets};size=2;fit=crop;links=follow", installed)
    assert section["fit"] == "crop"
    assert next(open_data(f"{pets};size=2;fit=pad", installed).raw("train", "image")).shape == (3, 2, 2)
    with pytest.raises(TransfuseError, match="fit=crop says how images change their size, and size=own that"):
        open_data(f"{pets};size=own;fit=crop", installed)
