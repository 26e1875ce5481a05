#!/bin/sh
# SPDX-License-Identifier: MPL-2.0
# `meson install` into a DESTDIR places what files.txt lists, and nothing else.
#
#   files.sh BUILD_FOLDER
set -eu
build=$1 here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work/root meson install -C "$build" --no-rebuild --quiet
prefix=$(meson introspect --buildoptions "$build" |
    python3 -c 'import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
(cd "$work/root$prefix" && find . -type f -printf '%m %P\n' | LC_ALL=C sort -k 2) >"$work/there"
diff -u "$here/files.txt" "$work/there"
