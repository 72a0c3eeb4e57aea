#!/usr/bin/env bash
# The bundle's ears learn one more voice from a few recordings, see README.md: teach.sh RECORDINGS [OUT]
# Needs: flite, espeak-ng, `pip install -e .[dev]`. Goes on where it was stopped. STEPS = how long (150), BUNDLE = what learns,
# SCALE = how much synthetic speech beside the recordings (0.2 of the bundle's first set).
set -euo pipefail
recordings=$(realpath "${1:?say where your recordings are: teach.sh RECORDINGS [OUT]}")
mkdir -p "${2:-runs/own_voice}"
out=$(realpath "${2:-runs/own_voice}")
cd "$(dirname "$0")/../.."
BUNDLE=${BUNDLE:-src/vivavoce/bundle/nano}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

mkdir -p "$out/tokenizer" && cp "$BUNDLE"/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$out/tokenizer/"
$PY recipes/own_voice/check_recordings.py "$recordings" --tokenizer "$out/tokenizer"
# synthetic speech beside the recordings, so that what was known stays
$PY recipes/nano/make_speech.py --scale "${SCALE:-0.2}" --out "$out/speech"
$PY recipes/nano/make_digits.py --scale "${SCALE:-0.2}" --out "$out/digits"
# and of the language that the bundle knows beside English (the last, if there are several)
language=()
for lexicon in "$BUNDLE"/lexicon_*.txt; do
    [ -e "$lexicon" ] || continue
    name=$(basename "$lexicon" .txt) && name=${name#lexicon_}
    $PY recipes/add_language/make_language_speech.py --language "$name" --minutes 10 --wide 20 --out "$out/$name"
    language=(--language "$name" --language-speech "$out/$name" --language-share 0.15)
done
$PY recipes/nano/train_lm.py --stage all --freeze-mind --init "$BUNDLE" --faint-ears --tokenizer "$out/tokenizer" \
    --speech "$out/speech" --more-digits "$out/digits" --own "$recordings" --people-share 0.35 "${language[@]}" \
    --learning-rate 2e-4 --batch 32 --steps "${STEPS:-150}" --out "$out/ears"
voices=$($PY -c 'import json, sys; print(*json.load(open(sys.argv[1]))["audio_out"]["speakers"])' "$BUNDLE/config.json")
$PY recipes/nano/package.py --lm "$out/ears" --codec "$BUNDLE/codec" --tokenizer "$out/tokenizer" --faint-ears \
    --voices $voices --lexicons $(find "$BUNDLE" -name "lexicon_*.txt" | sort) --out "$out/bundle"
cp "$BUNDLE/README.md" "$out/bundle/"
echo "try it: vivavoce chat --model $out/bundle"
