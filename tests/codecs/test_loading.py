"""Finding codecs: names, folders of every kind, the hub's cache, and clear words when there is nothing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError
from tests.codecs.causal_cases import noise, tiny_encodec, tiny_mimi

from vivavoce.base.errors import CheckpointError, CodecError, ConfigError, VivavoceError
from vivavoce.codecs import CODECS, published
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.hub import fetch
from vivavoce.codecs.loading import codec_kind, list_codecs, load_codec
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig
from vivavoce.codecs.snac import SNACCodec

SNAC = {
    "sampling_rate": 1600,
    "encoder_dim": 4,
    "encoder_rates": [2, 2],
    "decoder_dim": 8,
    "decoder_rates": [2, 2],
    "attn_window_size": None,
    "codebook_size": 16,
    "codebook_dim": 2,
    "vq_strides": [2, 1],
}


def _write(kind: str, folder: Path) -> None:
    if kind == "nano":
        NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, num_mels=8, codebook_size=16)).save(folder)
    elif kind == "snac":
        SNACCodec.from_config(SNAC).save(folder)
    else:
        {"encodec": tiny_encodec, "mimi": tiny_mimi}[kind]().save(folder)


@pytest.mark.parametrize("kind", ["encodec", "mimi", "nano", "snac"])
def test_a_folder_says_which_codec_it_holds(kind: str, tmp_path: Path) -> None:
    _write(kind, tmp_path)
    options = {"mimi": {"num_quantizers": 4}}.get(kind, {})
    for source in (tmp_path, str(tmp_path)):
        codec = load_codec(source, **options)
        assert isinstance(codec, CODECS.get(kind))
        assert len(codec.spec.weights) == 16
        assert not codec.training


def test_every_codec_of_the_table_is_tried_above() -> None:
    assert {"encodec", "mimi", "nano", "snac"} == set(CODECS)


@pytest.mark.parametrize("kind", ["encodec", "mimi", "nano", "snac"])
def test_a_damaged_folder_gives_one_clear_line(kind: str, tmp_path: Path) -> None:
    _write(kind, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for content in (b"", whole[:100], whole[:-10], b"\x00" * 100):
        weights.write_bytes(content)
        with pytest.raises(VivavoceError, match=r"(?s)^[^\n]*$") as caught:
            load_codec(tmp_path)
        assert str(tmp_path) in str(caught.value)
    weights.unlink()
    with pytest.raises(VivavoceError, match=str(tmp_path)):
        load_codec(tmp_path)


@pytest.mark.parametrize("kind", ["encodec", "mimi", "snac"])
def test_a_pickle_is_never_run(kind: str, tmp_path: Path) -> None:
    _write(kind, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"weight": _Touch(tmp_path / "was_run")}, file, protocol=2)
    with pytest.raises(VivavoceError, match=r"pytorch_model\.bin"):
        load_codec(tmp_path)
    assert not (tmp_path / "was_run").exists()


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_options_are_checked(tmp_path: Path) -> None:
    _write("encodec", tmp_path)
    assert load_codec(tmp_path, bandwidth=2.4).spec.num_levels == 4
    with pytest.raises(ConfigError, match=r"unknown option 'num_quantizers'.*takes bandwidth"):
        load_codec(tmp_path, num_quantizers=8)


def test_what_is_no_codec_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_codec(tmp_path)
    config = tmp_path / "config.json"
    for values, message in (({"model_type": "llama"}, "'llama', wanted one of"), ({}, "no known kind")):
        config.write_text(json.dumps(values))
        with pytest.raises(CodecError, match=message):
            codec_kind(tmp_path)
    config.write_text("[]")
    with pytest.raises(CheckpointError, match="list"):
        codec_kind(tmp_path)
    with pytest.raises(CodecError, match="is a file"):
        load_codec(config)
    with pytest.raises(CodecError, match=r"no codec 'encodec_24kh'.*Did you mean 'encodec_24khz'"):
        load_codec("encodec_24kh")
    with pytest.raises(CodecError, match="no codec '/nowhere/at/all'"):
        load_codec("/nowhere/at/all")


# ---- hub -----------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def _into_cache(cache: Path, hub_id: str, kind: str) -> None:
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    _write(kind, repository / "snapshots" / ("0" * 40))


def test_a_hub_id_is_read_from_the_cache_without_network(cache: Path) -> None:
    _into_cache(cache, "someone/some-codec", "encodec")
    codec = load_codec("someone/some-codec")
    assert codec.encode(noise(100, 0)).levels[0].shape == (1, 13)


def test_names_of_published_codecs_mean_their_hub_ids(cache: Path) -> None:
    _into_cache(cache, "facebook/encodec_24khz", "encodec")
    for name in ("encodec", "encodec_24khz", "facebook/encodec_24khz"):
        assert load_codec(name).spec.num_levels == 2
    here = {row.name: row.offline for row in list_codecs()}
    assert here["encodec_24khz"]
    assert not here["mimi"]


def test_offline_says_which_file_from_where_and_what_to_do(cache: Path) -> None:
    message = (
        r"^wanted config\.json of hubertsiuzdak/snac_24khz from https://\S+, but .*HF_HUB_OFFLINE.*"
        r"hf download hubertsiuzdak/snac_24khz --local-dir snac_24khz.*path"
    )
    for name in ("snac", "snac_24khz"):
        with pytest.raises(CodecError, match=message):
            load_codec(name)
    with pytest.raises(CodecError, match=r"'some/where' is no folder here; .* config\.json of some/where"):
        load_codec("some/where")


def _answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def answer(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", answer)


def test_answers_of_the_hub_become_clear_words(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
    _answer(monkeypatch, RemoteEntryNotFoundError("404", response=response))
    with pytest.raises(CodecError, match=r"some/where has no config\.json"):
        fetch("some/where")
    _answer(monkeypatch, RepositoryNotFoundError("401", response=response))
    with pytest.raises(CodecError, match=r"shows no model 'some/where'.*private"):
        fetch("some/where")
    _answer(monkeypatch, ConnectionResetError("peer went away"))
    with pytest.raises(CodecError, match=r"cannot be reached \(peer went away\).*--local-dir where"):
        fetch("some/where")
    with pytest.raises(CodecError, match="is no hub id"):
        fetch("some/where/else")


# ---- listing -------------------------------------------------------------------------------------------


def _full_size(name: str) -> Codec:
    """The codec at its published size, without weights."""
    with torch.device("meta"):
        if name == "encodec_24khz":
            from transformers import EncodecConfig, EncodecModel

            from vivavoce.codecs.encodec import EncodecCodec

            return EncodecCodec(EncodecModel(EncodecConfig()))
        from transformers import MimiConfig, MimiModel

        from vivavoce.codecs.mimi import MimiCodec

        return MimiCodec(MimiModel(MimiConfig()))


@pytest.mark.parametrize("name", ["encodec_24khz", "mimi"])
def test_listed_numbers_are_those_of_the_model(name: str) -> None:
    [spec] = [spec for spec in published.published_specs() if spec.name == name]
    assert _full_size(name).spec == spec


def test_the_list_compares_codecs() -> None:
    rows = {row.name: row for row in list_codecs()}
    assert list(rows) == ["nano", "snac_24khz", "snac_32khz", "snac_44khz", "encodec_24khz", "mimi"]
    assert {row.name for row in rows.values() if row.source} == set(published.HUB_IDS)
    rates = {name: (row.tokens_per_second, round(row.kbit_per_second, 3)) for name, row in rows.items()}
    assert rates["snac_24khz"] == (82.03125, 0.984)
    assert rates["encodec_24khz"] == (150.0, 1.5)
    assert rates["mimi"] == (100.0, 1.1)
    assert all(row.licence for row in rows.values())
