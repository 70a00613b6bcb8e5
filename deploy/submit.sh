#!/usr/bin/env bash
# A sweep as a job of a running Ray cluster: it runs on the head, so that this shell may be closed. Needs ray[default] on the
# head and here; the port of the dashboard (8265) is open to the head's loopback alone, so tunnel it first:
#
#     ssh -N -L 8265:127.0.0.1:8265 head &
#     export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...     # as the cluster's, if it asks for one
#     bash deploy/submit.sh
#
# forage is installed on the head, in the Python that runs Ray; other nodes get its code by --ship-code. `ray job logs ID`
# shows the progress. `ray job stop ID` is a SIGTERM and, 3 s later, a kill -9: neither loses anything, and a job of
#     forage resume /shared/runs/night --address auto --ship-code
# goes on. Such jobs were tried with Ray 2.60 and a head on one machine: submitted, stopped, resumed; also with
# --working-dir.
set -euo pipefail
ray job submit --address "${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}" --no-wait -- \
  forage sweep /shared/csiro --runs /shared/runs --name night --address auto --ship-code
