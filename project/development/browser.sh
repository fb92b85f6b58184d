#!/bin/sh
# browser.sh: exit 0 when a Chromium is there for the browser tests; as root on Debian install it first.
# Else print the line to type, and exit 1.
set -eu

found() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then return 0; fi
    done
    return 1
}

if found; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing chromium for the browser tests ..."
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium; } >/dev/null </dev/null || true
    if found; then exit 0; fi
fi
echo "The browser tests need Chromium; type: sudo apt-get install chromium" >&2
exit 1
