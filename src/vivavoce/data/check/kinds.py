"""What can be wrong with a set, why it matters and what to do: one table of kinds, for reports and docs.

Errors spoil training or stop it, warnings may be meant, infos are facts worth knowing. Only errors fail a check.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Kind:
    """One thing that can be wrong.

    Attributes:
        severity: One of ``SEVERITIES``.
        why: What happens if nobody notices.
        next_step: What to do.
    """

    severity: str
    why: str
    next_step: str


_TABLE = """
# rows
invalid_row | error | the row cannot be read, so it is not trained on
  | correct it, or read other published forms with: vivavoce data convert
nothing_to_learn | error | no position of the row has a loss, it only costs time
  | give an assistant turn with text or audio and a loss, or leave the row out
empty_answer | error | the model learns to end its turn at once
  | fill the answer, or set the message's loss to 0
labels_equal_inputs | error | the model learns to write the questions too, and the answers get a small share of the loss
  | take "loss" out of the messages; assistant turns are learned by default
loss_on_question | warning | the model learns to write what users say
  | take "loss" out of the message, unless that is meant
bad_loss | error | training stops at this row
  | give a number of 0 or more, or {"text": 1.0, "audio": 0.5}
system_not_first | error | most chat templates refuse it or leave it out
  | put the system message first, once
turns_not_alternating | warning | many chat templates refuse it or merge the turns
  | join neighbouring turns of the same role
# text
placeholder_in_text | error | the model reads the letters of the placeholder and no audio is put there
  | write an audio part in its place: {"type": "audio", "audio": ...}; or convert the set
unused_recording | warning | the recording is never heard; often a placeholder was lost
  | name it by an audio part, or take it out of "audios"
sound_tokens_in_text | error | audio typed as text escapes every check, and rendering refuses it
  | put the codes into "tokens" of an audio part; vivavoce data convert does it for published forms
sound_tokens_split | error | sound tokens fall into ordinary text pieces: it trains, and nothing is heard
  | spell them as the tokenizer does (padded or not), or keep codes in "tokens" of an audio part
special_token_in_text | warning | the text ends turns or opens roles where it should not
  | take the token out of the text
transcript_beside_audio | warning | the model can read the answer and need not listen
  | take the transcript out of the typed text
broken_text | warning | the model learns broken characters
  | read the source again with its right encoding
# teachers
no_teacher_text | error | a teacher reads the transcript in the clip's place, and there is none
  | transcribe the clip, or leave the row out
no_clip_to_distill | warning | student and teacher read the same text, so nothing is taught
  | leave the row out of distillation, or train on it by plain cross entropy
answer_not_text | error | distillation compares text answers
  | give the answer as text
no_transcript | error | the task is made of the transcript, and there is none
  | transcribe the clip, or leave the row out
# recordings
unreadable_audio | error | the recording cannot be read
  | see that the path is right from the set's folder, or leave the row out
needs_program | warning | this container cannot be read here, so the recording was not looked at
  | install ffmpeg, or convert the recording to FLAC
not_finite | error | one NaN makes the loss NaN
  | repair or export the recording again
network_audio | error | recordings are not fetched while training
  | download it and name the file
absolute_path | warning | the path exists on one machine only
  | use paths relative to the set's folder, or put recordings inside: vivavoce data convert --audio embed
span_outside | error | what is learned is not what is heard there, or nothing is
  | correct start and end; both are seconds of the recording
silent | error | there is nothing to hear
  | see that the right channel and the right part are taken, or leave the row out
quiet | warning | the voice may be lost in rounding and noise
  | raise the level
clipped | warning | the waveform is cut off at full scale, which sounds harsh and is learned
  | record or convert again at a lower level
dc_offset | warning | a constant is added to the samples, which upsets level and voice detection
  | filter it out (high pass at 20 Hz)
low_rate | warning | the recording lacks the upper band that the model expects
  | use a better source; resampling does not bring the band back
other_rate | info | the recording is resampled whenever it is read
  | store it at the wanted rate to save time
band_limited | info | the recording has a higher rate than its sound
  | nothing if you listen; find a better source if a voice is to be learned
very_short | warning | less than a syllable is heard
  | leave the row out, unless that is meant
# transcripts
speech_too_fast | error | nobody speaks so fast: transcript and recording do not belong together
  | align them again, or correct start, end and the recording's rate
speech_too_slow | warning | transcript or recording may be cut, or there are long pauses
  | align them again, or cut the pauses
script_mismatch | warning | the letters are not those of the language: another row's text, or a wrong language code
  | correct the language, or the transcript
language_code | warning | views and voices look languages up by code
  | use a code such as 'en', 'vi' or 'pt-BR'
