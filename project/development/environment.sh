#!/bin/sh
# environment.sh DIRECTORY: make the virtual environment there, with what requirements.txt names. Done already: says nothing.
# PYTHON chooses the interpreter; without it, the environment's own, else the first Python >= 3.11 found.
set -eu

venv=$1
old_enough='import sys; sys.exit(sys.version_info < (3, 11))'

fail() {
    echo "$*" >&2
    exit 1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c "$old_enough" 2>/dev/null || fail "PYTHON=$PYTHON is not a Python >= 3.11 that runs"
        echo "$PYTHON"
        return
    fi
    # The environment's own answers whether it is still good: a Python that was removed leaves a dead link.
    for candidate in "$venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c "$old_enough" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 found: install one, or name it, for example: make PYTHON=/path/to/python3.11"
}

# `ensurepip` is what Debian keeps in a package of its own; without it `python -m venv` fails half-way.
can_make_environments() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

python=$(find_python)
# What the environment was made of: while this stays the same there is nothing to do.
made_of=$("$python" -c 'import sys; print(sys.base_prefix, sys.version)' && cat requirements.txt)
stamp=$venv/made-of
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$made_of" ] && "$venv/bin/python" -c ''; then
    exit 0
fi

if [ "$python" != "$venv/bin/python" ]; then
    if ! can_make_environments "$python"; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "Installing $package, which this Python needs to make a virtual environment ..."
            { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$package"; } >/dev/null </dev/null ||
                fail "apt-get could not install $package; what it said is above"
        fi
        can_make_environments "$python" ||
            fail "$python can't make a virtual environment; type: sudo apt-get install $package (or name another by PYTHON=)"
    fi
    "$python" -m venv --clear "$venv" || fail "can't make $venv; what Python said is above"
fi

echo "Installing the packages of requirements.txt into $venv (only when it changed; a minute or two the first time) ..."
"$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-input -r requirements.txt </dev/null ||
    fail "pip could not install requirements.txt into $venv; what it said is above"
printf '%s\n' "$made_of" >"$stamp"
