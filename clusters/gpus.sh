#!/bin/bash
# A Dask cluster of the GPUs of this machine, a worker each, until it is ended (Ctrl-C). From the repository's root:
#
#     clusters/gpus.sh 0 1 2 3 &
#     lmclib sweep rates.yaml --scheduler-file scheduler.json --resources GPU=1
#
# The numbers are those of nvidia-smi. Each worker sees one GPU only, and takes one run at a time.
set -eu
[ $# -gt 0 ] || { echo "clusters/gpus.sh: which GPUs? for example: clusters/gpus.sh 0 1" >&2; exit 2; }
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1 DASK_CONFIG="$PWD/clusters/dask.yaml"
FOUND="${FOUND:-$PWD/scheduler.json}"
rm -f "$FOUND"
dask scheduler --scheduler-file "$FOUND" --host 127.0.0.1 --port 0 --dashboard-address 127.0.0.1:0 &
trap 'kill $(jobs -p); rm -f "$FOUND"' EXIT
trap 'exit 143' TERM INT
until [ -s "$FOUND" ]; do sleep 0.2; done
for gpu in "$@"; do
    CUDA_VISIBLE_DEVICES="$gpu" dask worker --scheduler-file "$FOUND" --host 127.0.0.1 --nthreads 1 --no-dashboard \
        --resources GPU=1 --name "gpu-$gpu" --local-directory "${TMPDIR:-/tmp}/lmclib-gpu-$gpu" &
done
wait -n
