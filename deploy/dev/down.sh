#!/bin/sh
# npm run down: stops what `npm run up` started and leaves nothing outside .berth/; with --purge not even that.
set -eu
cd "$(dirname "$0")/../.."
if [ ! -x node_modules/.bin/node ]; then sh deploy/dev/install.sh; fi
export NODE_COMPILE_CACHE="$PWD/node_modules/.cache/compile"
exec node_modules/.bin/node --disable-warning=ExperimentalWarning deploy/dev/down.ts "$@"
