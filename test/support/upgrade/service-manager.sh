#!/bin/sh
# What systemd is to berthd.service (Restart=always, KillMode=process), for tests: starts the words it is given, again whenever they
# end, until it is asked to end itself.
ending=
trap 'ending=1; kill -TERM $pid 2>/dev/null' TERM
while [ -z "$ending" ]; do
  "$@" &
  pid=$!
  # A signal ends the first wait.
  wait $pid || wait $pid
  sleep 0.1
done
