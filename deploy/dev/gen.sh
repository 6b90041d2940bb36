#!/bin/sh
# Generates libs/proto/src/gen from proto/, and what is made of its comments (libs/rpc/src/generate.ts). With --check it changes nothing and fails when the committed code is stale.
set -eu
cd "$(dirname "$0")/../.."
sh deploy/dev/install.sh
PATH=$PWD/node_modules/.bin:$PATH
export BUF_CACHE_DIR="$PWD/node_modules/.cache/buf"

if [ "${1:-}" != --check ]; then
  (cd proto && buf generate --clean)
  exec node libs/rpc/src/generate.ts
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
mkdir "$fresh/proto"
(cd proto && buf generate -o "$fresh/proto")
if ! diff -r "$fresh/libs/proto/src/gen" libs/proto/src/gen >"$fresh/diff"; then
  head -n 20 "$fresh/diff" >&2
  echo 'the generated code is not what proto/ says: run `npm run gen` and commit the result' >&2
  exit 1
fi
node libs/rpc/src/generate.ts --check
