#!/usr/bin/env bash
# The bundle's ears learn one more voice from a few recordings, see README.md: teach.sh RECORDINGS [OUT]
# Needs: flite, espeak-ng, `pip install -e .[dev]`. Goes on where it was stopped. STEPS = how long (150), BUNDLE = what learns.
set -euo pipefail
recordings=$(realpath "${1:?say where your recordings are: teach.sh RECORDINGS [OUT]}")
mkdir -p "${2:-runs/own_voice}"
out=$(realpath "${2:-runs/own_voice}")
cd "$(dirname "$0")/../.."
BUNDLE=${BUNDLE:-src/vivavoce/bundle/nano}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# synthetic speech beside the recordings, so that what was known stays
$PY recipes/nano/make_speech.py --scale 0.2 --out "$out/speech"
$PY recipes/nano/make_digits.py --scale 0.2 --out "$out/digits"
$PY recipes/nano/train_lm.py --stage all --freeze-mind --init "$BUNDLE" --faint-ears --tokenizer "$BUNDLE" \
    --speech "$out/speech" --more-digits "$out/digits" --own "$recordings" --people-share 0.35 \
    --learning-rate 2e-4 --batch 32 --steps "${STEPS:-150}" --out "$out/ears"
$PY recipes/nano/package.py --lm "$out/ears" --codec "$BUNDLE/codec" --tokenizer "$BUNDLE" --faint-ears \
    --voices default awb --out "$out/bundle"
echo "try it: vivavoce chat --model $out/bundle"
