"""`python -m tf_speech FOLDER` fetches the prompts that the data set is put together from."""

import sys
from pathlib import Path

from tf_speech.data import fetch

fetch(Path(sys.argv[1] if len(sys.argv) > 1 else "sounds"))
