"""Teaching a voice: words get their phones, the layout is what the voice speaks by, rows do not see each other."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig
from vivavoce.inference.aligned import AlignedSpeaker
from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig
from vivavoce.models.voice.duration import WordWindow
from vivavoce.models.voice.tables import with_voice
from vivavoce.models.voice.teaching import Teacher, Utterance, slot_frames, speaking_losses
from vivavoce.models.voice.word_alignment import align_words
from vivavoce.tokens.phones import PHONES

VOICE = AlignedVoiceConfig(
    text_size=16, codebook_size=16, depth_size=8, depth_intermediate_size=12, depth_heads=2,
    voices=("default", "other"), own_pace=True,
)  # fmt: skip
FRAME_S = VOICE.frame_s


class Bench:
    """A tiny model that speaks, and its teacher."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        names = ["<pad>", "<|speak|>", "<|word|>", "<|frames|>", *(f"<|ph_{p}|>" for p in PHONES)]
        levels = models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>")
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(levels), pad_token="<pad>")
        self.text = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(names), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
            )
        ).eval()  # fmt: skip
        self.voice = AlignedVoice(VOICE).eval()
        with torch.no_grad():
            self.voice.voice_embedding.weight[1] = torch.randn(16)
            self.voice.durations.voice.weight[1] = 0.3 * torch.randn(96)
            self.voice.durations.out.bias.fill_(-3.5)  # none at the limits
        self.codec = NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=16)).eval()
        self.teacher = Teacher(self.voice, self.tokenizer)

    def speaker(self) -> AlignedSpeaker:
        model = SimpleNamespace(
            voice=self.voice, language_model=self.text, get_input_embeddings=self.text.get_input_embeddings
        )
        return AlignedSpeaker(model, self.tokenizer, self.codec)

    def losses(self, rows: list[Utterance], drop: float = 0.0) -> tuple[Tensor, Tensor]:
        def backbone(embeds: Tensor) -> Tensor:
            return self.text.model(inputs_embeds=embeds, use_cache=False).last_hidden_state

        batch = self.teacher.collate(rows, drop)
        return speaking_losses(self.voice, self.text.model.embed_tokens, backbone, batch)

    def said(self, words: list[str], voice: int) -> Utterance:
        aligned, codes = self.speaker().phrase(words, voice=VOICE.voices[voice])
        return self.teacher.lay_out(words, aligned, codes, voice)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def test_a_pause_belongs_to_the_word_before_it_and_the_first_to_the_first_word() -> None:
    timed = [("pau", 0.1), ("g", 0.2), ("ow", 0.3), ("pau", 0.5), ("ah", 0.6), ("p", 0.7), ("pau", 0.8)]
    aligned = align_words(["go", "up"], timed, 8, 0.1)
    assert aligned is not None
    assert aligned.word_of == [0, 0, 0, 0, 1, 1, 1]
    assert aligned.borders == [5, 8]


def test_phones_said_otherwise_than_in_the_lexicon_still_find_their_word() -> None:
    timed = [("dh", 0.1), ("iy", 0.2), ("k", 0.3), ("ae", 0.4), ("t", 0.5)]  # "thee cat"
    aligned = align_words(["the", "cat"], timed, 5, 0.1)
    assert aligned is not None and aligned.word_of == [0, 0, 1, 1, 1]


def test_words_without_phones_unknown_phones_and_too_few_frames_are_left_out() -> None:
    timed = [("g", 0.2), ("ow", 0.3)]
    assert align_words(["go", "up", "there", "now"], timed, 9, 0.1) is None
    assert align_words(["go"], [("g", 0.2), ("oh", 0.3)], 9, 0.1) is None
    assert align_words(["go", "up"], [*timed, ("ah", 0.4), ("p", 0.5)], 1, 0.1) is None


def test_every_word_has_a_frame_however_short() -> None:
    timed = [("ax", 0.01), ("b", 0.02), ("iy", 0.03), ("ax", 0.04)]
    aligned = align_words(["a", "be", "a"], timed, 3, 0.1)
    assert aligned is not None and aligned.borders == [1, 2, 3]


def test_frames_hold_each_level_in_drawing_order() -> None:
    levels = [torch.tensor([[1, 2]]), torch.tensor([[3, 4, 5, 6]]), torch.arange(7, 15)[None]]
    frames = slot_frames(Codes(levels, [1]), (0, 1, 2, 2, 1, 2, 2))
    assert frames.tolist() == [[1, 3, 7, 8, 4, 9, 10], [2, 5, 11, 12, 6, 13, 14]]


def test_what_is_taught_is_what_would_be_said(bench: Bench) -> None:
    """The likeliest codes under teaching are those that were spoken, for each voice: same places, same conditions."""
    for voice in (0, 1):
        row = bench.said(["two", "words", "here"], voice)
        right = bench.losses([row])[0]
        for slot in range(row.codes.shape[1]):
            codes = row.codes.clone()
            codes[-1, slot] = (codes[-1, slot] + 1) % VOICE.codebook_size
            assert bench.losses([replace(row, codes=codes)])[0] > right
        assert bench.losses([row])[1] < 1e-9  # and its own durations are right


def test_voices_have_sounds_and_paces_of_their_own(bench: Bench) -> None:
    row = bench.said(["two", "words"], 0)
    sounds, _ = bench.losses([row])
    other_sounds, other_paces = bench.losses([replace(row, voice=1)])
    assert not torch.isclose(sounds, other_sounds) and other_paces > 1e-3


def test_rows_do_not_see_each_other(bench: Bench) -> None:
    rows = [bench.said(words, i % 2) for i, words in enumerate((["one"], ["a", "longer", "one"], ["short"]))]
    random.Random(0).shuffle(rows)
    frames = torch.tensor([float(len(r.codes)) for r in rows])
    alone = torch.stack([bench.losses([r])[0] for r in rows])
    torch.testing.assert_close(bench.losses(rows)[0], (alone * frames).sum() / frames.sum())


def test_hidden_frames_change_what_is_predicted_after_them(bench: Bench) -> None:
    row = bench.said(["two", "words", "here"], 0)
    assert not torch.isclose(bench.losses([row], drop=1.0)[0], bench.losses([row])[0])


def test_a_new_voice_leaves_the_old_ones_as_they_were(bench: Bench) -> None:
    grown = with_voice(bench.voice, "third").eval()
    assert grown.config.voices == ("default", "other", "third")
    old, new = bench.voice.state_dict(), grown.state_dict()
    for key in old:
        assert torch.equal(new[key][: len(old[key])], old[key])
    assert torch.equal(new["voice_embedding.weight"][2], old["voice_embedding.weight"].mean(0))
    with pytest.raises(ConfigError, match="another name"):
        with_voice(grown, "other")


def test_voices_of_one_pace_keep_it_when_paces_come(bench: Bench) -> None:
    plain = AlignedVoice(replace(VOICE, voices=("default",), own_pace=False)).eval()
    grown = with_voice(plain, "new").eval()
    window = WordWindow.of([], [3, 4], [5])
    assert grown.durations.seconds(window, 0) == plain.durations.seconds(window)
    assert grown.durations.seconds(window, 1) == plain.durations.seconds(window)
