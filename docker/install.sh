#!/usr/bin/env bash
# Make .venv exactly what docker/lock-$VARIANT.txt says: `make .venv`, and before every target.
#
# Needs git, make, and Python 3.11 or uv. Costs nothing when nothing changed: the stamp holds
# the digest of everything the environment was made from, and is written last, so that an
# interrupted installation is never taken for a complete one. The image is made by it, too
# (SAIGEN_VENV: where; SAIGEN_PYTHON_VERSION: exactly which Python).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "${SAIGEN_ENVIRONMENT:-host}" = container ] && exit 0 # the image is the environment

variant=${VARIANT:-cpu}
lock=docker/lock-$variant.txt
venv=${SAIGEN_VENV:-$PWD/.venv}
stamp=$venv/.complete

made_of() { { echo "$PWD $variant"; cat "$lock" docker/lock-uv.txt docker/install.sh; } | sha256sum; }
complete() { [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(made_of)" ]; }
[ -f "$lock" ] && complete && exit 0

. docker/uv.sh
[ -f "$lock" ] || refuse "no such variant" VARIANT "cpu or cuda" "$variant" "make VARIANT=cpu"
mkdir -p "$PRIVATE"
exec 9>"$PRIVATE/install.lock"
flock 9 # two targets at once: the second waits, then finds it done
complete && exit 0
start=$SECONDS
find_python
find_uv
echo "Making $venv from $lock with $PYTHON" | visible >&2
wanted=$PRIVATE/$variant.txt # `==2.13.0` is met by 2.13.0+cpu as well, `===2.13.0` is not
sed -E "s/^($FAMILY)==/\1===/" "$lock" >"$wanted"
[ "$variant" != cpu ] || find_torch_cpu $(of_the_family "$lock")

rm -f "$stamp"
# Begin anew for another Python, for another variant (torch 2.13.0+cpu satisfies the cuda lock's
# 2.13.0), and after an interruption, which may have left half a package.
if [ "$(cat "$venv/.base" 2>/dev/null)" != "$variant $PYTHON" ] || [ ! -x "$venv/bin/python" ]; then
    "$UV" venv --quiet --clear --python "$PYTHON" "$venv"
fi
rm -f "$venv/.base"
# Copies, never hard links: a file edited in place must not change uv's cache under every other
# environment. The one source distribution (antlr4) is built with the lock's own setuptools.
with_extra_indexes "$UV" pip sync --quiet --python "$venv/bin/python" --link-mode copy \
    --require-hashes --require-build-hashes --build-constraints "$lock" \
    "${UV_FLAGS[@]}" "$wanted" ||
    refuse "the locked packages could not be installed" "$lock" "every file of the lock, by SHA-256" \
        "see above" "check the network or pip's settings (\`pip config list\`), then make .venv again"
echo "$variant $PYTHON" >"$venv/.base"
# The project itself is used where it stands; its console command needs no build.
# Its folder is named from there: Python reads a path file in the locale's encoding, so that a letter
# beyond ASCII ends every start under LC_ALL=C. And a first line with a blank names no interpreter.
site=$("$venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$venv/bin/python" -I -c 'import os, sys; print(os.path.relpath(*sys.argv[1:]))' "$PWD/src" "$site" >"$site/saigen.pth"
cat >"$venv/bin/saigen" <<'EOF'
#!/bin/sh
'''exec' "$(dirname -- "$(readlink -f -- "$0")")/python" "$0" "$@"
' '''
import sys
from saigen.cli import main
sys.exit(main())
EOF
chmod +x "$venv/bin/saigen"
# Byte code of what every start imports: 4 s instead of 11 s for everything, and the later starts
# are quick also for who forbids Python to write byte code.
[ -n "${SAIGEN_VENV:-}" ] ||
    env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -I -c 'import dvc.cli, dvc.repo, hydra, pydantic, torch'
rm -f "$venv/.sealed"
made_of >"$stamp.partial" && mv "$stamp.partial" "$stamp"
# The first look at every file, so that the first start does not pay for it (saigen.environment.installed_files).
[ -n "${SAIGEN_VENV:-}" ] || "$venv/bin/python" -m saigen.environment.lock
echo "Made $venv in $((SECONDS - start)) s" | visible >&2
