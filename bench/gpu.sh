#!/usr/bin/env bash
# All that one GPU is asked, in at most eight minutes: bench/gpu.py, where nothing can be installed from a registry.
#
#   bench/gpu.sh gpu.json             # on a machine with a GPU and torch 2.11-2.13
#   TINY=1 bench/gpu.sh gpu.json      # the rehearsal: the CPU stands in
#
# PYTHON: the python that has torch (python3). WHEELS: a folder of wheels of what that python lacks; the script names
# what is missing. transfuse itself need not be installed: its folders are put on the path, with its entry points.
set -euo pipefail
out=$(realpath -m "${1:?usage: bench/gpu.sh FILE.json}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
fi
"$python" - "$site" <<'PYTHON'
import pathlib
import sys
import tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
facts = pathlib.Path(sys.argv[1]) / "transfuse-0.dist-info"
facts.mkdir()
(facts / "METADATA").write_text("Metadata-Version: 2.1\nName: transfuse\nVersion: 0\n")
lines = []
for group, points in project["entry-points"].items():
    lines += [f"[{group}]", *(f"{name} = {module}" for name, module in points.items())]
(facts / "entry_points.txt").write_text("\n".join(lines))
PYTHON
export PYTHONPATH="$site:$PWD/core:$PWD/plugins:$PWD/adapters:$PWD/lab${PYTHONPATH:+:$PYTHONPATH}"
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
"$python" - <<'PYTHON'
import importlib.util
import sys

needed = {
    "numpy": "numpy", "pluggy": "pluggy", "pydantic": "pydantic", "yaml": "PyYAML", "jaxtyping": "jaxtyping",
    "safetensors": "safetensors", "lazy_loader": "lazy-loader", "tokenizers": "tokenizers",
    "vector_quantize_pytorch": "vector-quantize-pytorch", "typer": "typer", "rich": "rich", "PIL": "pillow",
    "sklearn": "scikit-learn", "scipy": "scipy", "filelock": "filelock", "pytest": "pytest", "hypothesis": "hypothesis",
}  # fmt: skip
missing = [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
if missing:
    sys.exit(f"missing: {', '.join(missing)}; bring them, and what they need, as wheels: WHEELS=FOLDER bench/gpu.sh …")
PYTHON
"$python" bench/gpu.py --json "$out" ${TINY:+--tiny}
