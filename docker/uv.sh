# Sourced by install.sh and lock.sh: the Python 3.11 and the pinned uv that they work with.
# Sets PYTHON (path), UV (path), and pip's settings for uv (array UV_FLAGS, UV_EXTRA_INDEXES, and
# variables: no address is ever a flag, which `ps` would show with its password).

BROUGHT_PYTHON=3.11.13 # where there is no Python 3.11, uv brings this one; it is the image's too
PYTORCH_CPU=https://download.pytorch.org/whl/cpu
FAMILY='torch|torchaudio|torchvision' # built for one another: one set of builds, or no import
PRIVATE=.saigen        # private to this clone, ignored by git

# What somebody else said, for a terminal: a sign that is none of ASCII's letters may be a command.
visible() { LC_ALL=C tr -c '[:print:]\n\t' '?'; }

refuse() { # what where expected got fix
    printf 'refused: %s\n  where:    %s\n  expected: %s\n  got:      %s\n  fix:      %s\n' "$@" |
        visible >&2
    exit 2
}

# Prints the real path of an interpreter that is CPython and begins with the wanted version, or
# why it is not.
_judge='
import os, platform, sys
name = "%s %s" % (platform.python_implementation(), platform.python_version())
if not (name + ".").startswith("CPython %s." % sys.argv[1]):
    sys.exit(name)
print(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))'

find_python() {
    local wanted=${SAIGEN_PYTHON_VERSION:-3.11} candidate found reason tried=""
    [ "$(uname -sm)" = "Linux x86_64" ] || refuse "the locks do not fit this machine" "uname -sm" \
        "Linux x86_64" "$(uname -sm)" "work in the container: make in-container T=train"
    for candidate in ${SAIGEN_PYTHON:-python3.11 python3 python /usr/local/bin/python3.11 \
        /usr/bin/python3.11 "${HOME:-/nonexistent}"/.pyenv/versions/3.11.*/bin/python}; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        # -I: neither PYTHONPATH nor a sitecustomize of the caller takes part
        if found=$("$candidate" -I -c "$_judge" "$wanted" 2>"$PRIVATE/reason"); then
            PYTHON=$found
            return
        fi
        reason=$(tail -n 1 "$PRIVATE/reason")
        tried="$tried${tried:+; }$candidate is ${reason:-not runnable}"
    done
    [ -n "${SAIGEN_PYTHON:-}" ] || { _bring_python && return; }
    refuse "no Python $wanted was found" "${SAIGEN_PYTHON:-PATH=$PATH}" \
        "CPython $wanted (python3.11, python3, python), or uv to bring one" \
        "${tried:-no Python at all}" \
        "install python3.11 (Debian 12: apt-get install python3.11) or uv (https://docs.astral.sh/uv), or set SAIGEN_PYTHON to an interpreter"
}

# With uv on PATH, or for an exact version (the image), with the pinned uv, which holds the
# SHA-256 of every build of python-build-standalone that it can fetch.
_bring_python() {
    local uv=uv version
    for version in ${SAIGEN_PYTHON_VERSION:-$BROUGHT_PYTHON 3.11}; do
        if ! command -v uv >/dev/null 2>&1; then
            [ -n "${SAIGEN_PYTHON_VERSION:-}" ] && PYTHON=$(command -v python3) || return 1
            find_uv
            uv=$UV
        fi
        # --no-project: a settings file of a parent folder must not choose another one
        PYTHON=$("$uv" python find --no-project "$version" 2>/dev/null) && return
        UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1} "$uv" python install "$version" || continue
        PYTHON=$("$uv" python find --no-project "$version") && return
    done
    return 1
}

find_uv() { # needs PYTHON, any version from 3.9 on
    local version settings
    version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' docker/lock-uv.txt)
    UV=$PWD/$PRIVATE/uv-$version/uv
    if [ ! -x "$UV" ]; then
        case "$(uv --version 2>/dev/null)" in
            "uv $version" | "uv $version "*) UV=$(command -v uv) ;;
            *) "$PYTHON" -EsB docker/fetch_uv.py docker/lock-uv.txt "$UV" || exit 2 ;;
        esac
    fi
    settings=$("$PYTHON" -EsB docker/pip_settings.py) || exit 2
    eval "$settings"
    export UV_NO_PROGRESS=1
    [ -n "${HOME:-}" ] || export UV_CACHE_DIR="${UV_CACHE_DIR:-$PWD/$PRIVATE/uv-cache}"
}

# PyTorch publishes its CPU wheels on its own index only. That index is asked only when the
# configured places do not hold the wheel: an unreachable index neither breaks nor slows this.
find_torch_cpu() { # NAME==VERSION+cpu ...; needs UV, may add to UV_FIND_LINKS
    local wheel
    for wheel in "$@"; do
        with_extra_indexes "$UV" pip install --quiet --dry-run --no-deps --target "$PRIVATE/none" \
            --python "$PYTHON" --python-platform x86_64-manylinux_2_28 "${UV_FLAGS[@]}" "$wheel" 2>/dev/null ||
            export UV_FIND_LINKS="${UV_FIND_LINKS:+$UV_FIND_LINKS,}$PYTORCH_CPU/${wheel%%==*}/"
    done
}

of_the_family() { sed -nE "s/^(($FAMILY)==[^ ]*).*/\1/p" "$1"; } # of a lock: NAME==VERSION ...

with_extra_indexes() { # uv ...
    if [ -n "$UV_EXTRA_INDEXES" ]; then UV_INDEX=$UV_EXTRA_INDEXES "$@"; else "$@"; fi
}
