#!/usr/bin/env bash
# The quick tests where a person may run them and we do not: tests/odd_places.sh [WAY...]
# All ways by default, as root on Debian; ARGS="tests/test_x.py -k word" for some tests only. Each
# way says what it was, and whether it passed; what cannot be had here is said, and not passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD status=0 user=saigen-somebody
read -ra args <<<"${ARGS:-}"
scratch=$(mktemp -d) && chmod 755 "$scratch"
trap 'rm -rf "$scratch"; ! id "$user" &>/dev/null || userdel "$user"' EXIT
quick=(-m pytest -q -p no:cacheprovider -n 2 --dist loadscope --no-loadscope-reorder
       -m "not slow and not system and not faults" "${args[@]}")

one_core() { taskset -c 0 .venv/bin/python "${quick[@]}"; }

busy() {
    for _ in 1 2 3 4; do (while :; do :; done) & done
    .venv/bin/python "${quick[@]}"
    local code=$?
    kill $(jobs -p)
    return $code
}

user() { # another user: a home that is new, a clone of its own, and of root's rights only the one
    # to read, for the interpreter may lie in root's home
    id "$user" &>/dev/null || useradd --home "$scratch/home" --create-home "$user" || return 77
    git clone -q "$root" "$scratch/clone" && cp -r data "$scratch/clone/" || return 77
    chown -R "$user" "$scratch/clone"
    (cd "$scratch/clone" && setpriv --reuid "$user" --regid "$user" --clear-groups \
        --inh-caps +dac_read_search --ambient-caps +dac_read_search \
        env -i HOME="$scratch/home" PATH=/usr/bin:/bin PYTHONPATH="$scratch/clone/src" \
        "$root/.venv/bin/python" "${quick[@]}")
}

home() { # no HOME, no terminal, others' rights on nothing, and no language: Python takes UTF-8 then,
    # which the tests write their own files in
    (umask 077 && env -u HOME -u LANG -u TERM LC_ALL=C \
        TZ=Pacific/Kiritimati COLUMNS=20 LINES=3 .venv/bin/python "${quick[@]}")
}

temporary() { # a folder for what is temporary with a space and a letter beyond ASCII
    mkdir "$scratch/ein Ördner" && TMPDIR="$scratch/ein Ördner" .venv/bin/python "${quick[@]}"
}

clock() { # a year on, and about to end a month, a leap day and a year
    command -v faketime >/dev/null || return 77
    local when
    for when in "+1y" "2028-02-29 23:59:30" "2027-12-31 23:59:30"; do
        echo "clock: $when"
        faketime -f "${when/#2/@2}" .venv/bin/python "${quick[@]}" || return
    done
}

processor() { # emulated, without AVX-512 and, the second, without AVX2: what asks for either
    local qemu model words
    qemu=$(cd tests/system && "$root/.venv/bin/python" -c "from pathlib import Path
from emulator import bring_emulator
print(bring_emulator(Path('$root/.saigen/qemu')))") || return 77
    # an environment whose interpreter is the emulator, for all that the tests start, too
    mkdir -p "$scratch/emulated/bin" && cp .venv/pyvenv.cfg "$scratch/emulated/"
    ln -s "$root/.venv/lib" "$scratch/emulated/"
    for model in Haswell-noTSX Nehalem; do
        echo "processor: $model"
        printf '#!/bin/sh\nexec %s -cpu %s -0 "$0" %s "$@"\n' "$qemu" "$model" \
            "$(readlink -f .venv/bin/python)" >"$scratch/emulated/bin/python"
        chmod +x "$scratch/emulated/bin/python"
        words=(tests/test_canary.py tests/test_portable.py tests/test_configs.py)
        "$scratch/emulated/bin/python" -m pytest -q -p no:cacheprovider -o timeout=6000 \
            -m "not slow" -k "canary or portable" "${words[@]}" || return
    done
}

ways=("$@")
[ $# != 0 ] || ways=(one_core busy user home temporary clock processor)
for way in "${ways[@]}"; do
    printf '\n===== %s =====\n' "$way"
    start=$SECONDS
    "$way"
    code=$?
    case $code in
        0) verdict=passed ;;
        77) verdict="NOT CHECKED: this machine has not what it takes" ;;
        *) verdict="FAILED ($code)" status=1 ;;
    esac
    printf '===== %s: %s after %d s =====\n' "$way" "$verdict" $((SECONDS - start))
done
exit $status
