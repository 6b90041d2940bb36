#!/bin/sh
# Installs what Berth needs and this machine lacks: Debian packages, then npm packages with a Node 24 of the
# repository's own. Says what and why. Takes a fraction of a second when nothing is missing.
#
# It starts no daemon, enables no service and makes no database cluster: Berth runs private ones under .berth/.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

say() { printf '%s\n' "$*"; }
fail() {
  printf 'install: %s\n' "$*" >&2
  exit 1
}

packages='
postgresql-15|the database that holds the fleet'"'"'s desired state
redis-server|carries jobs to the nodes (BullMQ)
nats-server|carries events and requests of the nodes
docker-registry|the local image registry
runc|runs containers
crun|runs containers, the smaller way
conmon|supervises a container, so that it outlives the agent
containernetworking-plugins|networks of containers (CNI)
iproute2|network namespaces and bridges of the test hosts
iptables|address translation and port mappings of containers
busybox-static|the content of the demo image
golang-github-containers-common|the default seccomp profile
isal|libisal, which unpacks layers fastest, and igzip
pigz|makes large gzip layers for benches; unpigz, where igzip is not wanted
zstd|zstd layers
openssl|an encrypted layer, in tests of stream processors
bzip2|a layer that is refused, in tests
xz-utils|a layer that is refused, in tests
containerd|the peer in benches
skopeo|a second opinion on images, in tests
umoci|a second opinion on unpacking, in tests
btrfs-progs|mkfs.btrfs and quotas, for tests of the btrfs snapshotter
xfsprogs|mkfs.xfs: layers that share blocks, in tests
zfs-fuse|zfs and zpool: the zfs snapshotter, without a kernel module
golang-github-containerd-containerd-dev|containerd'"'"'s own API definitions, to compare ours with
procps|process tools
systemd|systemd-analyze and its like, to look over the units, in tests; nothing of it is started
util-linux|nsenter, setpriv, unshare, mount
'

missing_packages() {
  command -v dpkg-query >/dev/null 2>&1 ||
    fail "this is no Debian system (no dpkg-query). Berth's dev set-up is made for Debian 12; see deploy/README.md"
  names=$(printf '%s' "$packages" | sed -n 's/|.*//p')
  # shellcheck disable=SC2086 # one word per package
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $names 2>/dev/null | sed -n 's/^installed //p' || true)
  for name in $names; do
    case "
$installed
" in
    *"
$name
"*) ;;
    *) printf '%s ' "$name" ;;
    esac
  done
}

# While packages are installed, invoke-rc.d asks this script whether a daemon may start: no. One that stood there
# before comes back afterwards.
policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.conf
put_back() {
  if [ -e "$policy.before-berth" ]; then mv -f "$policy.before-berth" "$policy"
  elif grep -qs 'berth install' "$policy"; then rm -f "$policy"; fi
  if [ -e "$cluster_conf.before-berth" ]; then mv -f "$cluster_conf.before-berth" "$cluster_conf"; fi
}

hold_daemons() {
  put_back # of a run that was cut short
  if [ -e "$policy" ]; then mv "$policy" "$policy.before-berth"; fi
  printf '#!/bin/sh\n# berth install: no daemon starts while packages are installed\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

apt_install() {
  status=$(mktemp)
  log=$(mktemp)
  {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 "$@" </dev/null 2>&1 || echo failed >"$status"
  } | tee "$log" | sed -n 's/^Setting up \([^ ]*\) (\([^)]*\)).*/    \1 \2/p'
  if [ -s "$status" ]; then
    tail -n 30 "$log" >&2
    rm -f "$status" "$log"
    fail "apt-get install failed (its last lines are above)"
  fi
  rm -f "$status" "$log"
}

install_debian() {
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing and need root to install: $missing"
  say "Debian packages that are missing, and what for:"
  for name in $missing; do
    printf '%s' "$packages" | sed -n "s/^$name|/  $(printf '%-32s' "$name")/p"
  done
  say "  reading the package lists (apt-get update)"
  apt-get update -qq -o DPkg::Lock::Timeout=600 </dev/null >/dev/null || fail "apt-get update failed (see above)"
  trap put_back EXIT
  trap 'exit 130' INT TERM
  hold_daemons
  case " $missing " in
  *" postgresql-15 "*)
    # Its installation would make a cluster of its own, unless postgresql-common says otherwise.
    if ! dpkg-query -W -f '${db:Status-Status}' postgresql-common 2>/dev/null | grep -q '^installed$'; then
      say "  installing postgresql-common first, so that no database cluster is made"
      apt_install postgresql-common
    fi
    if [ -e "$cluster_conf" ]; then
      cp -p "$cluster_conf" "$cluster_conf.before-berth"
      printf '\ncreate_main_cluster = off\n' >>"$cluster_conf"
    fi
    ;;
  esac
  say "  installing"
  # shellcheck disable=SC2086 # one word per package
  apt_install $missing
  put_back
  trap - EXIT INT TERM
  disable_services $missing
  still=$(missing_packages)
  [ -z "$still" ] || fail "still missing after the installation: $still"
}

# Their services would otherwise start with the next boot. Only those of packages that came just now.
disable_services() {
  for name in "$@"; do
    case $name in
    postgresql-15) disable_service postgresql.service ;;
    redis-server | nats-server | docker-registry | containerd | zfs-fuse) disable_service "$name.service" ;;
    esac
  done
}

disable_service() {
  if command -v systemctl >/dev/null 2>&1; then systemctl disable -q "$1" 2>/dev/null || true
  else DPKG_MAINTSCRIPT_PACKAGE=${1%.service} deb-systemd-helper disable "$1" >/dev/null 2>&1 || true; fi
}

install_npm() {
  stamp=node_modules/.cache/berth/installed
  want=$(sha256sum package-lock.json | cut -c1-64)-$(uname -m)
  if [ -x node_modules/.bin/node ] && [ "$(cat $stamp 2>/dev/null)" = "$want" ]; then return 0; fi
  # npm must not run by the Node that it is about to replace.
  PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v 'node_modules/.bin$' | paste -sd: -)
  command -v npm >/dev/null 2>&1 || fail "npm is missing: install Node.js 20 or newer, which brings it"
  major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
  [ "${major:-0}" -ge 20 ] || fail "Node.js 20 or newer is needed to begin with; found: $(node --version 2>/dev/null || echo none)"
  say "npm packages as package-lock.json names them, with a Node 24 for this repository alone (about 530 MB; npm ci)"
  npm ci </dev/null || fail "npm ci failed (see above)"
  case $(node_modules/.bin/node --version 2>/dev/null) in
  v24.*) ;;
  *) fail "no Node 24 came with the npm packages; this machine is $(uname -s) $(uname -m), Berth needs Linux on x86_64 or aarch64" ;;
  esac
  mkdir -p "$(dirname $stamp)"
  printf '%s' "$want" >$stamp
}

[ "$(uname -s)" = Linux ] || fail "Berth runs on Linux; this is $(uname -s)"
install_debian
install_npm
