#!/bin/sh
# SPDX-License-Identifier: MIT
# No package registry's host is named: the mirror is the one that this machine uses.
cd "$(dirname "$0")/../.." || exit 1
! git grep -nIE --untracked '(deb|security|ftp|snapshot)\.debian\.[o]rg|registry\.[n]pmjs|pypi\.[o]rg'
