#!/usr/bin/env bash
# Create a virtual environment with pip in it, unless it is there: tools/venv.sh DIRECTORY
# Takes the newest Python from 3.11 on; PYTHON=... chooses another.
set -euo pipefail

directory=$1
if "$directory/bin/python" -m pip --version >/dev/null 2>&1; then
  exit 0
fi

usable() {
  command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  if usable "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "Recollect needs Python 3.11 or newer; found: $(python3 --version 2>&1 || echo none)." >&2
  echo "Next: install it (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3" >&2
  exit 1
fi

echo "Setting up $directory with $("$python" --version); this takes a minute the first time." >&2
rm -rf "$directory"
if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  "$python" -m venv "$directory"
# Debian splits ensurepip off into python3-venv; an installed pip (22.3 on) can serve another environment.
elif "$python" -m venv --without-pip "$directory" 2>/dev/null \
  && "$python" -m pip --python "$directory/bin/python" install --quiet pip 2>/dev/null; then
  :
else
  rm -rf "$directory"
  echo "This Python has neither ensurepip nor pip, so it cannot make a virtual environment." >&2
  echo "Next: apt install python3-venv (Debian, Ubuntu), then the same make command again." >&2
  exit 1
fi
