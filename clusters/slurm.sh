#!/bin/bash
#SBATCH --job-name=lmclib
#SBATCH --ntasks=32
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=3G
#SBATCH --time=08:00:00
#SBATCH --output=lmclib-%j.log
# A Dask cluster as one SLURM job, a worker a task. From the repository's root, in which .venv is, on a disk that all nodes see:
#
#     sbatch clusters/slurm.sh                       # or: sbatch --ntasks=4 --gpus-per-task=1 clusters/slurm.sh
#     lmclib sweep rates.yaml --scheduler-file scheduler.json
#
# With GPUs each worker sees the one that SLURM gave its task, and has `--resources GPU=1`. The options above are to be adapted.
set -eu
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1 DASK_CONFIG="$PWD/clusters/dask.yaml" FOUND="${1:-$PWD/scheduler.json}"
rm -f "$FOUND"
dask scheduler --scheduler-file "$FOUND" --port 0 --dashboard-address :0 &
trap 'kill $(jobs -p); rm -f "$FOUND"' EXIT
trap 'exit 143' TERM INT
# in each task: one worker of one thread, which waits for the scheduler's file
srun bash -c 'until [ -s "$FOUND" ]; do sleep 1; done
    exec dask worker --scheduler-file "$FOUND" --nthreads 1 --no-dashboard --local-directory "${TMPDIR:-/tmp}/lmclib-$SLURM_PROCID" \
        ${CUDA_VISIBLE_DEVICES:+--resources GPU=1}' &
wait -n
