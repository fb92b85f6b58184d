#!/bin/sh
# redis.sh DIRECTORY: the programs redis-server and redis-cli of this system, for the tests. Prints the directory that
# holds usr/bin/redis-server: "/" when they are installed, else DIRECTORY, into which Debian's packages are unpacked:
# installing them would start a service. When neither is possible: prints the line to type, and exits 1.
set -eu

directory=$1
packages='redis-server redis-tools'

if [ -x /usr/bin/redis-server ] && [ -x /usr/bin/redis-cli ]; then
    echo /
    exit 0
fi
if [ -x "$directory/usr/bin/redis-server" ] && [ -x "$directory/usr/bin/redis-cli" ]; then
    echo "$directory"
    exit 0
fi

# What would have to be installed, with the libraries that are missing here. Needs no rights.
missing() {
    # shellcheck disable=SC2086
    apt-get -s install -y --no-install-recommends $packages 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

fetch() {
    names=$(missing)
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
    if fetch || { [ "$(id -u)" = 0 ] && apt-get -qq update >/dev/null 2>&1 && fetch; }; then
        echo "$directory"
        exit 0
    fi
fi
echo "The tests of the job stores need a Redis server; type: sudo apt-get install redis-server redis-tools" >&2
exit 1
