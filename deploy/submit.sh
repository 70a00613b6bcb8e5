#!/usr/bin/env bash
# Send this checkout to a running Ray cluster and run a sweep there as a job, on the head, so that this shell may be closed:
#
#     ssh -N -L 8265:127.0.0.1:8265 head &              # the dashboard is open to the head's loopback alone
#     export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...     # the cluster's; deploy/kuberay-raycluster.yaml says where it is
#     DATA=/shared/csiro RUNS=/shared/runs bash deploy/submit.sh night --trials 1000 --gpus-per-trial 1
#
# The job is named after the run. The same command again resumes the sweep, under the name night-2. DATA and RUNS are paths on
# the cluster or URIs. Here and on the head, ray[default] must be installed.
#
# All nodes run the code of this checkout, and install what constraints.txt pins where they have something else, into an
# environment of the job's own. Where Ray itself runs in a virtual environment, it copies that one first: LIBRARIES=nodes
# leaves the libraries of the nodes as they are and sends the code alone.
#
#     ray job logs --follow night     its progress
#     ray job stop night              SIGTERM and 3 s later SIGKILL: neither loses a finished epoch
set -euo pipefail
: "${DATA:?set DATA to the data folder}" "${RUNS:?set RUNS to the folder of the run directories}"
if [ $# -lt 1 ]; then
  echo "usage: DATA=... RUNS=... $0 NAME [OPTION...]" >&2
  exit 2
fi
name=$1
shift
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export RAY_API_SERVER_ADDRESS=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}

case ${LIBRARIES:-constraints} in
  constraints)
    # The checksum makes Ray prepare a new environment when a version has changed.
    checksum=$(cat "$checkout/constraints.txt" "$checkout/pyproject.toml" | sha256sum | cut -c -16)
    folder="\${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
    pip="\"pip\": [\"# $checksum\", \"--constraint $folder/constraints.txt\", \"$folder[lite,boosting]\"], "
    ;;
  nodes) pip='' ;;
  *)
    echo "submit.sh: LIBRARIES=$LIBRARIES: expected constraints or nodes" >&2
    exit 2
    ;;
esac
excludes='"excludes": ["/.git", "/.venv*", "/data", "/runs", "/build", "/dist", "/tests", "/shared", "/.*_cache", "__pycache__"]'

job=$name
for number in $(seq 2 1000); do # a job's name can be used once
  ray job status "$job" >/dev/null 2>&1 || break
  job=$name-$number
done
exec ray job submit --no-wait --submission-id "$job" --working-dir "$checkout" --runtime-env-json "{$pip$excludes}" -- \
  bash deploy/sweep_or_resume.sh auto "$DATA" "$RUNS" "$name" "$@"
