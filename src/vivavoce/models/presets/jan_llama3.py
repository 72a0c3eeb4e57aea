"""Jan-Llama3 (llama3-s) v0.1: Llama 3 that hears EnCodec tokens and answers in text.

Source: homebrewltd's cards and demo of July 2024. The user turn is the sound string alone, in Llama 3's chat
    template.
Where we differ: the generation prompt is added (the demo leaves it out and strips the echoed header), and the
    spelling
of the sound tokens is read from the tokenizer.
"""

from __future__ import annotations

from transformers import LlamaConfig, PreTrainedConfig

from vivavoce.models.config import SpeechLMConfig, TokensIn
from vivavoce.models.presets.preset import TokenPreset, check_rows
from vivavoce.tokens.record import AudioVocabulary

LLAMA3_TEXT_TOKENS = 128_256
SOUND_TOKENS = 1026  # start, end and the 1,024 codes that both codebooks share

# v0.1 was trained on answers only; later editions of the family were asked to transcribe by a sentence
TRANSCRIBE_PROMPT = "Transcribe the following audio clip: "


class JanLlama3(TokenPreset):
    """Sound tokens in (EnCodec 24 kHz, 1.5 kbit/s, interleaved), text out."""

    name = "jan_llama3"
    description = "Llama 3 with EnCodec sound tokens in, text out (Jan-Llama3 / llama3-s v0.1)"
    hears = "tokens"
    codec = "facebook/encodec_24khz"

    def matches(self, vocabulary: AudioVocabulary) -> bool:
        return vocabulary.layout == "interleaved"

    def config(
        self, text_config: PreTrainedConfig, vocabulary: AudioVocabulary, codec: str
    ) -> SpeechLMConfig:
        check_rows(text_config, vocabulary)
        return SpeechLMConfig(
            text_config=text_config,
            audio_in=TokensIn(
                codec=codec, vocabulary=vocabulary.to_dict(), transcribe_prompt=TRANSCRIBE_PROMPT
            ),
            sampling={"max_new_tokens": 256},
            description=self.description,
        )

    def text_config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=LLAMA3_TEXT_TOKENS + SOUND_TOKENS,
            hidden_size=4096,
            intermediate_size=14_336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
            tie_word_embeddings=False,
            bos_token_id=128_000,
            eos_token_id=[128_001, 128_009],
        )


JAN_LLAMA3 = JanLlama3()
