#!/usr/bin/env bash
# Real people whom the ears have never heard: ears that have learned from synthetic speech alone, made once; then four
# runs, each without one of the four speakers: ears with the other three, then the mind, with ears that stay. Each is
# tried on the speaker left out. Goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
FSDD=${FSDD:?set FSDD to the folder of the Free Spoken Digit Dataset}
RUN=${RUN:-runs/nano2}
SPEECH=${SPEECH:-$RUN/speech}
HEAR=${HEAR:-$RUN/hear}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
train="recipes/nano/train_lm.py --stage all --faint-ears --phone-head --speech $SPEECH --tokenizer $RUN/tokenizer
    --more-speech $RUN/more_speech $RUN/wide_speech --more-digits $RUN/digits"
$PY -m torch.distributed.run --nproc-per-node 2 --master-port 29617 $train --ears-only --init "$HEAR" \
    --batch 40 --second-batch 40 --steps "${SYNTHETIC_STEPS:-2400}" --seed 7 --out "$RUN/ears_synthetic"
one() {
    others="--digits $FSDD --leave-out $1 --people-share 0.4"
    $PY $train $others --ears-only --init "$RUN/ears_synthetic" --learning-rate 4e-4 --batch 32 --steps "${EARS_STEPS:-450}" --out "$RUN/ears-without-$1" &&
    $PY $train $others --freeze-ears --init "$RUN/ears-without-$1" --batch 32 --text-batch 8 --steps "${STEPS:-200}" --out "$RUN/without-$1" &&
    $PY recipes/nano/package.py --lm "$RUN/without-$1" --codec src/vivavoce/bundle/nano/codec --tokenizer "$RUN/tokenizer" \
        --faint-ears --out "$RUN/without-$1/model" &&
    $PY recipes/nano/people.py --model "$RUN/without-$1/model" --digits "$FSDD" --speaker "$1" --json "$RUN/without-$1/people.json"
}
(one george && one jackson) &
(one lucas && one nicolas) &
wait
