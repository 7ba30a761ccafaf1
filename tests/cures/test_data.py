"""A person's own folder, as it comes: what is said of each fault in it, done as it says, and it is read."""
# ruff: noqa: UP031 (lines of JSON, which are full of braces)

import os
import re
import shutil

import pytest

from tests.cures.situation import TINY, Situation, cures

LINE = '{"image": "p%d.png", "caption": "pet %d"}\n'
LINES = "".join(LINE % (i, i) for i in range(6))
DOCUMENTS = "".join('{"items": [{"text": "pet %d"}, {"image": "p%d.png"}]}\n' % (i, i) for i in range(6))


class Own(Situation):
    def told(self, data: str = "pets") -> str:
        return self.refused(*self.dry(data))

    def read(self, data: str = "pets") -> str:
        return self.works(*self.dry(data))

    def dry(self, data: str) -> tuple[str, ...]:
        return ("train", "transfusion", "--data", data, "--dry-run", *TINY, "--set", "train.budget=600")


@pytest.fixture
def own(s: Situation) -> Own:
    s.__class__ = Own
    return s


class TestTheOption:
    @cures("opening.py: --data {text} is neither")
    def test_a_name_misspelt(self, own: Own) -> None:
        own.told("digist")
        own.read(own.finds("did you mean '(.+)'"))

    @cures("opening.py: --data {text} is a file")
    def test_a_file(self, own: Own) -> None:
        own.write("digits.txt", "x")
        own.told("digits.txt")
        own.read(own.finds("did you mean '(.+)'"))

    @cures("opening.py: --data {text} holds both")
    def test_two_listings(self, own: Own) -> None:
        own.pets(captions=False)
        own.write("pets/captions.jsonl", LINES)
        own.write("pets/documents.jsonl", DOCUMENTS)
        told = own.told()
        for cure in re.findall(r"--data '([^']+\.jsonl)'", told):
            own.read(cure)

    @cures("opening.py: --data: {pair}")
    def test_no_setting(self, own: Own) -> None:
        own.pets()
        own.told("pets;size")
        own.read(own.finds("write (.+);key=value") + ";size=8")

    @cures("parts.py: unknown key, {did_you")
    def test_a_setting_misspelt(self, own: Own) -> None:
        own.pets()
        own.told("pets;sise=8")
        own.read("pets;" + own.finds("did you mean '(.+)'") + "=8")


