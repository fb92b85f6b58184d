#!/bin/sh
# debian.sh DIRECTORY FILE PACKAGE...: what the tests need of Debian's packages. Prints the directory that holds FILE (a
# pattern, relative): "/" when the packages are installed, else DIRECTORY, into which they are unpacked: installing a
# server would start it. When neither is possible: prints the line to type, and exits 1.
set -eu

directory=$1
file=$2
shift 2

there() {
    for found in "$1"/$file; do
        if [ -e "$found" ]; then return 0; fi
    done
    return 1
}

for root in / "$directory"; do
    if there "${root%/}"; then
        echo "$root"
        exit 0
    fi
done

# What would have to be installed, with the libraries that are missing here. Needs no rights.
missing() {
    apt-get -s install -y --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

fetch() {
    names=$(missing "$@")
    [ -n "$names" ] || return 1
    rm -rf "$directory/fetched"
    mkdir -p "$directory/fetched"
    # shellcheck disable=SC2086
    (cd "$directory/fetched" && apt-get -qq download $names) >/dev/null 2>&1 || return 1
    for package in "$directory"/fetched/*.deb; do
        dpkg -x "$package" "$directory"
    done
    rm -rf "$directory/fetched"
}

if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    if fetch "$@" || { [ "$(id -u)" = 0 ] && apt-get -qq update >/dev/null 2>&1 && fetch "$@"; }; then
        echo "$directory"
        exit 0
    fi
fi
echo "The tests need Debian's $*; type: sudo apt-get install $*" >&2
exit 1
