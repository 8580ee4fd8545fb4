#!/usr/bin/env bash
# Runs a compiler, and appends the seconds of CPU that it took and the path of what it made to the file $1.
log=$1
shift
made=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && made=$argument
  previous=$argument
done
exec 9>>"$log"
TIMEFORMAT="%U %S $made"
{ time "$@" 2>&3; } 3>&2 2>&9
