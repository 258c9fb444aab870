#!/usr/bin/env bash
# The image: `image.sh build`, `image.sh run COMMAND...` (make image, make shell, make in-container),
# and `image.sh export ARCHIVE`, an OCI archive whose digest is the same for the same commit.
#
# SAIGEN_BUILD_FLAGS and SAIGEN_RUN_FLAGS go to docker as they are (--network=host, --build-arg ...);
# DOCKER names the client; SAIGEN_COMPRESSION (gzip, zstd, uncompressed) is for the archive. SBOM=1
# writes .saigen/sbom-VARIANT.cdx.json and .saigen/provenance-VARIANT.json after a build. A container
# has no network, at most SAIGEN_PIDS processes and SAIGEN_MEMORY, and may not write .git;
# SAIGEN_NETWORK=host (or bridge) and SAIGEN_GIT=rw (for `dvc exp run`) give what a command needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
docker=${DOCKER:-docker}
variant=${VARIANT:-cpu}
image=saigen:$variant
. docker/uv.sh

# Neither the caller's variables nor a setting of the repository decides what git answers.
for name in "${!GIT_@}"; do
    case $name in GIT_CONFIG_GLOBAL | GIT_CONFIG_SYSTEM | GIT_CONFIG_NOSYSTEM) ;; *) unset "$name" ;; esac
done
git() {
    command git --no-pager -c color.ui=false -c core.fsmonitor=false -c core.quotePath=false \
        -c core.hooksPath=/dev/null -c log.showSignature=false "$@"
}

"$docker" info >/dev/null 2>&1 || refuse "no Docker engine answers" "$docker info" \
    "a running engine this user may speak to" "$("$docker" info 2>&1 | tail -n 1)" \
    "start Docker, or work on the host: make train"

build() {
    local inputs=.saigen/build-$variant commit python found user=()
    "$docker" buildx version >/dev/null 2>&1 || refuse "BuildKit's client is missing" \
        "$docker buildx version" "docker-buildx" "none" "install docker-buildx (docker-buildx-plugin)"
    python=$(command -v python3) || refuse "no Python 3" PATH "python3" "none" "install python3"
    "$python" -EsB docker/build_inputs.py "docker/lock-$variant.txt" "$inputs"
    commit=$(git rev-parse HEAD)
    [ "$(id -u)" = 0 ] || user=(--build-arg "UID=$(id -u)" --build-arg "GID=$(id -g)")
    git diff --quiet --no-ext-diff --no-textconv HEAD -- || commit=$commit-changed
    found=$(git ls-files -z | "$python" -EsB src/saigen/secret_scan.py) ||
        refuse "a tracked file holds what looks like a secret, and would be in the image" \
            "${found%%$'\n'*}" "no key, password or token in what git tracks" "$found" \
            "take it out, and out of git's history; a line that says \`not a secret\` is left alone"
    # Tracked files alone, with normalised modes: the same commit is the same context, whatever
    # else lies in the folder and whatever the umask of the clone was.
    git ls-files -z | while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
        tar --null --no-recursion --files-from - --sort=name --owner=0 --group=0 --numeric-owner \
            --mode='u=rwX,go=rX' --mtime="@$(git log -1 --format=%ct)" -cf - |
        SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$docker" buildx build --progress=plain \
            --build-arg "VARIANT=$variant" "${user[@]}" \
            --build-arg "COMMIT=$commit" \
            --build-arg "LOCK_SHA256=$(sha256sum <"docker/lock-$variant.txt" | cut -d' ' -f1)" \
            --build-context "wheels=$inputs/wheels" \
            --secret "id=pip_conf,src=$inputs/pip.conf" \
            --secret "id=certificates,src=$inputs/certificates.crt" \
            --provenance=false ${SAIGEN_BUILD_FLAGS:-} "$@" -
    # --provenance=false: an attestation holds the time of the build
}

# Uncompressed, because compressing 1 GB for the engine next door costs a minute. OCI types, so
# that the digest is the one of the exported archive.
load() {
    build --output "type=image,name=$image,compression=uncompressed,oci-mediatypes=true" "$@"
    [ -z "${SBOM:-}" ] || list
}

list() { # what is in the image, and what it was made from
    local id
    id=$("$docker" image inspect -f '{{.Id}}' "$image")
    "$docker" run --rm --network none --read-only --cap-drop ALL --entrypoint dpkg-query "$image" \
        -W -f '${Package} ${Version} ${Architecture}\n' |
        python3 -EsB docker/sbom.py "$variant" "$id" "$(git rev-parse HEAD)" .saigen
}

run() {
    local flags=(--rm --user "$(id -u):$(id -g)" --cap-drop ALL --security-opt no-new-privileges
        --read-only --tmpfs /tmp:rw,exec,mode=1777 --tmpfs /var/tmp:rw,mode=1777 --shm-size 1g
        --pids-limit "${SAIGEN_PIDS:-4096}"
        --memory "${SAIGEN_MEMORY:-$(awk '/^MemTotal/ { printf "%dk", $2 * 0.9 }' /proc/meminfo)}"
        --volume "$PWD:/workspace" --env HOME=/workspace/.saigen/home)
    local common access=${SAIGEN_GIT:-ro}
    case " ${SAIGEN_RUN_FLAGS:-}" in *" --net"*) ;; *) flags+=(--network "${SAIGEN_NETWORK:-none}") ;; esac
    mkdir -p .saigen/home
    "$docker" image inspect "$image" >/dev/null 2>&1 || load
    # the record names the image it ran in; an image cannot know its own digest
    flags+=(--env "SAIGEN_IMAGE_ID=$("$docker" image inspect -f '{{.Id}}' "$image")"
        --env "SAIGEN_IMAGE_DIGEST=$("$docker" image inspect -f '{{join .RepoDigests " "}}' "$image")")
    # a worktree keeps its history elsewhere
    common=$(git rev-parse --path-format=absolute --git-common-dir)
    [ ! -e .git ] || flags+=(--volume "$PWD/.git:/workspace/.git:$access")
    [[ $common == "$PWD"/* ]] || flags+=(--volume "$common:$common:$access")
    [ ! -t 0 ] || flags+=(--interactive --tty)
    if [ "$variant" = cuda ] && nvidia-smi -L >/dev/null 2>&1; then
        flags+=(--gpus all)
    fi
    exec "$docker" run "${flags[@]}" ${SAIGEN_RUN_FLAGS:-} "$image" "$@"
}

case ${1:-} in
    build) shift && load "$@" ;;
    export) shift && build --output "type=oci,dest=$1,compression=${SAIGEN_COMPRESSION:-gzip}" "${@:2}" ;;
    run) shift && run "$@" ;;
    *) echo "usage: docker/image.sh build [FLAG...] | export ARCHIVE [FLAG...] | run COMMAND..." >&2 && exit 2 ;;
esac
