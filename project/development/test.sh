#!/bin/sh
# test.sh PYTHON [PYTEST ARGUMENT...]: all tests. Without a browser: all others, and then it fails.
set -eu

python=$1
shift
"$python" -c 'import sys, django; print("Python %d.%d.%d," % sys.version_info[:3], "Django", django.__version__)'

if sh "${0%/*}/browser.sh"; then
    exec "$python" -m pytest "$@"
fi
"$python" -m pytest --ignore=tests/browser "$@"
echo "All other tests passed, but the browser tests did not run; type: sudo apt-get install chromium" >&2
exit 1
