"""Options that several commands take, said once; light to import."""

from pathlib import Path
from typing import Annotated

import typer

RegistryFile = Annotated[
    Path | None, typer.Option("--registry", metavar="FILE|NAME", help="A registry laid over all others.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as loss.image=2; repeatable."),
]
DrawnBy = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="How samples are drawn: image.sampler.evaluations=20; repeatable."
    ),
]
DATA = typer.Option("--data", metavar="DATA", help="A data set's name, a folder of images, or a store.")
Data = Annotated[str, DATA]
MaybeData = Annotated[str | None, DATA]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="auto (a GPU where there is one), cpu, cuda or cuda:1."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a training run.")]
DTYPE = typer.Option("--dtype", metavar="DTYPE", help="Of matrix products in sampling: float32 or bfloat16.")
