"""Orpheus-TTS 0.1: Llama 3.2 3B that reads text aloud in SNAC tokens.

Source: canopyai/Orpheus-TTS (prompt, ids, sampling). Where we differ: the stop token is the end of speech
    (upstream's
default is left from another tokenizer), slots are constrained, code 0 is a code like any other, and no frame
is dropped.
"""

from __future__ import annotations

from transformers import LlamaConfig, PreTrainedConfig

from vivavoce.models.config import SpeechLMConfig, TokensOut
from vivavoce.models.presets.preset import TokenPreset, check_rows
from vivavoce.tokens.record import AudioVocabulary

SPEAKERS = ("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe")
SAMPLING = {"temperature": 0.6, "top_p": 0.8, "repetition_penalty": 1.1, "max_new_tokens": 2048}


class Orpheus(TokenPreset):
    """Text in, audio tokens out (SNAC 24 kHz, 7 slots), prompt ``voice: text``."""

    name = "orpheus"
    description = "Llama 3.2 3B that reads text aloud in SNAC 24 kHz tokens (Orpheus-TTS 0.1)"
    speaks = "none"
    chats = False
    codec = "hubertsiuzdak/snac_24khz"

    def matches(self, vocabulary: AudioVocabulary) -> bool:
        return vocabulary.layout == "orpheus" and {"start_of_human", "end_of_human"} <= set(vocabulary.roles)

    def config(
        self, text_config: PreTrainedConfig, vocabulary: AudioVocabulary, codec: str
    ) -> SpeechLMConfig:
        check_rows(text_config, vocabulary)
        return SpeechLMConfig(
            text_config=text_config,
            audio_out=TokensOut(
                codec=codec,
                alignment="none",
                vocabulary=vocabulary.to_dict(),
                speakers=SPEAKERS,
                prompt="orpheus",
            ),
            sampling=SAMPLING,
            description=self.description,
        )

    def text_config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=156_940,
            hidden_size=3072,
            intermediate_size=8192,
            num_hidden_layers=28,
            num_attention_heads=24,
            num_key_value_heads=8,
            head_dim=128,
            max_position_embeddings=131_072,
            rms_norm_eps=1e-5,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500_000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            tie_word_embeddings=True,
            bos_token_id=128_000,
            eos_token_id=128_009,
        )


ORPHEUS = Orpheus()
