#!/usr/bin/env bash
# The bundle, from nothing to a package beside the run. Every step goes on where it was stopped.
# Needs: flite, espeak-ng, `pip install -e .[dev]`; FSDD = folder with the Free Spoken Digit Dataset's wav files.
# INIT = run folder of earlier weights to go on from (the first edition's) instead of hearing synthetic speech first.
set -euo pipefail
cd "$(dirname "$0")/../.."
FSDD=${FSDD:?set FSDD to the folder of the Free Spoken Digit Dataset}
RUN=${RUN:-runs/nano2}
SPEECH=${SPEECH:-$RUN/speech}
INIT=${INIT:-}
PY=${PY:-python}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
mkdir -p "$RUN"

$PY recipes/nano/make_tokenizer.py --out "$RUN/tokenizer"
$PY recipes/nano/make_speech.py --out "$SPEECH"
$PY recipes/nano/make_speech.py --plan more --out "$RUN/more_speech"
$PY recipes/nano/make_speech.py --plan wide --out "$RUN/wide_speech"
$PY recipes/nano/make_speech.py --plan tune --out "$RUN/tune"
$PY recipes/nano/make_digits.py --out "$RUN/digits"
$PY recipes/nano/make_voices.py --voice flite:awb --utterances 3300 --short 0.25 --not-in "$SPEECH" --out "$RUN/voices/awb"
$PY recipes/nano/make_voices.py --voice flite:slt --utterances 900 --short 1.0 --not-in "$SPEECH" --out "$RUN/voices/slt"
$PY recipes/nano/make_speech.py --plan spoken --not-in "$SPEECH" "$RUN"/voices/* --out "$RUN/spoken"
common=(--faint-ears --speech "$SPEECH" --more-speech "$RUN/more_speech" "$RUN/wide_speech"
    --more-digits "$RUN/digits")
ears=("${common[@]}" --phone-head --tokenizer "$RUN/tokenizer")

# two single-threaded trainings side by side; the codec is the shipped one if there are earlier weights
codec_folder=src/vivavoce/bundle/nano/codec
if [ -z "$INIT" ]; then
    codec_folder=$RUN/codec/model
    $PY recipes/nano/codec_speech.py --speech "$SPEECH" --out "$RUN/codec_speech"
    $PY -m vivavoce train recipes/codec_nano/train.yaml out="$RUN/codec" "data.recordings=[$RUN/codec_speech]" --device cpu &
    codec=$!
    $PY recipes/nano/train_lm.py --stage hear "${ears[@]}" --out "$RUN/hear" --steps 800 --plan-steps 1400
    wait $codec
    INIT=$RUN/hear
    for part in awb:1500 slt:700; do
        $PY recipes/nano/codec_speech.py --speech "$RUN/voices/${part%:*}" --out "$RUN/decoder_speech/${part%:*}" --most "${part#*:}"
    done
    $PY recipes/nano/codec_speech.py --speech "$SPEECH" --out "$RUN/decoder_speech/mix" --most 800
    $PY -m vivavoce train recipes/codec_nano/decoder.yaml out="$RUN/codec_decoder" model.start="$codec_folder" \
        "data.recordings=[$RUN/decoder_speech]" --device cpu
    codec_folder=$RUN/codec_decoder/model
fi

$PY recipes/nano/prepare_voice.py --speech "$SPEECH" "$RUN/voices/awb" "$RUN/voices/slt" --codec "$codec_folder" \
    --voices flite:slt=default flite:awb=awb --out "$RUN/voices.pt"
$PY -m torch.distributed.run --nproc-per-node 2 recipes/nano/train_lm.py --stage all --ears-only --init "$INIT" "${ears[@]}" \
    --digits "$FSDD" --voice "$RUN/voices.pt" --people-share 0.3 --follow-share 0.08 --batch 40 --second-batch 40 \
    --steps 2400 --out "$RUN/ears"
$PY -m torch.distributed.run --nproc-per-node 2 recipes/nano/train_lm.py --stage all --init "$RUN/ears" "${ears[@]}" \
    --digits "$FSDD" --voice "$RUN/voices.pt" --people-share 0.3 --follow-share 0.08 --batch 44 --second-batch 12 \
    --text-batch 40 --speak-batch 10 --steps 3300 --out "$RUN/lm"
$PY recipes/nano/package.py --lm "$RUN/lm" --codec "$codec_folder" --tokenizer "$RUN/tokenizer" --faint-ears \
    --voices default awb --out "$RUN/english"

# German: the ears first, then the mind and the voice, then what its words mean
german=(--language german --language-speech "$RUN/german")
tokens=(--tokenizer "$RUN/german_start/tokenizer")
$PY recipes/add_language/make_language_speech.py --language german --minutes 90 --wide 150 --out "$RUN/german"
$PY recipes/add_language/grow.py --language german --bundle "$RUN/english" --out "$RUN/german_start"
$PY -m torch.distributed.run --nproc-per-node 2 recipes/nano/train_lm.py --stage all --ears-only --init "$RUN/german_start" "${common[@]}" \
    "${tokens[@]}" "${german[@]}" --language-share 0.25 --digits "$FSDD" --people-share 0.25 --follow-share 0.2 \
    --batch 40 --second-batch 40 --learning-rate 5e-4 --steps 1000 --out "$RUN/german_ears"
$PY -m torch.distributed.run --nproc-per-node 2 recipes/nano/train_lm.py --stage all --freeze-ears --init "$RUN/german_ears" "${common[@]}" \
    "${tokens[@]}" "${german[@]}" --language-share 0.3 --voice "$RUN/voices.pt" --digits "$FSDD" --people-share 0.3 --follow-share 0.1 \
    --batch 48 --second-batch 12 --text-batch 48 --speak-batch 12 --learning-rate 5e-4 --steps 800 --out "$RUN/german_lm"
$PY recipes/nano/train_lm.py --stage all --words-only --init "$RUN/german_lm" "${common[@]}" "${tokens[@]}" "${german[@]}" \
    --language-share 0.7 --text-batch 64 --learning-rate 2e-3 --steps 600 --out "$RUN/german_words"
$PY recipes/nano/package.py --lm "$RUN/german_words" --codec "$codec_folder" "${tokens[@]}" --faint-ears \
    --voices default awb german --lexicons "$RUN/german/lexicon_german.txt" --out "$RUN/bundle"
$PY recipes/add_language/make_language_speech.py --language german --tune --out "$RUN/german_tune"
$PY recipes/nano/tune_gate.py --model "$RUN/bundle" --speech "$RUN/tune" "$RUN/german_tune"
$PY recipes/nano/evaluate.py --model "$RUN/bundle" --speech "$SPEECH" --digits "$FSDD" --json "$RUN/results.json"
$PY recipes/nano/evaluate.py --model "$RUN/bundle" --speech "$SPEECH" --more-speech "$RUN/spoken" --limit 240 --tests speaking \
    --json "$RUN/speaking.json"
$PY recipes/nano/conversations.py --model "$RUN/bundle" --n 60 --json "$RUN/conversations.json"