class TestFiles:
    @cures("captions.py: write {LISTING}, or a .txt")
    @pytest.mark.parametrize("way", ["captions.jsonl", ".txt"])
    def test_a_picture_without_its_caption(self, own: Own, way: str) -> None:
        own.pets()
        own.delete("pets/p3.txt")
        assert way in own.told()
        if way == ".txt":
            own.write("pets/p3.txt", "pet 3")
        else:
            own.write("pets/captions.jsonl", LINES)
        own.read()

    @cures("captions.py: or take the folders' names")
    def test_folders_of_classes(self, own: Own) -> None:
        own.pets(folder="pets/cat", captions=False)
        own.told()
        own.read(own.finds("--data '([^']+;classes=true)'"))

    @cures("captions.py: move it into the folder of its class")
    def test_a_picture_of_no_class(self, own: Own) -> None:
        own.pets(folder="pets/cat", captions=False)
        own.picture("pets/stray.png")
        own.told("pets;classes=true")
        (own.folder / "pets/stray.png").rename(own.folder / "pets/cat/stray.png")
        own.read("pets;classes=true")

    @cures("captions.py: or read {in_text(deep[0])}")
    def test_a_listing_in_a_folder_within(self, own: Own) -> None:
        own.pets(folder="pets/set", captions=False)
        own.write("pets/set/captions.jsonl", LINES)
        own.told()
        own.read(own.finds("captions.jsonl: --data '([^']+)'"))

    @cures("captions.py: {fault}: add the image")
    @pytest.mark.parametrize("way", ["add", "move", "list"])
    def test_a_caption_without_its_picture(self, own: Own, way: str) -> None:
        own.pets()
        own.write("pets/lost.txt", "a lost pet")
        own.told()
        if way == "add":
            own.picture("pets/lost.png")
        elif way == "move":
            (own.folder / "pets/lost.txt").rename(own.folder / "lost.txt")
        else:
            own.write("pets/captions.jsonl", LINES)
        own.read()

    @cures("captions.py: {fault}, and {in_text(near[0])} is not of a kind")
    def test_a_picture_of_another_kind(self, own: Own) -> None:
        own.pets()
        own.write("pets/raw.txt", "a raw pet")
        own.write("pets/raw.heic", b"?")
        own.told()
        own.picture("pets/raw.png")
        own.read()

    @cures("captions.py: add a line to")
    @pytest.mark.parametrize("way", ["add", "move"])
    def test_a_picture_that_is_not_listed(self, own: Own, way: str) -> None:
        own.pets(captions=False)
        own.write("pets/captions.jsonl", "".join(LINES.splitlines(keepends=True)[:5]))
        own.told()
        if way == "add":
            own.write("pets/captions.jsonl", LINES)
        else:
            (own.folder / "pets/p5.png").rename(own.folder / "p5.png")
        own.read()

    @cures("captions.py: data folder {folder}: holds {' and '.join(names)}")
    def test_two_listings_of_captions(self, own: Own) -> None:
        own.pets(captions=False)
        own.write("pets/captions.jsonl", LINES)
        own.write("pets/metadata.jsonl", LINES)
        own.told()
        own.delete("pets/metadata.jsonl")
        own.read()

    @cures("found_files.py: data folder {folder}: {in_text(name)} is a link")
    @pytest.mark.parametrize("way", ["copy", "follow"])
    def test_a_link_that_leads_out(self, own: Own, way: str) -> None:
        own.pets()
        own.picture("elsewhere/p9.png")
        (own.folder / "pets/p9.png").symlink_to(own.folder / "elsewhere/p9.png")
        own.write("pets/p9.txt", "pet 9")
        own.told()
        if way == "follow":
            own.read(own.finds("--data '([^']+)'"))
        else:
            real = own.finds(r"to (\S+): copy that here")
            own.delete("pets/p9.png")
            shutil.copy(real, "pets/p9.png")
            own.read()

    @cures("found_files.py: data folder {folder}: {error.filename} cannot be read")
    def test_a_folder_that_may_not_be_read(self, own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
        own.pets()
        own.pets(1, "pets/secret")
        real = os.scandir

        def scandir(path: object = ".") -> object:
            if str(path).endswith("secret"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)  # ty: ignore

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", scandir)
            own.told()
        own.read()

    @cures("files.py: save it as UTF-8")
    def test_a_caption_in_another_encoding(self, own: Own) -> None:
        own.pets()
        own.write("pets/p0.txt", "café".encode("latin-1"))
        own.told()
        own.write("pets/p0.txt", "café")
        own.read()


class TestPictures:
    @cures("images.py: data folder {folder}: {name} is")
    @pytest.mark.parametrize("way", ["out", "size"])
    def test_several_sizes(self, own: Own, way: str) -> None:
        own.pets()
        own.picture("pets/p0.png", side=12)
        own.told("pets;size=own")
        own.read("pets" if way == "out" else own.finds("--data '([^']+)'"))

    @cures("images.py: data folder {folder}: fit=")
    def test_a_fit_of_pictures_that_keep_their_size(self, own: Own) -> None:
        own.pets()
        own.told("pets;fit=crop;size=own")
        assert own.finds("(leave one of them out)")
        own.read("pets;fit=crop")

    @cures("files.py: {place}: not a readable image")
    def test_a_picture_that_is_none(self, own: Own) -> None:
        own.pets()
        own.write("pets/p0.png", b"no picture")
        own.told()
        own.picture("pets/p0.png")
        own.read()

    @cures("files.py: its pixels are fractions")
    def test_a_picture_of_fractions(self, own: Own) -> None:
        import numpy as np
        from PIL import Image

        own.pets()
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save("pets/p0.tiff")
        own.delete("pets/p0.png")
        own.told()
        Image.fromarray(np.full((8, 8), 128, np.uint8)).save("pets/p0.tiff")
        own.read()

    @cures("files.py: {place}: {opened.width} x")
    def test_a_picture_that_is_too_large(self, own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
        own.pets()
        monkeypatch.setattr("transfuse_pictures.files.LARGEST_IMAGE", 100)
        own.picture("pets/p0.png", side=16)
        own.told()
        own.picture("pets/p0.png")
        own.read()


class TestListings:
    @pytest.mark.parametrize(
        "first",
        [
            pytest.param(
                '{"image": "p0.png", "captoin": "a"}', marks=cures("listings.py: {source}: unknown key")
            ),
            pytest.param("[", marks=cures("listings.py: {source}: not JSON")),
            pytest.param(
                '{"image": "p0.png", "file_name": "p0.png", "caption": "a"}',
                marks=cures("captions.py: {source}: {key} and {ours}"),
            ),
        ],
    )
    def test_a_line_as_it_should_be(self, own: Own, first: str) -> None:
        own.pets(captions=False)
        own.write("pets/captions.jsonl", "\n".join([first, *LINES.splitlines()[1:]]))
        told = own.told()
        mended = first.replace("captoin", "caption" if "'caption'" in told else "?").replace(
            '"file_name": "p0.png", ', ""
        )
        mended = told.split("like ")[1].replace("a.png", "p0.png") if first == "[" else mended
        own.write("pets/captions.jsonl", "\n".join([mended, *LINES.splitlines()[1:]]))
        own.read()

    @cures("interleaved.py: {source}: unknown key")
    def test_a_document_of_an_unknown_key(self, own: Own) -> None:
        own.pets(captions=False)
        own.write(
            "pets/documents.jsonl", DOCUMENTS.replace('"text": "pet 0"', '"text": "pet 0", "los": true')
        )
        own.told()
        own.write(
            "pets/documents.jsonl",
            DOCUMENTS.replace(
                '"text": "pet 0"', f'"text": "pet 0", "{own.finds("did you mean .(.+).[?]")}": true'
            ),
        )
        own.read()
