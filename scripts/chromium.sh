#!/usr/bin/env bash
# Prints the path of chromedriver, by which tests read pages in a real browser; installs Debian's where root may.
# Usage: scripts/chromium.sh [--no-install]     (exit code 1 where there is none and none can be installed)
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver; then
    exit 0
fi
if [[ "${1:-}" == --no-install || "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "no chromium with chromedriver on PATH: install both, or tests that need a browser are skipped" >&2
    exit 1
fi
echo "installing chromium by apt-get" >&2
{
    # A new machine has no lists of packages yet, an older one outdated ones.
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium chromium-driver
} >&2
command -v chromedriver
