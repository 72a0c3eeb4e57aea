#!/usr/bin/env bash
# The small scaling law of docs/scaling.md, from sentences to pictures; goes on where it was stopped.
#   recipes/scaling/run.sh            # PY names the Python to use, RUN the folder; needs the program flite
set -euo pipefail
PY=${PY:-python}
RUN=${RUN:-runs/scaling}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
$PY recipes/scaling/make_sentences.py "$RUN"
for part in learned held_out; do
  $PY -m vivavoce data build recipes/scaling/speech.yaml source.file="$RUN/$part.jsonl" out="$RUN/$part" --workers 0
done
$PY -m vivavoce scale plan recipes/scaling/sweep.yaml out="$RUN/sweep" \
  "change.data.sets=[{path: $RUN/learned, name: speech}]" "change.data.held_out=[{path: $RUN/held_out, name: held_out}]"
$PY -m vivavoce scale run "$RUN/sweep"
$PY -m vivavoce scale fit "$RUN/sweep"
