#!/usr/bin/env bash
# The whole recipe, from nothing to the packaged bundle. Every step goes on where it was stopped.
# Needs: flite, espeak-ng, `pip install -e .[dev]`; FSDD = folder with the Free Spoken Digit Dataset's wav files.
set -euo pipefail
cd "$(dirname "$0")/../.."
FSDD=${FSDD:?set FSDD to the folder of the Free Spoken Digit Dataset}
RUN=${RUN:-runs/nano2}
SPEECH=${SPEECH:-$RUN/speech}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
mkdir -p "$RUN"

$PY recipes/nano/make_tokenizer.py --out "$RUN/tokenizer"
$PY recipes/nano/make_speech.py --out "$SPEECH"
$PY recipes/nano/make_digits.py --out "$RUN/digits"

# two single-threaded trainings side by side
$PY recipes/nano/codec_speech.py --speech "$SPEECH" --out "$RUN/codec_speech"
$PY -m vivavoce train recipes/codec_nano/train.yaml out="$RUN/codec" "data.recordings=[$RUN/codec_speech]" --device cpu &
codec=$!
$PY recipes/nano/train_lm.py --stage hear --speech "$SPEECH" --more-digits "$RUN/digits" \
    --tokenizer "$RUN/tokenizer" \
    --out "$RUN/hear" --steps 800 --plan-steps 1400
wait $codec

$PY recipes/nano/prepare_voice.py --speech "$SPEECH" --codec "$RUN/codec/model" --out "$RUN/voice.pt"
$PY -m torch.distributed.run --nproc-per-node 2 recipes/nano/train_lm.py --stage all --init "$RUN/hear" \
    --speech "$SPEECH" --more-digits "$RUN/digits" --tokenizer "$RUN/tokenizer" --digits "$FSDD" \
    --voice "$RUN/voice.pt" --out "$RUN/lm" \
    --steps 2180 --plan-steps 2300 --speak-batch 16 --text-batch 32
$PY recipes/nano/package.py --lm "$RUN/lm" --codec "$RUN/codec/model" --tokenizer "$RUN/tokenizer" \
    --out src/vivavoce/bundle/nano
$PY recipes/nano/evaluate.py --model nano --speech "$SPEECH" --digits "$FSDD" --json "$RUN/results.json"
