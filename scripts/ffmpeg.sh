#!/usr/bin/env bash
# Prints the path of the ffmpeg program, which the video tests hold tspctl against; installs Debian's where root may.
# Usage: scripts/ffmpeg.sh     (exit code 1 where there is none and none can be installed)
set -euo pipefail

if command -v ffmpeg; then
    exit 0
fi
if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "no ffmpeg on PATH: install it (apt-get install ffmpeg, brew install ffmpeg), or tests that need it are skipped" >&2
    exit 1
fi
echo "installing ffmpeg by apt-get" >&2
# A new machine has no lists of packages yet, an older one outdated ones. One source that fails, often a third party's,
# must not keep ffmpeg from being installed from another.
apt-get update -q >&2 || echo "apt-get update failed: trying with the existing package lists" >&2
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends ffmpeg >&2 || exit 1
command -v ffmpeg
