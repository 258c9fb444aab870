#!/bin/sh
# apt.sh SNAPSHOT PACKAGE...: install Debian or Ubuntu packages as they were at SNAPSHOT
# (20261101T000000Z; empty: as the image's own sources have them today).
#
# snapshot.debian.org and snapshot.ubuntu.com keep every state of the archives; the packages are
# verified with the distribution's keys, which is what makes them trustworthy, not the transport.
set -eu
snapshot=$1
shift
export DEBIAN_FRONTEND=noninteractive
options="-o Acquire::Check-Valid-Until=false -o Acquire::Retries=3 -o APT::Sandbox::User=root"
if [ -n "$snapshot" ]; then
    . /etc/os-release
    sources=/run/saigen.list
    release=$VERSION_CODENAME
    case $ID in
        debian)
            at=http://snapshot.debian.org/archive
            by="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
            printf 'deb %s %s %s main\n' "$by" "$at/debian/$snapshot" "$release" \
                "$by" "$at/debian/$snapshot" "$release-updates" \
                "$by" "$at/debian-security/$snapshot" "$release-security" >$sources
            ;;
        ubuntu)
            at=http://snapshot.ubuntu.com/ubuntu/$snapshot
            by="[signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg]"
            printf 'deb %s %s %s main universe\n' "$by" "$at" "$release" \
                "$by" "$at" "$release-updates" "$by" "$at" "$release-security" >$sources
            ;;
        *)
            echo "refused: no snapshots are known for $ID; build with --build-arg APT_SNAPSHOT=" >&2
            exit 2
            ;;
    esac
    # the image's own lists (NVIDIA's among them) are of today and take no part
    options="$options -o Dir::Etc::SourceList=$sources -o Dir::Etc::SourceParts=/dev/null"
fi
apt-get $options update -qq
apt-get $options install -qq -y --no-install-recommends "$@"
rm -f /run/saigen.list
