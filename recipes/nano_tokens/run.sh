#!/usr/bin/env bash
# All ears in turn, a bit of budget at a time, so that a stop leaves a fair comparison. Goes on where it was stopped.
set -euo pipefail
PY=${PY:-python} RUN=${RUN:-runs/nano_tokens} SPEECH=${SPEECH:-runs/nano/speech} BUDGETS=${BUDGETS:-"50 100 150 200"}
EARS=${EARS:-"mel_ctc flat_ctc flat summed_ctc mel coarse_mid_ctc coarse_ctc"}
HERE=$(dirname "$0")
export PYTHONPATH=src:$HERE/../nano OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
mkdir -p "$RUN"
[ -f "$RUN/data.pt" ] || $PY "$HERE/prepare.py" --speech "$SPEECH" --digits "$FSDD" --out "$RUN/data.pt"
$PY "$HERE/train.py" --data "$RUN/data.pt" --out "$RUN/warm" --ear none --seconds 15
for seconds in $BUDGETS; do
    for ear in $EARS; do
        $PY "$HERE/train.py" --data "$RUN/data.pt" --init "$RUN/warm" --out "$RUN/$ear" --ear "$ear" \
            --seconds "$seconds" >> "$RUN/$ear.log" 2>&1
    done
done
