#!/usr/bin/env bash
# Real digits by speakers the ears have never heard: four short runs, each without one of the four speakers, start from
# the synthetic-only stage and are tried on the speaker left out. Shorter than the bundle's own training, so a lower bound.
set -euo pipefail
cd "$(dirname "$0")/../.."
FSDD=${FSDD:?set FSDD to the folder of the Free Spoken Digit Dataset}
RUN=${RUN:-runs/nano2}
SPEECH=${SPEECH:-$RUN/speech}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
one() {
    $PY recipes/nano/train_lm.py --stage all --init "$RUN/hear" --speech "$SPEECH" --tokenizer "$RUN/tokenizer" \
        --more-digits "$RUN/digits" --digits "$FSDD" --leave-out "$1" --people-share 0.5 \
        --batch 24 --text-batch 16 --steps "${STEPS:-160}" \
        --out "$RUN/without-$1"
    $PY recipes/nano/package.py --lm "$RUN/without-$1" --codec "$RUN/codec/export" --tokenizer "$RUN/tokenizer" \
        --out "$RUN/without-$1/model"
    $PY recipes/nano/evaluate.py --model "$RUN/without-$1/model" --speech "$SPEECH" --digits "$FSDD" \
        --speaker "$1" --tests digits --json "$RUN/without-$1/results.json"
}
(one george && one jackson) &
(one lucas && one nicolas) &
wait
