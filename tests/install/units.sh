#!/bin/sh
# SPDX-License-Identifier: MPL-2.0
# The units, as `meson install` places them, are clean to systemd itself.
#
#   units.sh BUILD_FOLDER
set -eu
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work meson install -C "$build" --no-rebuild --quiet
lib=$(dirname "$(find "$work" -type d -path '*/lib/systemd')")/systemd
prefix=${lib%/lib/systemd}
for manager in system user; do
    # Verifying looks for the programs where the unit says; they are not installed there.
    sed -i "s|^ExecStart=${prefix#"$work"}|ExecStart=$prefix|" "$lib/$manager/vmmd.service"
    mode=--system
    [ $manager = system ] || mode=--user
    # What systemd has to say about units of this machine is not ours.
    said=$(XDG_RUNTIME_DIR=$work systemd-analyze "$mode" --recursive-errors=no verify \
        "$lib/$manager/vmmd.service" "$lib/$manager/vmmd.socket" 2>&1) || {
        echo "$said"
        exit 1
    }
    if echo "$said" | grep vmmd; then exit 1; fi
    echo "$manager units: clean"
done
