#!/bin/sh
# SPDX-License-Identifier: MPL-2.0
# What was installed works together from where it was installed: vmctl finds its daemon, the daemon
# its launcher, and nothing is taken from the build folder.
#
#   runs.sh BUILD_FOLDER
set -eu
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work/root meson install -C "$build" --no-rebuild --quiet
vmctl=$(find "$work/root" -path '*/bin/vmctl')
export XDG_RUNTIME_DIR="$work/run" XDG_DATA_HOME="$work/data" XDG_STATE_HOME="$work/state"
export XDG_CONFIG_HOME="$work/config" PATH=/usr/bin:/bin
unset VMCTL_SOCKET VMCTL_NO_AUTOSTART
mkdir -m 700 "$work/run"

"$vmctl" create --name quiet --backend noop --start
"$vmctl" list | grep -q '^quiet .*running'
"$vmctl" daemon status
"$vmctl" image catalogue | grep '^debian:12 ' >/dev/null
"$vmctl" daemon stop
"$vmctl" destroy quiet
"$vmctl" daemon stop
if [ -n "$(ls -A "$work/data/vmm/vms")" ]; then
    ls -R "$work/data/vmm/vms"
    exit 1
fi
