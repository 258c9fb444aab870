#!/bin/sh
# settle.sh FOLDER [BEGUN]: give what this build wrote one fixed time, so that two builds agree: all
# of FOLDER, or what is newer there than the file BEGUN.
#
# Packages bring the times of their making, which stay. The commit's files do not keep theirs: it may
# lie before or after BEGUN, as clocks differ. (BuildKit's own `rewrite-timestamp` does the same
# for archives, but not for an image that stays in the engine.)
set -eu
# the build's own mounts (/etc/resolv.conf, /run/docker) refuse and are in no layer
find "$1" -xdev ${2:+-newer "$2"} -exec touch --no-dereference --date=@0 {} + 2>/dev/null || true
