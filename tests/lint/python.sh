#!/bin/sh
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/../.." || exit 1
git ls-files -co --exclude-standard -- '*.py' scripts/plumb | xargs /usr/bin/python3 -m pyflakes
