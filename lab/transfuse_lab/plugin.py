"""What the lab offers: its data sets and metrics come in through the door everybody uses."""

from typing import Literal

from pydantic import Field
from transfuse.datasets import DataSet
from transfuse.hooks import hookimpl
from transfuse.parts import Part, Settings


class DigitsSettings(Settings):
    """The digits have no settings."""


class FolderSettings(Settings):
    """path: the folder. size: resize every image to this square. channels: 1 grey, 3 colour."""

    path: str
    size: int | None = Field(None, ge=1, le=4096)
    channels: Literal[1, 3] = 3


def build_digits(settings: DigitsSettings) -> DataSet:
    from transfuse_lab.data.digits import Digits

    return Digits()


def build_folder(settings: FolderSettings) -> DataSet:
    from transfuse_lab.data.folder import Folder

    return Folder(settings.path, settings.size, settings.channels)


@hookimpl
def transfuse_datasets() -> list[Part]:
    return [
        Part("dataset", "digits", DigitsSettings, build_digits, "1,797 real 8x8 digits with their names"),
        Part("dataset", "folder", FolderSettings, build_folder, "your images, with a caption each"),
    ]
