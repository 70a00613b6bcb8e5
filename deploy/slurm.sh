#!/usr/bin/env bash
# A sweep on the nodes of a Slurm allocation: one Ray node on each, the driver on the first. DATA and RUNS are folders that
# all nodes reach; forage is installed in the environment that the job starts with.
#
#     sbatch --export=ALL,DATA=/shared/csiro,RUNS=/shared/runs,NAME=night deploy/slurm.sh
#
# When the time is nearly up, Slurm sends SIGTERM: the sweep stops between two reports and the job is requeued. A requeued or
# preempted job resumes the sweep. The log is forage-JOB.log.
#SBATCH --job-name=forage
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=forage-%j.log
set -euo pipefail
: "${DATA:?set DATA to the data folder}" "${RUNS:?set RUNS to the folder of the run directories}"
NAME=${NAME:-slurm-$SLURM_JOB_ID}
# Slurm runs a copy of this script; the other one is found from the folder that the job was submitted in.
deploy=${FORAGE_DEPLOY:-$SLURM_SUBMIT_DIR/deploy}

stopped='' sweep=''
stop() {
  stopped=1
  if [ -n "$sweep" ]; then kill -TERM "$sweep" 2>/dev/null || true; fi
}
trap stop TERM

# Without a token, every user of the machines could run code through Ray. srun passes the environment to all nodes.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${nodes[0]}
host=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{print $1}')
address=$host:$((20000 + SLURM_JOB_ID % 10000)) # jobs of several users may share a node
resources=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)

srun --overlap --nodes=1 --ntasks=1 --nodelist="$first" \
  ray start --head --node-ip-address="$host" --port="${address##*:}" --include-dashboard=false "${resources[@]}" &
for _ in $(seq 60); do
  ray status --address="$address" >/dev/null 2>&1 && break
  sleep 2
done
ray status --address="$address" >/dev/null 2>&1 || { echo "slurm.sh: Ray did not start on $first; see above" >&2; exit 1; }
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
  srun --overlap --nodes="$others" --ntasks="$others" --exclude="$first" \
    ray start --address="$address" "${resources[@]}" &
fi

bash "$deploy/sweep_or_resume.sh" "$address" "$DATA" "$RUNS" "$NAME" --trials 1000 --gpus-per-trial 1 &
sweep=$!
status=0
wait "$sweep" || status=$?
if [ -n "$stopped" ]; then
  wait "$sweep" || true # the first wait ended when the signal came
  scontrol requeue "$SLURM_JOB_ID"
  status=0
fi
jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
exit "$status"