words_outside | error | aligned training would cut words off
  | words are timed in seconds from the part's start
words_out_of_order | error | aligned training would read words backwards
  | sort the words, with start <= end
words_differ | warning | word times belong to another text
  | align the transcript again
# sound tokens
tokens_incomplete | error | the codes cannot be read back
  | give codec, layout, num_samples, and ids or path
bad_tokens | error | the ids are no whole frames of their layout, so they decode to noise or shift
  | tokenize the recording again
unknown_codec | warning | the numbers of this codec are not known here, so its ids were not checked
  | name the codec: --codec NAME or folder
codec_differs | error | codes of another codec decode to noise, or worse, to fluent nonsense
  | tokenize the set with the codec of the training
no_codec_hash | warning | nobody can tell whether the codes come from the codec's present weights
  | tokenize with: vivavoce data run tokenize
tokens_length | error | num_samples and ids do not belong together
  | tokenize the recording again
tokens_duration | error | the codes are of another recording, or of another part of it
  | tokenize the recording again
tokens_stuck | warning | nearly all frames are the same, as of silence or of a broken codec run
  | listen to it, and tokenize the recording again
# what the model reads
cannot_render | error | training stops at this row
  | change the messages so that the model's chat template takes them, or use another template
too_long | error | the row is cut or left out, often with its answer
  | shorten or split it, or allow more tokens
nothing_learned | error | no position of the rendered row has a loss
  | see that the last message is an answer that the model can give
wrong_mask | error | the loss stands elsewhere than the row says
  | make labels from the row's own loss weights
loss_on_placeholder | error | the model learns to write placeholders
  | mask the positions of audio embeddings
end_not_learned | error | the model never learns to stop
  | learn the token that ends the turn
teacher_equals_student | error | both read the same tokens, so nothing is taught
  | leave the row out, or see that its clip is an audio part
teacher_differs | error | student and teacher answer with different tokens, so they cannot be compared
  | use a chat template that writes the answer alike after a clip and after text
prompt_differs | warning | at inference the model is asked in another form than it is trained
  | use a template whose generation prompt begins the answer as it is learned
answer_audio_unused | warning | this model does not speak in its main sequence; the answer's audio is not used
  | nothing if only text is to be learned
unknown_words | warning | the model reads and learns "unknown" in their place
  | use words that the tokenizer has, or another model
# provenance
no_licence | warning | nobody can tell whether the set may be used
  | add "license", an SPDX name in lower case
no_speaker | info | rows cannot be balanced or split by speaker
  | add "speaker" to audio parts
one_speaker | info | ears that know one voice fail on others
  | mix in other speakers, or augment
# the set
empty_set | error | there is nothing to train on
  | see that this is the right file
unreadable_file | error | a file of the set is missing or damaged
  | make or copy it again
manifest_differs | error | the shards are not those that the manifest describes
  | make or copy the set again
duplicate_id | warning | random choices and splits are made by id
  | give every row an id of its own
duplicate_row | warning | the row is learned more often than others
  | keep one of them
duplicate_audio | warning | the same recording stands in several rows
  | keep one, unless the rows ask different things
duplicate_text | info | the same words stand in several rows
  | nothing if speakers differ
conflicting_transcripts | warning | the same recording has different transcripts; one of them is wrong
  | correct or leave out one of them
overlap_row | error | the test set is trained on
  | leave these rows out of one of the sets
overlap_audio | error | recordings of the test set are trained on
  | leave these rows out of one of the sets
overlap_text | warning | words of the test set are trained on
  | leave these rows out of one of the sets, unless phrases are few by nature
codecs_mixed | error | codes of several codecs or weights stand in one set
  | tokenize the whole set with one codec
"""


def _read(table: str) -> dict[str, Kind]:
    lines = [line for line in table.strip().splitlines() if not line.startswith("#")]
    kinds = {}
    for first, second in zip(lines[::2], lines[1::2], strict=True):
        name, severity, why = (cell.strip() for cell in first.split("|"))
        kinds[name] = Kind(severity, why, second.strip().removeprefix("|").strip())
    return kinds


KINDS = MappingProxyType(_read(_TABLE))

MARKER = "<!-- below: made by `python -m vivavoce.data.check.kinds docs/data-check.md`; do not edit -->"


def refreshed(page: str) -> str:
    """A page with the table of kinds below its marker."""
    lines = [f"| {name} | {k.severity} | {k.why} | {k.next_step} |" for name, k in KINDS.items()]
    table = ["| kind | severity | what happens if nobody notices | what to do |", "|---|---|---|---|", *lines]
    return page.partition(MARKER)[0] + MARKER + "\n\n" + "\n".join(table) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(refreshed(target.read_text(encoding="utf-8")), encoding="utf-8")
