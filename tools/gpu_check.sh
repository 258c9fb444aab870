#!/usr/bin/env bash
# Check and measure on this machine's GPU what is promised of one: tools/gpu_check.sh [FOLDER]
#
# Runs the tests marked gpu, `saigen verify hardware=cuda`, bench/gpu.py and bench/peers.py, in some
# ten minutes, and prints a short table; the logs stay in FOLDER (.saigen/gpu-check). Works in the
# locked environment, made first (make .venv VARIANT=cuda); with PYTHON=/path/to/python in that of
# another interpreter, which conf/local/default.yaml must allow (docs/gpu.md).
# Exit codes: 0 all held, 1 something broke, 3 there is no GPU to measure on.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
    VARIANT=cuda docker/install.sh || exit
    PYTHON=$PWD/.venv/bin/python
fi
folder=${1:-.saigen/gpu-check}
mkdir -p "$folder"
export PATH="$(dirname "$PYTHON"):$PATH" PYTHONPATH=src PYTHONUNBUFFERED=1
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 # another environment may have plugins that warn

machine=$("$PYTHON" -c '
import platform, torch
name, cudnn = torch.cuda.get_device_name(0), torch.backends.cudnn.version()
print(f"{name}, torch {torch.__version__}, cuDNN {cudnn}, Python {platform.python_version()}")
' 2>"$folder/device.log") || {
    echo "NOT MEASURED: torch finds no GPU here ($folder/device.log)"
    exit 3
}
broken=0
part() { # name command...
    local name=$1
    shift
    printf '%s: %s\n' "$name" "$*" >&2
    "$@" >"$folder/$name.log" 2>&1 || { echo "$name: exit code $?, see $folder/$name.log" >&2 && broken=1; }
}
cores=$(nproc)
part tests "$PYTHON" -m pytest -q -m gpu -n $((cores < 12 ? (cores + 1) / 2 : 6)) \
    -p xdist.plugin -p pytest_timeout -p no:cacheprovider tests/test_cuda.py
part verify "$PYTHON" -m saigen verify hardware=cuda
part large "$PYTHON" bench/gpu.py --rounds 7
part small "$PYTHON" bench/peers.py --device cuda --rounds 7 --steps 150

echo "$machine, driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)"
printf '\n%s\n' "what must hold"
grep -E '^(FAILED|ERROR)|[0-9]+ (passed|failed)' "$folder/tests.log" | sed 's/^/  tests   /'
grep -E '^(BROKEN|not tried)|claims? held|BROKEN' "$folder/verify.log" | sort -u | sed 's/^/  verify  /'
printf '\n%s\n' "what it costs"
grep -vE '^again|^$|load' "$folder/large.log" "$folder/small.log" -h | sed 's/^/  /'
exit $broken
