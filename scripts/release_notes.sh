#!/usr/bin/env bash
# Prints the newest release's section of CHANGELOG.md.
set -euo pipefail
cd "$(dirname "$0")/.."
awk '/^## [0-9]/ { if (found) exit; found = 1; next } found' CHANGELOG.md
