"""The comparison of ears: equal clips, causal CTC places, honest intervals, and folders that the package loads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "recipes" / "nano_tokens"))
from measure import measure, wilson
from numbers_data import HELD_OUT_TIMBRES, Clip, NumbersData, TypedFacts, set_of
from save import save_model
from two_ears import EARS, TwoEars, build_language_model, build_tokenizer

from vivavoce.audio.features import LogMel
from vivavoce.audio.resample import resample
from vivavoce.codecs.loading import load_codec
from vivavoce.inference.assistant import load
from vivavoce.tokens.layouts import build_layout

RATE = 24_000


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    time = np.arange(int(0.7 * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 220 * time * (1 + 0.2 * time))).astype(np.float32)


@pytest.fixture(scope="module")
def clip(wave: np.ndarray) -> Clip:
    codec = load_codec("nano")
    frames = build_layout("orpheus", codec.spec).frames(codec.encode(torch.from_numpy(wave)[None, None]))
    mel = LogMel()(torch.from_numpy(resample(wave, RATE, 16_000))[None])[0][0]
    return Clip("train", "v", "arithmetic", "two plus two", "four", 0.7, frames.to(torch.int16), mel.half())


def build(name: str) -> TwoEars:
    torch.manual_seed(3)
    tokenizer = build_tokenizer(TypedFacts().words())
    model = TwoEars(EARS[name], tokenizer, load_codec("nano").spec, build_language_model(len(tokenizer)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # a random model that says different things to different sounds
    return model


@pytest.mark.parametrize(
    ("name", "positions"), [("flat", 65), ("coarse_mid", 29), ("coarse", 11), ("summed", 9)]
)
def test_positions_of_each_ear(clip: Clip, name: str, positions: int) -> None:
    """0.7 s are 9 coarse frames; tokens stand between a start and an end."""
    model = build(name)
    rows, ctc = model.listen([clip])
    assert [len(row) for row in rows] == [positions] and ctc is None
    if name != "summed":
        codes = model.vocabulary.from_ids(model.token_ids(clip).tolist())
        assert codes.levels[0].tolist()[0] == clip.codes[:, 0].tolist()


@pytest.mark.parametrize("name", ["mel_ctc", "flat_ctc", "coarse_mid_ctc", "coarse_ctc", "summed_ctc"])
def test_a_batch_gives_what_each_clip_gives(clip: Clip, name: str) -> None:
    model = build(name).train()
    short = Clip("train", "v", "digit", "two", "two", 0.3, clip.codes[:4], clip.mel[:, :30])
    with torch.no_grad():
        _, both, _ = model.hearing_loss([clip, short])
        alone = [model.hearing_loss([c])[1] for c in (clip, short)]
    assert float(both) == pytest.approx(float(sum(alone)) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("flat_ctc", [5, 8, 12], 64),
        ("coarse_mid_ctc", [3, 4, 6], 28),
        ("coarse_ctc", [2, 3, 4], 10),
        ("summed_ctc", [1, 2, 3], 9),
    ],
)
def test_ctc_reads_where_codes_stand(clip: Clip, name: str, first: list[int], last: int) -> None:
    """Position 0 is the user's mark, 1 the start of audio for tokens; a half frame ends with slot 3 or 6 of 7."""
    model = build(name)
    model._ctc = lambda logits, frames, clips: (logits[0, :, 0], frames)  # type: ignore[method-assign]
    head = model.ctc_head.weight
    with torch.no_grad():
        model.ctc_head.bias[0], head[0] = 0.0, 1 / head.shape[1]
        places, frames = model._ctc_at_tokens(
            torch.arange(70.0)[None, :, None].expand(1, 70, head.shape[1]), [clip]
        )
    assert places[:3].tolist() == pytest.approx(first) and float(places[-1]) == pytest.approx(last)
    assert frames.tolist() == [len(places)]


@pytest.mark.parametrize("name", ["mel", "flat_ctc", "coarse_mid"])
def test_a_saved_model_hears_as_the_trained_one(
    clip: Clip, wave: np.ndarray, tmp_path: Path, name: str
) -> None:
    trained = build(name).eval()
    save_model(trained, tmp_path)
    assistant = load(tmp_path)
    prompt = assistant.processor.prepare(
        [{"role": "user", "content": [{"type": "audio", "audio": wave, "sampling_rate": RATE}]}]
    )
    rows = trained.listen([clip])[0]
    edges = trained.language_model.model.embed_tokens(torch.tensor([trained.user, trained.heard]))
    with torch.inference_mode():
        wanted = trained.backbone(torch.cat([edges[:1], rows[0], edges[1:]])[None])[0, -1]
        head = trained.language_model.get_input_embeddings().weight
        inputs = {k: torch.as_tensor(v) for k, v in prompt.items()}
        inputs["input_ids"] = inputs["input_ids"][None]
        got, wanted = assistant.model(**inputs).logits[0, -1], wanted @ head.t()
        assert float((got - wanted).abs().max()) < 0.02 * float(wanted.abs().max())
    reply = assistant.chat([{"role": "user", "content": [{"type": "audio", "audio": (wave, RATE)}]}])
    assert isinstance(reply.text, str)


def test_clips_of_a_step_hang_on_seed_and_step_only(clip: Clip, tmp_path: Path) -> None:
    rows = [
        {
            "split": "train", "voice": "v", "kind": "digit", "text": "two", "answer": "two", "seconds": 1.0 + i,
            "codes_at": 0, "codes_frames": 4, "mel_at": 0, "mel_frames": 30,
        }
        for i in range(40)
    ]  # fmt: skip
    stored = {"rows": rows, "codes": clip.codes, "mel": clip.mel.T.contiguous()}
    torch.save(stored, tmp_path / "data.pt")
    whole, part = NumbersData(tmp_path / "data.pt"), NumbersData(tmp_path / "data.pt", "digits", hours=0.05)
    lengths = [c.seconds for step in range(4) for c in whole.batch(step, 5)]
    assert lengths == [c.seconds for step in range(4) for c in whole.batch(step, 5)]
    assert len(set(lengths)) == 20, "four steps share one draw without a repeat"
    assert lengths != [c.seconds for step in range(4, 8) for c in whole.batch(step, 5)]
    few = [c.seconds for c in part.clips["train"]]
    assert few == [c.seconds for c in whole.clips["train"]][: len(few)] and 0.05 <= part.hours < 0.07


def test_sets_keep_voices_and_clips_apart() -> None:
    assert {set_of("train", f"espeak:en-us+{t}", n) for t in HELD_OUT_TIMBRES for n in range(30)} == {
        "voices"
    }
    assert [set_of("train", "espeak:en-us+f11", n) for n in range(3)] == ["known", "train", "train"]
    assert [set_of(s, "flite:slt", 1) for s in ("test_sentence", "test_voice", "test_digit")] == [
        "known",
        "voices",
        "people",
    ]


def test_measure_counts_exact_replies(clip: Clip) -> None:
    model = build("coarse")
    replies = iter([[("two plus two", "four"), ("two plus two", "five")], [("", "four")]])
    model.reply = lambda clips, max_new: next(replies)  # type: ignore[method-assign]
    got = measure(model, [clip] * 3, batch=2)
    assert got["transcript"][0] == got["answer"][0] == pytest.approx(2 / 3, abs=1e-4) and got["n"] == 3
    low, high = wilson(0, 200)
    assert low == 0 and high == pytest.approx(0.0188, abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)
