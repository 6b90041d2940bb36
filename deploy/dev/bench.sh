#!/bin/sh
# npm run bench -- NAME [ARGUMENTS]: measurements, each side by side with its peer, one file of test/bench/ each.
set -eu
cd "$(dirname "$0")/../.."
name=${1:-}
file=test/bench/$name.ts
case $name in '' | -* | */*) file= ;; esac
if [ ! -f "$file" ]; then
  [ -z "$name" ] || echo "there is no bench named \"$name\"" >&2
  echo "npm run bench -- NAME, with one of these names:" >&2
  for path in test/bench/*.ts; do
    case $path in *'*'* | *.test.ts) ;; *) echo "  $(basename "$path" .ts)" >&2 ;; esac
  done
  exit 2
fi
sh deploy/dev/install.sh
shift
export NODE_COMPILE_CACHE="$PWD/node_modules/.cache/compile"
exec node_modules/.bin/node --disable-warning=ExperimentalWarning "$file" "$@"
