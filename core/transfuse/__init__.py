"""transfuse: models that predict the next token and diffuse the rest, in one transformer."""

from transfuse.errors import TransfuseError as TransfuseError
