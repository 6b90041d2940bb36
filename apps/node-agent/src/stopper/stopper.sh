#!/bin/sh
# The node's stopper (DESIGN, flow C): ends the containers it is told of when the node's lease has run out, and nothing else.
# One small process per node, in a cgroup of its own; it outlives the agent and needs nothing of it. Usage: sh stopper.sh DIR
#
#   DIR/deadline       "<centiseconds> <boot id>": until when the lease lasts, by CLOCK_BOOTTIME (/proc/uptime is that clock).
#                      The agent replaces it by rename at each renewal. Unreadable or of another boot: the lease has run out.
#   DIR/tasks/KEY      one container: lines "signal N", "grace CENTISECONDS", "init FILE" (its first pid is in there),
#                      "freezer FILE" and any number of "cgroup DIRECTORY". Listed before it can run, taken out when it is gone.
#   DIR/fenced/KEY     written before it is touched: "<now> <deadline>", in centiseconds. The agent journals it as fenced.
#   DIR/pid, DIR/beat  who is the stopper (the newest one), and that it lives: centiseconds of its last round.
#
# What holds:
#  1. It is driven by level: while the deadline has passed, whatever is listed and has processes is stopped, so that a container
#     that was being started at that moment is found, too.
#  2. What it has begun to stop it ends (signal, grace, then SIGKILL for all of the cgroup), although the lease may be back.
#  3. It ends only when the lease has run out and nothing is listed. It first takes its pid away and then looks once more; the
#     agent lists first and then looks for the pid: one of the two sees the other.
#  4. Only pids that are in a listed container's cgroup at that moment are signalled.
#
# Only builtins and sleep(1) are used, so that neither a full process table nor a full disk keeps it from its work for long.
# All of it is read before it begins (main at the end), so that an upgrade may replace the file.

set -u

now() {
  read -r uptime _ </proc/uptime
  now_cs=${uptime%.*}${uptime#*.}
}

read_deadline() {
  deadline_cs=0
  { read -r at of_boot <deadline; } 2>/dev/null || return 0
  [ "$of_boot" = "$boot" ] || return 0
  case $at in '' | *[!0-9]*) ;; *) deadline_cs=$at ;; esac
}

is_owner() {
  { read -r owner <pid; } 2>/dev/null || return 1
  [ "$owner" = "$$" ]
}

is_anything_listed() {
  for file in tasks/*; do [ -e "$file" ] && return 0; done
  return 1
}

# The entry in tasks/$1 as signal, grace_cs, init_file, freezer and its processes as pids.
read_entry() {
  signal=15 grace_cs=0 init_file='' freezer='' pids=''
  cgroups=''
  while read -r word value; do
    case $word in
    signal) signal=$value ;;
    grace) grace_cs=$value ;;
    init) init_file=$value ;;
    freezer) freezer=$value ;;
    cgroup) read_pids "$value" && cgroups="$cgroups$value
" ;;
    esac
  done <"tasks/$1"
}

read_pids() {
  [ -d "$1" ] || return 1
  for procs in "$1"/cgroup.procs "$1"/*/cgroup.procs "$1"/*/*/cgroup.procs; do
    [ -r "$procs" ] || continue
    while read -r pid; do
      case " $pids " in *" $pid "*) ;; *) [ "$pid" = 0 ] || pids="$pids $pid" ;; esac
    done <"$procs"
  done 2>/dev/null
  return 0
}

# Its first process is asked to end; conmon, which is in another cgroup, writes the code down.
ask() {
  # The file ends without a newline: read then fails, and has read.
  init=none
  { read -r init <"$init_file" || :; } 2>/dev/null
  case " $pids " in
  *" $init "*) thaw && kill -"$signal" "$init" 2>/dev/null ;;
  *) grace_cs=0 ;;
  esac
}

# A frozen v1 cgroup takes a signal only when it is thawed.
thaw() {
  [ -z "$freezer" ] || [ ! -w "$freezer" ] || { echo THAWED >"$freezer"; } 2>/dev/null
  return 0
}

force() {
  while read -r cgroup; do
    [ -w "$cgroup/cgroup.kill" ] && { echo 1 >"$cgroup/cgroup.kill"; } 2>/dev/null
  done <<END
$cgroups
END
  for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
  thaw
}

# Brings one listed container nearer to its end; true while it has processes.
enforce() {
  # protocol: StopperFired
  read_entry "$1" 2>/dev/null || return 1
  [ -n "$pids" ] || return 1
  if { read -r fired_cs _ <"fenced/$1"; } 2>/dev/null && [ -n "$fired_cs" ]; then
    :
  else
    fired_cs=$now_cs
    { echo "$now_cs $deadline_cs" >"fenced/$1"; } 2>/dev/null || grace_cs=0
    echo "uptime $uptime: stopping $1: the lease ran out at centisecond $deadline_cs"
    ask
  fi
  [ $((now_cs - fired_cs)) -lt "$grace_cs" ] || force
  return 0
}

# One look at everything that is listed; busy says that something is being stopped.
round() {
  busy=0
  for file in tasks/*; do
    [ -e "$file" ] || continue
    key=${file#tasks/}
    [ "$now_cs" -ge "$deadline_cs" ] || [ -e "fenced/$key" ] || continue
    enforce "$key" && busy=1
  done
}

# Until the deadline, but at most a second: a suspended host is noticed soon after it wakes.
pause() {
  left=$((deadline_cs - now_cs))
  [ "$left" -gt 0 ] && [ "$left" -lt 100 ] || left=100
  [ "$busy" = 0 ] || left=10
  sleep "$((left / 100)).$((left / 10 % 10))$((left % 10))"
}

main() {
  cd "$1" || exit 1
  trap '' HUP INT
  { echo -900 >/proc/self/oom_score_adj; } 2>/dev/null || :
  read -r boot </proc/sys/kernel/random/boot_id
  echo "$$" >pid || exit 1
  while is_owner; do
    now
    read_deadline
    { echo "$now_cs" >beat; } 2>/dev/null || :
    round
    if [ "$now_cs" -ge "$deadline_cs" ] && ! is_anything_listed; then
      : >pid
      is_anything_listed || exit 0
      echo "$$" >pid
    fi
    pause
  done
  exit 0
}

main "$@"
exit
