#!/bin/sh
# test.sh PYTHON [PYTEST ARGUMENT...]: all tests. Without a browser: all others, and then it fails.
# Most of their time they wait for other processes, so several run at once; those that assert a duration run alone.
set -eu

python=$1
shift
"$python" -c 'import sys, django; print("Python %d.%d.%d," % sys.version_info[:3], "Django", django.__version__)'

without=''
if ! sh "${0%/*}/browser.sh"; then
    without=--ignore=tests/browser
fi
# twice WHICH [PYTEST ARGUMENT...]: what fails is tried once more, alone, and named: no figure and no browser of a machine
# that others use is the same twice. What fails by itself too has failed.
twice() {
    which=$1
    shift
    if ! "$python" -m pytest $without "$@" -m "$which"; then
        echo "make test: the tests named above failed; once more, one at a time:" >&2
        "$python" -m pytest $without --last-failed --last-failed-no-failures=none -m "$which"
        echo "make test: they passed by themselves: UNSTABLE under load, worth a look" >&2
    fi
}

if [ $# -gt 0 ]; then # some of them: as they are asked for
    "$python" -m pytest $without "$@"
else
    twice "not long and not alone" -n 4
    twice "alone and not long"
fi
if [ -z "$without" ]; then
    exit 0
fi
echo "All other tests passed, but the browser tests did not run; type: sudo apt-get install chromium" >&2
exit 1
