"""What the tiles plugin offers."""

from transfuse.plugin import Backend, Part, Settings, hookimpl


class TilesSettings(Settings):
    """Tiles have no settings."""


def build_tiles(settings: TilesSettings) -> Backend:
    from transfuse_tiles.backend import Tiles  # registers its operators

    return Tiles()


@hookimpl
def transfuse_attention_backends() -> list[Part]:
    return [Part("tiles", TilesSettings, build_tiles, "tiles of queries times the keys they see, for CPUs")]
