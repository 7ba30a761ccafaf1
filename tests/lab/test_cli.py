"""The command line: instant help, plain errors, the right exit status, and what each command calls."""
# ruff: noqa: E501 (a command and what it must do stand on one line)

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfuse.errors import TransfuseError
from transfuse_lab.cli import app
from transfuse_lab.commands.arguments import RecipeOnData, SampleArguments, read_axes, read_seeds
from transfuse_lab.comparison.settings import ComparisonSettings
from typer.testing import CliRunner, Result

SLOW = ("torch", "sklearn", "matplotlib", "tokenizers", "zarr", "scipy", "xformers", "numpy")
COMMANDS = (
    "train",
    "train-codec",
    "sample",
    "eval",
    "compare",
    "recipes",
    "plugins",
    "doctor",
    "mask",
    "data",
)

Calls = list[tuple[str, tuple[Any, ...]]]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


WORK = {  # where each command's work is done
    "train_command": "transfuse_lab.commands.train",
    "dry_run_command": "transfuse_lab.commands.train",
    "train_codec_command": "transfuse_lab.commands.train_codec",
    "sample_command": "transfuse_lab.commands.sample",
    "eval_command": "transfuse_lab.commands.evaluate",
    "compare_command": "transfuse_lab.commands.compare",
    "mask_command": "transfuse_lab.commands.mask",
}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever a command writes, it writes to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stands in for the functions that do the work; has what they were called with."""
    made: Calls = []
    for name, module in WORK.items():
        noted = lambda *arguments, name=name: made.append((name, arguments))  # noqa: E731
        monkeypatch.setattr(f"{module}.{name}", noted)
    return made


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, BaseException], None]:
    """``raising("train_command", error)``: that command's work raises."""

    def arrange(name: str, error: BaseException) -> None:
        def work(*arguments: object) -> None:
            raise error

        monkeypatch.setattr(f"{WORK[name]}.{name}", work)

    return arrange


