#!/usr/bin/env bash
# check-base.sh [IMAGE:TAG@sha256:...]...: ask the registry whether the tag still has the digest
# that the Dockerfile pins. Without arguments: the Dockerfile's own bases.
#
# 0: all as pinned; 1: a tag has another digest now (the pin still builds what it built, but it
# no longer gets the tag's updates); 2: a registry did not answer.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
accept='application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json'
[ $# -gt 0 ] || set -- $(sed -n 's/^ARG [A-Z]*_BASE=//p' Dockerfile)

digest_of() { # host repository tag -> what the registry calls that tag today
    local host=$1 repository=$2 tag=$3 scheme=https token="" answer
    [[ $host == 127.0.0.1:* || $host == localhost:* ]] && scheme=http
    if [ "$host" = registry-1.docker.io ]; then
        token=$(curl -fsS "https://auth.docker.io/token?service=registry.docker.io&scope=repository:$repository:pull" |
            sed -n 's/.*"token": *"\([^"]*\)".*/\1/p') || return 1
    fi
    answer=$(curl -fsSI ${token:+-H "Authorization: Bearer $token"} -H "Accept: $accept" \
        "$scheme://$host/v2/$repository/manifests/$tag") || return 1
    tr -d '\r' <<<"$answer" | LC_ALL=C tr -c '[:print:]\n' '?' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p'
}

status=0
for image in "$@"; do
    image=$(printf %s "$image" | LC_ALL=C tr -c '[:print:]' '?')
    pinned=${image#*@} name=${image%@*}
    host=registry-1.docker.io
    if [[ $name == */* && ${name%%/*} == *[.:]* ]]; then
        host=${name%%/*} name=${name#*/}
    fi
    [[ $host != registry-1.docker.io || $name == */* ]] || name=library/$name
    if ! found=$(digest_of "$host" "${name%:*}" "${name##*:}"); then
        echo "no answer  $image ($host)"
        status=2
    elif [ "$found" = "$pinned" ]; then
        echo "as pinned  $image"
    else
        echo "moved      $image: the tag is $found now"
        [ $status = 2 ] || status=1
    fi
done
exit $status
