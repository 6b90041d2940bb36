#!/bin/sh
# What must hold before a change goes in: format, lint, types, tests (the architecture is one of the tests).
set -eu
cd "$(dirname "$0")/../.."
sh deploy/dev/install.sh
PATH=$PWD/node_modules/.bin:$PATH
oxfmt --check
oxlint --type-aware
tsc -b
exec sh deploy/dev/test.sh