class TestHelp:
    @pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["plugins", "list", "--help"]])
    def test_help_imports_nothing_slow(self, arguments: list[str]) -> None:
        program = (
            "import sys\n"
            "from transfuse_lab.cli import main\n"
            f"sys.argv = ['transfuse', *{arguments!r}]\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
            f"print([name for name in {SLOW!r} if name in sys.modules])\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"

    def test_every_command_is_there_and_explained(self) -> None:
        shown = run("--help").stdout
        for command in COMMANDS:
            assert f"\n  {command} " in shown
            assert run(command, "--help").exit_code == 0


class TestErrors:
    def test_a_users_mistake_is_one_line_and_exit_2(
        self, raising: Callable[[str, BaseException], None]
    ) -> None:
        raising("train_command", TransfuseError("no data set 'digit', did you mean 'digits'?"))
        done = run("train", "transfusion", "--data", "digit", "--out", "x")
        assert done.exit_code == 2
        assert done.stderr == "error: no data set 'digit', did you mean 'digits'?\n"
        assert done.stdout == ""

    @pytest.mark.parametrize("place", [0, 1, 6])
    def test_debug_before_or_behind_a_command_shows_where_the_cause_arose(
        self, raising: Callable[[str, BaseException], None], place: int
    ) -> None:
        try:
            raise RuntimeError("mat1 and mat2")
        except RuntimeError as cause:
            error = TransfuseError("modality 'series': embed raised RuntimeError: mat1 and mat2")
            error.__cause__ = cause
        raising("train_command", error)
        words = ["train", "transfusion", "--data", "digits", "--out", "x"]
        plain = run(*words)
        assert plain.stderr == f"error: {error}\n"
        words.insert(place, "--debug")
        done = run(*words)
        assert done.exit_code == 2
        assert done.stderr.startswith("Traceback (most recent call last):\n")
        assert 'raise RuntimeError("mat1 and mat2")' in done.stderr
        assert done.stderr.endswith(f"  RuntimeError: mat1 and mat2\nerror: {error}\n")

    def test_debug_of_an_error_without_a_cause_shows_where_it_was_raised(
        self, raising: Callable[[str, BaseException], None]
    ) -> None:
        raising("train_command", TransfuseError("no such thing"))
        done = run("--debug", "train", "transfusion", "--data", "digits", "--out", "x")
        assert "in work" in done.stderr
        assert done.stderr.endswith("error: no such thing\n")

    def test_a_fault_of_ours_keeps_its_traceback(self, raising: Callable[[str, BaseException], None]) -> None:
        raising("train_command", ZeroDivisionError("ours"))
        done = run("train", "transfusion", "--data", "digits", "--out", "x")
        assert isinstance(done.exception, ZeroDivisionError)

    @pytest.mark.parametrize(
        ("arguments", "name", "line"),
        [
            (("train", "r", "--data", "d", "--out", "x"), "train_command", "The same command goes on after what was saved; where nothing was, it begins anew."),
            (("compare", "--data", "d", "--out", "x"), "compare_command", "The same command goes on with what is missing."),
            (("eval", "x"), "eval_command", "interrupted."),
        ],
    )  # fmt: skip
    def test_interrupting_says_how_to_go_on(
        self,
        raising: Callable[[str, BaseException], None],
        arguments: tuple[str, ...],
        name: str,
        line: str,
    ) -> None:
        raising(name, KeyboardInterrupt())
        done = run(*arguments)
        assert done.exit_code == 130
        assert done.stderr.strip().startswith("interrupted.")
        assert done.stderr.strip().endswith(line)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("train", "r", "--data", "d"), "--out is missing"),
            (
                ("train", "r", "--data", "d", "--out", "x", "--codecs", "c", "--from", "y"),
                "give one of --codecs and --from",
            ),
            (("sample", "x", "--prompt", "a", "--image", "b.png"), "give one of --prompt, --given, --image"),
            (("sample", "x", "--prompt", "a", "--given", "image=@b.png"), "give one of --prompt, --given"),
            (("sample", "x", "--given", "a"), "--given 'a': write ROLE=VALUE"),
            (("compare", "--data", "d", "--out", "x", "--seeds", "a"), "--seeds 'a': write whole numbers"),
            (("compare", "--data", "d", "--out", "x", "--axis", "a"), "--axis 'a': write key=value,value"),
            (("recipes", "--registry", "nowhere.yaml"), "nowhere.yaml is missing: . holds no registry"),
        ],
    )
    def test_wrong_use(self, calls: Calls, arguments: tuple[str, ...], sentence: str) -> None:
        done = run(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert sentence in done.stderr
        assert calls == []

    @pytest.mark.parametrize(
        "arguments", [("tran",), ("train",), ("sample", "x", "--n", "0", "--prompt", "a")]
    )
    def test_misspelt_use(self, arguments: tuple[str, ...]) -> None:
        assert run(*arguments).exit_code == 2


class TestCommands:
    def test_train(self, calls: Calls) -> None:
        run(
            "train",
            "transfusion",
            "--data",
            "digits",
            "--out",
            "d",
            "--set",
            "model.dim=64",
            "--set",
            "loss.image=2",
            "--codecs",
            "c",
            "--device",
            "cuda:1",
        )
        run("train", "transfusion", "--data", "digits", "--dry-run", "--registry", "r.yaml")
        run("train-codec", "transfusion", "--data", "digits", "--out", "d")
        overrides = ("model.dim=64", "loss.image=2")
        assert calls == [
            (
                "train_command",
                (
                    RecipeOnData("transfusion", "digits", overrides),
                    Path("d"),
                    Path("c"),
                    None,
                    "cuda:1",
                    (),
                    0,
                ),
            ),
            ("dry_run_command", (RecipeOnData("transfusion", "digits", (), Path("r.yaml")), None, "auto")),
            ("train_codec_command", (RecipeOnData("transfusion", "digits"), Path("d"), "auto")),
        ]

    def test_sample(self, calls: Calls) -> None:
        run("sample", "d", "--prompt", "seven", "--n", "16", "--out", "grid.png", "--seed", "3")
        run("sample", "d", "--image", "f.png", "--device", "cpu", "--dtype", "bfloat16")
        run("sample", "d", "--document", "f.json", "--tokens", "9")
        run(
            "sample", "d", "--given", "text=a=b", "--given", "image=@c.png", "--want", "s:4", "--set", "s.x=1"
        )
        assert calls == [
            ("sample_command", (SampleArguments(Path("d"), ("seven",), n=16, out=Path("grid.png"), seed=3),)),
            (
                "sample_command",
                (SampleArguments(Path("d"), image=Path("f.png"), device="cpu", dtype="bfloat16"),),
            ),
            ("sample_command", (SampleArguments(Path("d"), document=Path("f.json"), tokens=9),)),
            (
                "sample_command",
                (
                    SampleArguments(
                        Path("d"),
                        given=(("text", "a=b"), ("image", "@c.png")),
                        want="s:4",
                        overrides=("s.x=1",),
                    ),
                ),
            ),
        ]

    def test_eval(self, calls: Calls) -> None:
        run("eval", "d", "--grid", "g.png", "--task", "text->image", "--prompts", "3", "--registry", "r.yaml")
        assert calls == [
            (
                "eval_command",
                (Path("d"), Path("g.png"), ("text->image",), 3, Path("r.yaml"), None, "auto", None, None, ()),
            )
        ]

    def test_compare(self, calls: Calls) -> None:
        run("compare", "--data", "digits", "--out", "d")
        run(
            "compare",
            "a",
            "b",
            "--data",
            "x",
            "--seeds",
            "3,1",
            "--out",
            "d",
            "--set",
            "k=v",
            "--axis",
            "loss.image=1,5",
        )
        axes = {"loss.image": ("1", "5")}
        several = ComparisonSettings(("a", "b"), "x", (3, 1), Path("d"), ("k=v",), axes)
        assert calls == [
            ("compare_command", (ComparisonSettings((), "digits", (0, 1, 2), Path("d")),)),
            ("compare_command", (several,)),
        ]

    def test_mask(self, calls: Calls) -> None:
        run("mask", "same(doc)", "--layout", "T3 I4", "--out", "m.png")
        assert calls == [("mask_command", ("same(doc)", "T3 I4", Path("m.png"), None, None))]

    def test_data_pack(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        packed: list[tuple[object, ...]] = []
        monkeypatch.setattr(
            "transfuse_lab.commands.stores.pack",
            lambda *arguments, **more: packed.append((*arguments[:2], more)),
        )
        monkeypatch.setenv("TRANSFUSE_PLUGINS", "lab")
        done = run("data", "pack", "digits", "--out", str(tmp_path / "d.zarr"))
        assert done.exit_code == 0
        assert packed == [
            ("digits", str(tmp_path / "d.zarr"), {"part": None, "parts": None, "encoding": None})
        ]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--part", "0/3"), "--part '0/3': write which part of how many"),
            (("--part", "4/3"), "--part '4/3': write which part"),
            (("--part", "x"), "--part 'x': write which part"),
            (("--part", "1/3", "--parts", "4"), "--part 1/3 and --parts 4 differ: leave --parts out"),
            (("--codecs", "c"), "--recipe is missing: what --codecs is for"),
            (("--set", "a=b"), "--recipe is missing: what --set is for"),
        ],
    )
    def test_data_pack_refuses(self, words: tuple[str, ...], message: str, tmp_path: Path) -> None:
        done = run("data", "pack", "digits", "--out", str(tmp_path / "d.zarr"), *words)
        assert done.exit_code == 2
        assert message in done.stderr

    def test_recipes(self) -> None:
        done = run("recipes")
        assert done.exit_code == 0
        rows = {line.split("\t")[0]: line.split("\t") for line in done.stdout.splitlines()}
        assert rows["transfusion"][1:3] == [
            "text=text image=image",
            "same(doc) & (le(idx) | same(span))",
        ]
        assert rows["chameleon"][1] == "text=text image=vq"

    def test_a_recipe_that_does_not_resolve_is_listed_with_its_fault(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_text("recipes: {odd: {extends: transfusion, model: {dim: 3}}}")
        lines = run("recipes", "--registry", str(path)).stdout.splitlines()
        (odd,) = [line for line in lines if line.startswith("odd\t")]
        assert odd.endswith("r.yaml:1: recipes.odd.model.dim: must be an even multiple of heads = 4, not 3")
        assert any(line.startswith("transfusion\ttext=text") for line in lines)

    def test_plugins_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        facts = tmp_path / "tf_video-0.1.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: tf-video\nVersion: 0.1\n")
        (facts / "entry_points.txt").write_text("[transfuse.plugins]\nvideo = nowhere_at_all\n")
        monkeypatch.syspath_prepend(tmp_path)
        done = run("plugins", "list")
        rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
        assert done.exit_code == 0
        assert rows["video"][:3] == ["tf-video", "0.1", "broken"]
        assert rows["video"][3].startswith("does not import: ModuleNotFoundError")
        assert rows["text"][2] == "loaded"
        assert "modality text" in rows["text"][3]
        sick = run("doctor")
        assert sick.exit_code == 1
        assert "plugin\tvideo\tFAULT: does not import" in sick.stdout
        assert sick.stdout.splitlines()[-1] == "1 fault to look at"

    def test_doctor(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        done = run("doctor")
        topics = {line.split("\t")[0] for line in done.stdout.splitlines()}
        assert {"machine", "package", "registry", "plugin", "attention"} <= topics
        assert "package\ttorch\t" in done.stdout
        assert "attention\tdense\t" in done.stdout
        assert "registry.yaml\tread" in done.stdout
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "all is well")
        path = tmp_path / "r.yaml"
        path.write_text("maks: {}")
        sick = run("doctor", "--registry", str(path))
        assert sick.exit_code == 1
        assert "unknown key, did you mean 'masks'?" in sick.stdout
        path.write_text("recipes: {odd: {extends: transfusion, model: {dim: 3}}}")
        assert "registry\tfault\tFAULT: " in run("doctor", "--registry", str(path)).stdout

    def test_the_program_as_a_user_runs_it(self, tmp_path: Path) -> None:
        program = (
            "import sys; from transfuse_lab.cli import main; sys.argv = ['transfuse', *sys.argv[1:]]; main()"
        )
        (tmp_path / "registry.yaml").write_text("plugins: {disabled: [vidoe]}\nrecipes: {}\n")
        done = subprocess.run(
            [sys.executable, "-c", program, "recipes"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
        assert done.stderr.startswith("warning: plugins.disabled: no plugin 'vidoe' is installed")
        assert len(done.stderr.splitlines()) == 1
        assert "transfusion" in done.stdout


class TestArguments:
    @pytest.mark.parametrize("text", ["", "a", "1,", "-1", "1.5", "1,1", "0,00", "²", "1" * 30])
    def test_seeds_that_are_none(self, text: str) -> None:
        with pytest.raises(TransfuseError, match=r"^--seeds "):
            read_seeds(text)

    @pytest.mark.parametrize("text", ["", "a", "a=", "=1", "a=1,,2", "a=1,1", "a=1,"])
    def test_axes_that_are_none(self, text: str) -> None:
        with pytest.raises(TransfuseError, match=r"^--axis "):
            read_axes([text])

    def test_an_axis_twice(self) -> None:
        with pytest.raises(TransfuseError, match="--axis a: stands twice"):
            read_axes(["a=1,2", "a=3"])

    def test_commas_in_brackets_belong_to_the_value(self) -> None:
        assert read_seeds(" 2, 0") == (2, 0)
        assert read_axes(["m=[1, 2],{a: 1, b: 2}", "b=x,delta(f, hi=1)"]) == {
            "b": ("x", "delta(f, hi=1)"),
            "m": ("[1, 2]", "{a: 1, b: 2}"),
        }


def test_versions_are_told() -> None:
    from importlib.metadata import version

    done = run("--version")
    assert done.exit_code == 0
    assert done.stdout.split() == ["transfuse", f"{version('transfuse')},", "torch", version("torch")]
