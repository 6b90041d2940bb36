#!/bin/sh
# Every test there is, in one run, ending in node's own summary. Arguments restrict it: npm test -- libs/journal
set -eu
cd "$(dirname "$0")/../.."
sh deploy/dev/install.sh
sh deploy/dev/gen.sh --check
PATH=$PWD/node_modules/.bin:$PATH
export NODE_COMPILE_CACHE="$PWD/node_modules/.cache/compile"

if [ $# -eq 0 ]; then set -- libs apps test deploy; fi
# node --test takes patterns, but is content with one that matches nothing.
files=$(for path in "$@"; do find "$path" -name node_modules -prune -o -name '*.test.ts' -type f -print || exit 1; done | sort)
if [ -z "$files" ]; then
  echo "no test matches: $*" >&2
  exit 1
fi
# shellcheck disable=SC2086 # paths of this repository hold no blanks
exec node --test --test-concurrency=2 --test-timeout=300000 $files </dev/null
