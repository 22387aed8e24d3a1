#!/bin/sh
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/../.." || exit 1
git ls-files -co --exclude-standard -- '*.sh' .ci/run | xargs shellcheck
