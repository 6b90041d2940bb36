#!/bin/sh
# Installs this release beside others and makes it the current one: sh install.sh [FOLDER], /opt/berth by default.
#
#   FOLDER/versions/VERSION/   this release, as it was unpacked
#   FOLDER/current             a symbolic link to the one that is used
#   FOLDER/bin/                what units and people call: links through current, and berthd-start
#
# It starts and stops nothing, and takes no Debian package: docs/operations/install.md says what a host needs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-/opt/berth}
version=$(sed -n 's/^version=//p' "$here/VERSION")
target=$folder/versions/$version
mkdir -p "$folder/versions" "$folder/bin"
if [ ! -e "$target" ]; then
  # Whole or not at all: a copy that was cut short has another name.
  rm -rf "$target.partial"
  cp -a "$here" "$target.partial"
  rm -rf "$target.partial/cache"
  sync -f "$target.partial"
  mv -T "$target.partial" "$target"
fi
ln -sfn "versions/$version" "$folder/current.new"
mv -T "$folder/current.new" "$folder/current"
for name in berth berthd berth-controller; do
  ln -sfn "../current/bin/$name" "$folder/bin/$name.new"
  mv -T "$folder/bin/$name.new" "$folder/bin/$name"
done
# A file of its own: it goes back from a version that fails, so no version may bring it along.
cp "$target/bin/berthd-start" "$folder/bin/berthd-start.new"
mv -T "$folder/bin/berthd-start.new" "$folder/bin/berthd-start"
echo "$version is current in $folder"
