"""Tiny random models saved as folders, a local server that speaks OpenAI's forms, and checks that builders are pure."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import string
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.audio.synthesis import has_synthesizer
from vivavoce.data.build import BUILDERS
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.conversation import Conversation, Message, Text

LETTERS = "abcdefghijklmnopqrstuvwxyz' "
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def needs(*engines: str) -> None:
    """Skip a test where a synthesizer is not installed."""
    for engine in engines:
        if not has_synthesizer(engine):
            pytest.skip(f"{engine} is not installed")


class Humming:
    """A service "tts": tones whose pitch hangs on the text, the voice and the seed."""

    def __init__(self, name: str, voice: str | None = None) -> None:
        self.name = f"{name} {voice}"

    def say(self, text: str, seed: int) -> tuple[np.ndarray, int]:
        if "silence" in text:
            return np.zeros(8000, np.float32), 8000
        step = 0.05 + (sum(map(ord, self.name + text)) + seed % 97) % 300 / 400
        return 0.3 * np.sin(step * np.arange(100 * len(text))).astype(np.float32), 8000


def ask(number: int, question: str, answer: str | None = None) -> Conversation:
    """A typed row."""
    messages = [Message("user", [Text(question)])]
    if answer is not None:
        messages.append(Message("assistant", [Text(answer)]))
    return Conversation(
        f"row/{number}", messages, source="made up", license="cc0-1.0", meta={"number": number}
    )


def facts(results: Sequence[Any]) -> list[Any]:
    """Results as something to compare: hashes of rows, faults as they are."""
    return [r if isinstance(r, Fault) else [c.content_hash() for c in r] for r in results]


def run(name: str, settings: dict[str, Any], context: Context, rows: Sequence[Conversation]) -> list[Any]:
    """Run a builder of the table on rows, all at once."""
    return list(_make(name, settings, context)(rows))


def _make(name: str, settings: dict[str, Any], context: Context) -> Any:
    from vivavoce.data.build.pipeline import _settings

    return BUILDERS.get(name)(_settings(BUILDERS, {"type": name, **settings}, name), context)


def _run_elsewhere(
    name: str, settings: dict[str, Any], context: Context, rows: Sequence[Conversation]
) -> list[Any]:
    torch.set_num_threads(2)
    return facts(run(name, settings, context, rows))


@cache
def _elsewhere() -> Any:
    """Another process with nothing of this one; made once, since it imports torch anew."""
    pool = multiprocessing.get_context("spawn").Pool(1)
    atexit.register(pool.terminate)
    return pool


def assert_pure(
    name: str,
    settings: dict[str, Any],
    context: Context,
    rows: Sequence[Conversation],
    elsewhere: bool = True,
    sizes: Sequence[int] = (1, 3, 8),
) -> list[Any]:
    """Check that results hang on nothing but the row: not on batches, order, what came before, or the process.

    Returns:
        The results.
    """
    before = [row.content_hash() for row in rows]
    wanted = run(name, settings, context, rows)
    kept = facts(wanted)
    for size in sizes:
        builder = _make(name, settings, context)
        found = [r for i in range(0, len(rows), size) for r in builder(rows[i : i + size])]
        assert facts(found) == kept, f"batches of {size}"
    backwards = _make(name, settings, context)(list(rows)[::-1])
    assert facts(backwards)[::-1] == kept, "order reversed"
    assert [row.content_hash() for row in rows] == before, "the rows given were changed"
    if elsewhere:
        assert _elsewhere().apply(_run_elsewhere, (name, settings, context, rows)) == kept, "another process"
    return wanted


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """Read settings as a pipeline does."""
    Pipeline(source={"type": "text", "texts": ["hello"]}, stages=[{"type": name, **settings}])


class Answers:
    """What the local server does: ``function(path, body)`` gives (status, bytes) or (status, bytes, headers)."""

    def __init__(self, function: Callable[[str, Any], tuple[Any, ...]]) -> None:
        self.function = function
        self.asked: list[tuple[str, Any, dict[str, str]]] = []
        self.lock = threading.Lock()


@contextmanager
def server(function: Callable[[str, Any], tuple[Any, ...]]) -> Iterator[tuple[str, Answers]]:
    """Serve on this machine; gives the address up to /v1 and what was asked."""
    answers = Answers(function)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with answers.lock:
                answers.asked.append((self.path, body, dict(self.headers)))
            status, data, *rest = answers.function(self.path, body)
            if status is None:  # hang up
                self.close_connection = True
                return
            self.send_response(status)
            for key, value in (rest[0] if rest else {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", answers
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def save_llama(folder: Path, ties: bool = False, **more: Any) -> Path:
    """A causal model over bytes with a chat template, spread enough for answers of different lengths.

    Args:
        folder: Made.
        ties: Give every token a twin with the same scores, so that no choice is ever sure.
        more: Of the config.
    """
    from tests.inference.tiny import byte_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
    tokenizer.chat_template, tokenizer.eos_token = TEMPLATE, "<|end|>"
    torch.manual_seed(1)
    size = len(tokenizer)
    config = LlamaConfig(
        **{
            "vocab_size": size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
            "initializer_range": 0.4, **more,
        }
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    letters = {c: tokenizer.convert_tokens_to_ids(c) for c in string.ascii_letters}
    end = tokenizer.eos_token_id
    with torch.no_grad():
        head = model.lm_head.weight
        others = [i for i in range(size) if i not in {*letters.values(), end}]
        head[others] = 0.0  # would decode to nothing
        for letter in string.ascii_lowercase if ties else "":
            head[letters[letter.upper()]] = head[letters[letter]]
        head[end] *= 1.3
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_vits(folder: Path, speakers: int = 3) -> Path:
    """A text-to-speech model over letters, 16 kHz, with random waves."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "letters.json"
    vocabulary.write_text(json.dumps({c: i for i, c in enumerate(["<pad>", "<unk>", *LETTERS])}))
    tokenizer = VitsTokenizer(str(vocabulary), phonemize=False)
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, flow_size=16,
        spectrogram_bins=9, duration_predictor_filter_channels=16, duration_predictor_num_flows=1,
        depth_separable_num_layers=1, prior_encoder_num_flows=1, posterior_encoder_num_wavenet_layers=1,
        prior_encoder_num_wavenet_layers=1, upsample_initial_channel=16, upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
        num_speakers=speakers, speaker_embedding_size=8 if speakers > 1 else 0,
    )  # fmt: skip
    VitsModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
    "scale_embedding": False,
}  # fmt: skip


