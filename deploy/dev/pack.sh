#!/bin/sh
# npm run pack: see deploy/pack/pack.ts.
set -eu
cd "$(dirname "$0")/../.."
sh deploy/dev/install.sh
exec node_modules/.bin/node --disable-warning=ExperimentalWarning deploy/pack/pack.ts "$@"
