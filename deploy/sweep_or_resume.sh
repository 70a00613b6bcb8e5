#!/usr/bin/env bash
# Begin a sweep, or resume it where its run directory exists, so that a job that is started again continues it:
#
#     sweep_or_resume.sh ADDRESS DATA RUNS NAME [OPTION...]
#
# ADDRESS is that of Ray (`auto` or HOST:PORT), RUNS the folder of the run directories or a URI, NAME the name of the run.
# The options are those of a sweep and count when it begins.
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 ADDRESS DATA RUNS NAME [OPTION...]" >&2
  exit 2
fi
address=$1 data=$2 runs=$3 name=$4
shift 4
if forage status "$runs/$name" --json >/dev/null 2>&1; then
  exec forage resume "$runs/$name" --address "$address"
fi
exec forage sweep "$data" --runs "$runs" --name "$name" --address "$address" "$@"
