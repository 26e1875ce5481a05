#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# What the tree must not have: each rule is a search whose hits are printed and counted.
#
#   tree.sh TOP
set -euo pipefail
cd "$1"
bad=0
sources=('daemon/*.[ch]' 'client/*.[ch]' 'lib/*.[ch]' 'proto/*.[ch]')

# rule WHAT COMMAND...: the command prints nothing when all is well.
rule() {
    local what=$1 hits
    shift
    hits=$("$@") || [ $? = 1 ]
    [ -n "$hits" ] || return 0
    printf '%s:\n%s\n' "$what" "$hits"
    bad=$((bad + 1))
}

grep_in() { # PATTERN PATHSPEC...
    local pattern=$1
    shift
    git grep -nIE "$pattern" -- "$@"
}

no_licence() {
    git ls-files '*.c' '*.h' '*.py' '*.sh' 'scripts/*' '.ci/*' 'smf/*' ':!smf/*.xml' \
        'tests/guest/*' ':!*/meson.build' |
        while read -r file; do
            head -n 2 "$file" | grep -q 'SPDX-License-Identifier: MPL-2.0' || echo "$file"
        done
}

long_files() {
    git ls-files "${sources[@]}" | xargs -r wc -l | awk '$2 != "total" && $1 > 700'
}

machine_paths() {
    git grep -nIF "$PWD/" -- .
}

home_paths() {
    case ${HOME:-/} in
    / | /root) ;;
    *) git grep -nIF "$HOME/" -- . ;;
    esac
}

scripts() {
    git ls-files | while read -r file; do
        if head -n 1 "$file" 2>/dev/null | grep -aqE '^#!.*(/| )(ba|da)?sh\b'; then
            echo "$file"
        fi
    done
}

check_scripts() {
    # shellcheck disable=SC2046
    shellcheck -x -S warning $(scripts) 2>&1
}

rule "files without the licence line" no_licence
rule "files over 700 lines (look for the seam at 600)" long_files
rule "this machine's paths" machine_paths
rule "this user's paths" home_paths
rule "package registries (the system's configuration names them)" \
    grep_in '(deb|security)[.]debian[.]org|registry[.]npmjs[.]org|pypi[.]org' .
rule "calls that have a safe twin" \
    grep_in '\b(strcpy|strcat|v?sprintf|gets|system|popen|mktemp|tmpnam|atoi|strtok)\(' \
    "${sources[@]}"
rule "libevent outside of the files that may know it" \
    grep_in '#include <(event2?/|event\.h|evhttp)' "${sources[@]}" \
    ':!lib/base/loop.c' ':!lib/base/stream.c' ':!lib/hypervisor/propolis/rest.c' \
    ':!lib/hypervisor/propolis/websocket.c'
rule "threads outside of the worker pool" grep_in '\bpthread_create\b' "${sources[@]}" \
    ':!lib/base/worker.c' ':!lib/image/fetcher/stage.c'
rule "layers: lib and proto know neither program" \
    grep_in '#include "(daemon|client)/' 'lib/*.[ch]' 'proto/*.[ch]'
rule "layers: lib knows no protocol" grep_in '#include "proto/' 'lib/*.[ch]'
rule "layers: images and models know no VMFile" \
    grep_in '#include "lib/vmfile/' 'lib/yaml/*.[ch]' 'lib/image/*.[ch]' 'lib/model/*.[ch]'
rule "layers: the programs do not know each other" \
    grep_in '#include "client/' 'daemon/*.[ch]'
rule "layers: the programs do not know each other" \
    grep_in '#include "daemon/' 'client/*.[ch]'
rule "host keys that are not checked" \
    grep_in 'StrictHostKeyChecking[= ]no|UserKnownHostsFile[= ]/dev/null' . ':!docs' ':!tests/lint'
rule "shellcheck" check_scripts
exit $((bad != 0))
