#!/usr/bin/env bash
# Install what bench/peers.py compares with into a private folder and print its path. It lies
# behind the project's own packages, so that torch and numpy are those of the project's lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. docker/uv.sh
mkdir -p "$PRIVATE"
folder=$PWD/$PRIVATE/peers-$(sha256sum <bench/requirements.txt | head -c 12)
if [ ! -f "$folder/.complete" ]; then
    rm -rf "$folder"
    find_python
    find_uv
    with_extra_indexes "$UV" pip install --quiet --python "$PYTHON" --target "$folder" --no-deps --require-hashes \
        "${UV_FLAGS[@]}" -r bench/requirements.txt ||
        refuse "the frameworks could not be installed" bench/requirements.txt \
            "every file of it, by SHA-256" "see above" "check the network or pip's settings"
    touch "$folder/.complete" # last: an interrupted installation is never taken for a whole one
fi
echo "$folder"