def _fill(model: Any, seed: int) -> None:
    """Random weights with which answers differ and come to an end."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "positions" not in name:
                weight.copy_(0.6 * torch.randn(weight.shape, generator=generator))


def save_marian(folder: Path, target: str = "de", codes: Sequence[str] = ()) -> Path:
    """A translation model from English over letters; with ``codes``, one that must be told the target."""
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "letters.txt"
    text.write_text("\n".join(f"{a}{b} {b}{a}" for a in LETTERS[:26] for b in LETTERS[:26]))
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / side), vocab_size=40, model_type="char", minloglevel=2
        )
        (folder / f"{side}.model").replace(folder / f"{side}.spm")
    pieces = ["</s>", "<unk>", *(f">>{c}<<" for c in codes), "\u2581", *LETTERS[:26], "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), source_lang="en",
        target_lang=target,
    )  # fmt: skip
    config = MarianConfig(
        vocab_size=len(pieces), pad_token_id=len(pieces) - 1, eos_token_id=0,
        decoder_start_token_id=len(pieces) - 1, forced_eos_token_id=0, **_SEQ2SEQ,
    )  # fmt: skip
    model = MarianMTModel(config)
    _fill(model, 3)
    model.final_logits_bias[0, 0] = 2.0
    never = [len(pieces) - 1, 1, *range(2, 2 + len(codes))]
    model.generation_config.update(num_beams=4, bad_words_ids=[[i] for i in never])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_nllb(folder: Path) -> Path:
    """A model of NLLB's kind over letters, between English, German and Vietnamese."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    vocabulary = {p: i for i, p in enumerate(["<s>", "<pad>", "</s>", "<unk>", "\u2581", *LETTERS[:26]])}
    codes = ["eng_Latn", "deu_Latn", "vie_Latn"]
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=codes, src_lang="eng_Latn")
    config = M2M100Config(
        vocab_size=len(tokenizer), pad_token_id=1, eos_token_id=2, bos_token_id=0,
        decoder_start_token_id=2, tie_word_embeddings=False, **_SEQ2SEQ,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    _fill(model, 4)
    model.lm_head.weight.data[2] *= 2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_seamless(folder: Path) -> Path:
    """A text-to-text model of SeamlessM4T's kind over letters, between English, German and Vietnamese."""
    from transformers import SeamlessM4TConfig, SeamlessM4TForTextToText, SeamlessM4TTokenizer

    vocabulary = {p: i for i, p in enumerate(["<pad>", "<unk>", "<s>", "</s>", "\u2581", *LETTERS[:26]])}
    codes = ["__eng__", "__deu__", "__vie__"]
    tokenizer = SeamlessM4TTokenizer(
        vocab=vocabulary, merges=[], additional_special_tokens=codes, src_lang="eng", tgt_lang="deu"
    )
    config = SeamlessM4TConfig(
        vocab_size=len(tokenizer), hidden_size=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
        scale_embedding=False, speech_encoder_layers=1, tie_word_embeddings=False,
    )  # fmt: skip
    model = SeamlessM4TForTextToText(config)
    _fill(model, 1)
    model.lm_head.weight.data[3] *= 2
    ids = {c.strip("_"): tokenizer.convert_tokens_to_ids(c) for c in codes}
    model.generation_config.text_decoder_lang_to_code_id = ids
    model.generation_config._from_model_config = False  # else what is special in it is dropped on loading
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
