#!/bin/sh
# npm run soak -- NAME [ARGUMENTS]: the crash and chaos tests at their full counts, one file of test/soak/ each.
set -eu
cd "$(dirname "$0")/../.."
name=${1:-}
file=test/soak/$name.ts
case $name in '' | -* | */*) file= ;; esac
if [ ! -f "$file" ]; then
  [ -z "$name" ] || echo "there is no soak named \"$name\"" >&2
  echo "npm run soak -- NAME, with one of these names:" >&2
  for path in test/soak/*.ts; do
    case $path in *'*'* | *.test.ts) ;; *) echo "  $(basename "$path" .ts)" >&2 ;; esac
  done
  exit 2
fi
sh deploy/dev/install.sh
shift
export NODE_COMPILE_CACHE="$PWD/node_modules/.cache/compile"
exec node_modules/.bin/node --disable-warning=ExperimentalWarning "$file" "$@"
