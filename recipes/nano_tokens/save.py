"""Write a trained run as a model folder that `vivavoce chat` takes like any other.

python recipes/nano_tokens/save.py --run runs/nano_tokens/flat --out runs/nano_tokens/flat/model

Ears by tokens get a codec of their own in the folder, without the levels that they do not hear. The summed ear has no
model type in the package and is not written.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from numbers_data import TypedFacts
from safetensors.torch import load_file, save_file
from two_ears import ANSWER, EARS, TwoEars, build_language_model, build_tokenizer

from vivavoce.base.records import write_record
from vivavoce.codecs.loading import find_folder, load_codec
from vivavoce.models.config import SpeechLMConfig, TokensIn
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM


def cut_codec(source: str, levels: int, out: Path) -> None:
    """Copy the embedded codec with its first ``levels`` levels only."""
    folder = find_folder(source)
    config = json.loads((folder / "config.json").read_text())
    left_out = tuple(f"quantizers.{i}." for i in range(levels, len(config["strides"])))
    stored = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in stored.items() if not name.startswith(left_out)}
    config["strides"] = config["strides"][:levels]
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def save_model(trained: TwoEars, out: Path, codec: str = "nano") -> None:
    """Write weights, config, tokenizer and, for ears by tokens, the codec."""
    if trained.ear.kind == "mel":
        audio_in = {
            "type": "embeddings",
            "encoder": {"type": "mel_ctc", **write_record(trained.encoder_config)},
            "connector": {"type": "stack", **write_record(trained.connector_config)},
            "audio_token_id": trained.tokenizer.convert_tokens_to_ids("<|audio|>"),
            "transcript_first": True,
            "answer_token": ANSWER,
            "unclear_token": "<unk>",
        }
    elif trained.ear.kind == "tokens":
        assert trained.vocabulary is not None
        cut_codec(codec, trained.ear.levels, out / "codec")
        audio_in = TokensIn(codec="codec", vocabulary=trained.vocabulary.to_dict())
    else:
        raise SystemExit("the package has no model type for summed codec tokens; nothing was written.")
    config = SpeechLMConfig(
        text_config=trained.language_model.config,
        audio_in=audio_in,
        text_form="spoken",
        description="Spoken sums and numbers by a language model of random start, see docs/two-kinds-of-ears.md.",
    )
    model = SpeechLM(config)
    weights = {k: v for k, v in trained.state_dict().items() if not k.startswith("ctc_head.")}
    model.load_state_dict(weights, strict=True)
    model.save_pretrained(out)
    SpeechProcessor.for_config(trained.tokenizer, config).save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    state = torch.load(args.run / "state.pt", weights_only=True)
    tokenizer = build_tokenizer(TypedFacts().words())
    trained = TwoEars(
        EARS[state["ear"]], tokenizer, load_codec("nano").spec, build_language_model(len(tokenizer))
    )
    trained.load_state_dict(state["model"])
    save_model(trained, args.out)
    print(f"{args.out}: vivavoce chat {args.out} --audio CLIP.wav")


if __name__ == "__main__":
    main()
