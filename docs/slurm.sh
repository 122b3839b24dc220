#!/usr/bin/env bash
# sbatch docs/slurm.sh jobs/quickstart.yaml /shared/results/quickstart
# One Ray node a machine of the allocation, the driver on the first; results on a file system that all of them mount. Submitted again (or requeued, when
# its time is up or a machine fails) it does what is missing.
#SBATCH --job-name=mubench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@300
set -euo pipefail

suite=$1
out=$2
# The environment that has mubench_ray, on every machine: activate yours here.
# source /shared/mubench/bin/activate

# One token for this allocation's cluster, handed to its machines in the environment.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1)
export RAY_AUTH_TOKEN
# Short, since sockets lie in it; apart from other jobs on the machine.
export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID
export RAY_USAGE_STATS_ENABLED=0

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${machines[0]}
port=$((20000 + SLURM_JOB_ID % 20000))
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
gpus=${SLURM_GPUS_ON_NODE:-0}

srun --nodes=1 --ntasks=1 -w "$head" ray start --head --block --node-ip-address="$address" --port="$port" \
  --dashboard-host=127.0.0.1 --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --temp-dir="$RAY_TMPDIR" &
for _ in $(seq 60); do
  (exec 3<> "/dev/tcp/$address/$port") 2> /dev/null && break
  sleep 2
done
if ((${#machines[@]} > 1)); then
  workers=$(IFS=,; echo "${machines[*]:1}")
  srun --nodes=$((${#machines[@]} - 1)) --ntasks=$((${#machines[@]} - 1)) -w "$workers" ray start --block --address="$address:$port" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" &
fi

# Five minutes before the time is up, or when the job is to make way, Slurm sends TERM to this shell: the driver drains, and the job queues again.
mubench run "$suite" --address "$address:$port" --out "$out" &
driver=$!
again=
trap 'again=yes; kill -TERM "$driver"' TERM
status=0
wait "$driver" || status=$?
if [ -n "$again" ]; then
  wait "$driver" || status=$?
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
