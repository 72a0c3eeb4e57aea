"""The transformer connector: names and shapes of Ultravox v0.7, batches, padding, and its arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models import CONNECTORS
from vivavoce.models.config import build_part
from vivavoce.models.connectors.transformer import TransformerProjector, TransformerProjectorConfig

SIZES = {"encoder_size": 16, "text_size": 12, "num_layers": 2, "stack_factor": 4, "num_heads": 2}
FRAMES = torch.tensor([11, 5, 16])  # 3, 2 and 4 positions


def connector(**more: object) -> TransformerProjector:
    torch.manual_seed(0)
    record = {"type": "transformer", **SIZES, "intermediate_size": 24, "max_positions": 10, **more}
    made: TransformerProjector = build_part(CONNECTORS, record, "audio_in.connector")
    for parameter in made.parameters():  # gains and biases too, so that each of them matters
        torch.nn.init.normal_(parameter, std=0.4)
    return made.eval()


def states() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 16, 16)  # what lies past a clip's end is not zero


def by_hand(made: TransformerProjector, clip: Tensor) -> Tensor:
    """The published arithmetic in plain steps, for one clip without padding, [F, D] -> [P, D_text]."""
    tensors = dict(made.state_dict())

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def rms(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * tensors[f"{name}.weight"]

    def layer_norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5)

    size, width = made.config.stack_factor, clip.shape[1]
    x = F.pad(clip, (0, 0, 0, -len(clip) % size)).reshape(-1, size * width)
    x = linear(rms(x, "ln_pre"), "linear_in")
    x = x + tensors["embed_positions.weight"][: len(x)]
    heads, each = made.config.num_heads, width // made.config.num_heads
    for i in range(made.config.num_layers):
        at = f"layers.{i}"
        y = layer_norm(x, f"{at}.self_attn_layer_norm")
        q, k, v = (
            linear(y, f"{at}.self_attn.{name}_proj").reshape(-1, heads, each).transpose(0, 1)
            for name in "qkv"
        )
        mixed = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(each), dim=-1) @ v
        x = x + linear(mixed.transpose(0, 1).reshape(-1, width), f"{at}.self_attn.out_proj")
        y = layer_norm(x, f"{at}.final_layer_norm")
        x = x + linear(F.gelu(linear(y, f"{at}.fc1")), f"{at}.fc2")
    return linear(rms(x, "ln_post"), "linear_out")


def test_arithmetic() -> None:
    made, clip = connector(), states()[:1, :11]
    embeddings, counts = made(clip, torch.tensor([11]))
    assert counts.tolist() == [3]
    torch.testing.assert_close(embeddings[0], by_hand(made, clip[0]), rtol=1e-5, atol=1e-5)


def test_a_batch_gives_each_clip_what_it_gets_alone() -> None:
    made = connector()
    together, counts = made(states(), FRAMES)
    assert counts.tolist() == made.num_tokens(FRAMES).tolist() == [3, 2, 4]
    for i, n in enumerate(FRAMES.tolist()):
        alone, _ = made(states()[i : i + 1, :n], FRAMES[i : i + 1])
        torch.testing.assert_close(together[i, : counts[i]], alone[0], rtol=1e-5, atol=1e-5)


def test_reference_padding_takes_padding_into_the_last_position_but_attends_to_none_of_it() -> None:
    made, noisy = connector(), states()
    made.reference_padding = True
    together, counts = made(noisy, FRAMES)
    for i, count in enumerate(counts.tolist()):
        whole = count * made.config.stack_factor  # a clip's own frames and the padding of its last position
        alone, _ = made(noisy[i : i + 1, :whole], torch.tensor([whole]))
        torch.testing.assert_close(together[i, :count], alone[0], rtol=1e-5, atol=1e-5)
    neutral, _ = connector()(noisy, FRAMES)
    assert not torch.allclose(together[0, :3], neutral[0, :3], atol=1e-3)


def test_two_streams_count_as_the_longer() -> None:
    made = connector()
    frames = torch.stack([FRAMES - 4, FRAMES], dim=1)
    _, counts = made(states(), frames)
    assert counts.tolist() == made.num_tokens(frames).tolist() == [3, 2, 4]


def test_names_and_shapes_at_full_size() -> None:
    """GLM-4.6 is 5120 wide; the layers are those of whisper-large-v3-turbo."""
    with torch.device("meta"):
        made = TransformerProjector(
            TransformerProjectorConfig(encoder_size=1280, text_size=5120, num_layers=2)
        )
    shapes = {name: list(p.shape) for name, p in made.state_dict().items()}
    layer = {
        **{f"self_attn.{name}_proj.weight": [1280, 1280] for name in ("q", "k", "v", "out")},
        **{f"self_attn.{name}_proj.bias": [1280] for name in ("q", "v", "out")},
        **{
            f"{norm}.{kind}": [1280]
            for norm in ("self_attn_layer_norm", "final_layer_norm")
            for kind in ("weight", "bias")
        },
        **{"fc1.weight": [5120, 1280], "fc1.bias": [5120], "fc2.weight": [1280, 5120], "fc2.bias": [1280]},
    }
    assert shapes == {
        "ln_pre.weight": [10240],
        "linear_in.weight": [1280, 10240],
        "linear_in.bias": [1280],
        "embed_positions.weight": [1500, 1280],
        **{f"layers.{i}.{name}": shape for i in range(2) for name, shape in layer.items()},
        "ln_post.weight": [1280],
        "linear_out.weight": [5120, 1280],
        "linear_out.bias": [5120],
    }


def test_gradients_reach_every_parameter() -> None:
    made = connector().train()
    made(states(), FRAMES)[0].square().sum().backward()
    # the bias of a key shifts every score of a query alike, so Whisper has none
    assert not [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]


def test_faults_are_named() -> None:
    with pytest.raises(ModelError, match="4 stacked positions; this connector has learned positions for 3"):
        connector(max_positions=3)(states(), FRAMES)
    with pytest.raises(ConfigError, match="num_layers is 0"):
        connector(num_layers=0)
    with pytest.raises(ConfigError, match="encoder_size is 16, wanted a multiple of num_heads 3"):
        connector(num_heads=3)
