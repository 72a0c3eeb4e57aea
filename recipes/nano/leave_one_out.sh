#!/usr/bin/env bash
# Real people whom the ears have never heard: four runs, each without one of the four speakers, start from the
# synthetic-only stage and are tried on the speaker left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
FSDD=${FSDD:?set FSDD to the folder of the Free Spoken Digit Dataset}
RUN=${RUN:-runs/nano2}
SPEECH=${SPEECH:-$RUN/speech}
HEAR=${HEAR:-$RUN/hear}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
one() {
    $PY recipes/nano/train_lm.py --stage all --init "$HEAR" --faint-ears --phone-head --speech "$SPEECH" --tokenizer "$RUN/tokenizer" \
        --more-speech "$RUN/more_speech" "$RUN/wide_speech" --more-digits "$RUN/digits" --digits "$FSDD" --leave-out "$1" --people-share 0.5 \
        --batch 32 --text-batch 8 --steps "${STEPS:-600}" --out "$RUN/without-$1" &&
    $PY recipes/nano/package.py --lm "$RUN/without-$1" --codec src/vivavoce/bundle/nano/codec --tokenizer "$RUN/tokenizer" \
        --faint-ears --out "$RUN/without-$1/model" &&
    $PY recipes/nano/people.py --model "$RUN/without-$1/model" --digits "$FSDD" --speaker "$1" --json "$RUN/without-$1/people.json"
}
(one george && one jackson) &
(one lucas && one nicolas) &
wait
