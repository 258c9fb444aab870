#!/usr/bin/env bash
# Turn pyproject.toml's one list into the two locks: `make lock`. Pins stay as they are where
# they still fit; `make lock UPGRADE=1` takes the newest of everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. docker/uv.sh
mkdir -p "$PRIVATE"
find_python
find_uv
torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

compile() { # variant, further flags
    local variant=$1 draft=$PRIVATE/lock-$1.txt
    shift
    rm -f "$draft"
    [ ! -f "docker/lock-$variant.txt" ] || cp "docker/lock-$variant.txt" "$draft"
    # Where this machine finds its packages stays out of the lock: no index, no link, no path.
    "$UV" pip compile pyproject.toml --group dev --quiet --output-file "$draft" \
        --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        ${UPGRADE:+--upgrade} "${UV_FLAGS[@]}" "$@" >/dev/null
    sed -i '/^ *#   -c /d' "$draft"
    "$PYTHON" -EsB docker/lock_header.py write "$variant" "$draft" "docker/lock-$variant.txt"
}

# A requirement of 2.13.0 is met by 2.13.0+cpu as well: each variant says which one it means. What
# is built for torch (torchvision, ...) follows: of the version that goes with it, of the same kind.
echo "${torch/==/!=}+cpu" >"$PRIVATE/torch-cuda.txt"
compile cuda --constraints "$PRIVATE/torch-cuda.txt"
if strangers=$(of_the_family docker/lock-cuda.txt | grep -F +cpu); then
    echo "${strangers//==/!=}" >>"$PRIVATE/torch-cuda.txt"
    compile cuda --constraints "$PRIVATE/torch-cuda.txt"
fi
of_the_family docker/lock-cuda.txt | sed 's/$/+cpu/' >"$PRIVATE/torch-cpu.txt"
mapfile -t wheels <"$PRIVATE/torch-cpu.txt"
find_torch_cpu "${wheels[@]}"
compile cpu --constraints "$PRIVATE/torch-cpu.txt"
