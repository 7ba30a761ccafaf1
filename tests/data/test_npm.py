"""Packages are fetched by npm, are the pinned ones bit for bit, and are read without being unpacked."""

import base64
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest
from transfuse import TransfuseError
from transfuse_lab.datasets.emoji.build import build_emoji, caption, plain
from transfuse_lab.datasets.emoji.emoji import emoji_file
from transfuse_lab.datasets.emoji.npm import Package, check, fetch, members


def tarball(path: Path, *files: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for file in files:
            info = file if isinstance(file, tarfile.TarInfo) else tarfile.TarInfo(file[0])
            content = b"" if isinstance(file, tarfile.TarInfo) else file[1]
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def package(path: Path) -> Package:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return Package("toy", "1.0.0", f"sha512-{digest}")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``npm(body)`` puts a script on an otherwise empty PATH; it finds its arguments in ``sys.argv``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(body: str) -> None:
        script = folder / "npm"
        script.write_text(f"#!{sys.executable}\nimport shutil, sys\n{body}\n")
        script.chmod(0o755)

    return install


HANDS_OVER = "folder = sys.argv[sys.argv.index('--pack-destination') + 1]\nshutil.copy({!r}, folder)"


def test_the_pinned_package_is_fetched(npm, tmp_path: Path) -> None:
    toy = tarball(tmp_path / "toy-1.0.0.tgz", ("package/a.png", b"a"))
    npm("assert sys.argv[1:3] == ['pack', 'toy@1.0.0'], sys.argv\n" + HANDS_OVER.format(str(toy)))
    there = tmp_path / "there"
    there.mkdir()
    assert fetch(package(toy), there).read_bytes() == toy.read_bytes()


def test_other_content_is_refused(npm, tmp_path: Path) -> None:
    toy = tarball(tmp_path / "toy-1.0.0.tgz", ("package/a.png", b"a"))
    pinned = package(toy)
    tarball(toy, ("package/a.png", b"b"))
    npm(HANDS_OVER.format(str(toy)))
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(TransfuseError, match=r"toy@1\.0\.0: npm fetched other content"):
        fetch(pinned, there)


def test_without_npm_the_error_names_it_and_the_cure(npm, tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"no npm here: install Node\.js"):
        build_emoji(tmp_path / "cache")
    assert not emoji_file(tmp_path / "cache").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_network_the_error_says_what_npm_said(npm, tmp_path: Path) -> None:
    npm("sys.exit('npm error code ENOTFOUND\\nnpm error network request failed')")
    with pytest.raises(
        TransfuseError, match=r"could not fetch .*: code ENOTFOUND network request failed; look"
    ):
        fetch(Package("toy", "1.0.0", ""), tmp_path)


def test_an_npm_that_brings_nothing_is_an_error(npm, tmp_path: Path) -> None:
    npm("pass")
    with pytest.raises(TransfuseError, match=r"npm fetched no toy-1\.0\.0\.tgz"):
        fetch(Package("toy", "1.0.0", ""), tmp_path)


def test_what_a_process_left_that_died_while_it_built_is_deleted(npm, tmp_path: Path) -> None:
    npm("sys.exit(1)")
    cache = tmp_path / "cache"
    (cache / "building-old").mkdir(parents=True)
    (cache / "building-old/package.tgz").write_text("half")
    with pytest.raises(TransfuseError):
        build_emoji(cache)
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match="file/cache cannot be written"):
        build_emoji(tmp_path / "file" / "cache")


def test_only_plain_files_of_the_wanted_names_are_read(tmp_path: Path) -> None:
    link, folder = tarfile.TarInfo("package/b.png"), tarfile.TarInfo("package/c.png")
    link.type, link.linkname, folder.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.DIRTYPE
    path = tarball(
        tmp_path / "toy.tgz",
        ("package/a.png", b"a"), link, folder, ("../d.png", b"d"), ("/package/e.png", b"e"),
        ("package/../f.png", b"f"), ("package/g.png/h", b"h"), ("other/i.png", b"i"),
    )  # fmt: skip
    assert list(members(path, r"package/[a-z]+\.png", 10)) == [("package/a.png", b"a")]
    assert [p.name for p in tmp_path.iterdir()] == ["toy.tgz"]


@pytest.mark.parametrize(
    "files",
    [[("a.png", b"12345678901")], [("a.png", b"1"), ("a.png", b"2")]],
    ids=["larger than said", "the same name twice"],
)
def test_what_is_too_large_or_comes_twice_is_refused(tmp_path: Path, files: list) -> None:
    with pytest.raises(TransfuseError, match=r"toy\.tgz: 'a\.png' comes twice or is larger than 10 bytes"):
        list(members(tarball(tmp_path / "toy.tgz", *files), r"a\.png", 10))


def test_no_tarball_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "toy.tgz"
    for content in (b"", b"nonsense", tarball(path, ("a", bytes(10_000))).read_bytes()[:60]):
        path.write_bytes(content)
        with pytest.raises(TransfuseError, match="not a readable package"):
            list(members(path, ".*", 10**6))
    with pytest.raises(TransfuseError, match="other content"):
        check(Package("toy", "1.0.0", "sha512-"), path)


def test_a_name_is_found_whether_the_code_points_ask_for_colour_or_not() -> None:
    assert plain("2764-fe0f-200d-1f525") == "2764-200D-1F525"
    assert caption("2764-fe0f", {"2764": "red heart"}) == "red heart"
    with pytest.raises(TransfuseError, match="1f600 has no name"):
        caption("1f600", {"2764": "red heart"})
