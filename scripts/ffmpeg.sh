#!/usr/bin/env bash
# Prints the path of the ffmpeg program, which the video tests hold tspctl against; installs Debian's where root may.
# Usage: scripts/ffmpeg.sh     (exit code 1 where there is none and none can be installed)
set -euo pipefail

if command -v ffmpeg; then
    exit 0
fi
if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "no ffmpeg on PATH: install it (apt-get install ffmpeg, brew install ffmpeg), or the tests that need it skip" >&2
    exit 1
fi
echo "installing ffmpeg by apt-get" >&2
{
    # A new machine has no lists of packages yet, an older one outdated ones.
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends ffmpeg
} >&2
command -v ffmpeg
