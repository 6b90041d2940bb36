#!/bin/sh
# npm run up: a fleet of two nodes on this machine, from nothing. See deploy/README.md.
set -eu
cd "$(dirname "$0")/../.."
sh deploy/dev/install.sh
export NODE_COMPILE_CACHE="$PWD/node_modules/.cache/compile"
exec node_modules/.bin/node --disable-warning=ExperimentalWarning deploy/dev/up.ts "$@"
