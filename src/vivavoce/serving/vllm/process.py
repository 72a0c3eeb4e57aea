"""vLLM's own server as a child process, and the engine in front of it."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import GenerationConfig

from vivavoce.base.errors import ConfigError, MissingExtraError, ModelError
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig
from vivavoce.models.loading import MODEL_TYPE, find_folder, model_kind, read_plain
from vivavoce.models.presets.preset import find_ears_preset
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.serving.running import listen
from vivavoce.serving.vllm.answers import RemoteAssistant, RemoteEngine
from vivavoce.serving.vllm.completions import Completions

log = logging.getLogger("vivavoce.serving")

SLOTS = "vivavoce.serving.vllm.slots:AudioSlots"
READY_S = 1800.0  # longest time to load a model
STOP_S = 30.0


class VllmProcess:
    """vLLM's OpenAI server on a port of this machine, with a key that only we know.

    Args:
        folder: The model, as ``vivavoce export --to vllm`` writes it.
        name: What it is to call the model.
        arguments: More of vLLM's own options.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigError: It ended before it served.
    """

    def __init__(self, folder: Path, name: str, arguments: Sequence[str] = ()) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError(
                "--engine vllm needs vLLM, which is not installed: pip install vllm. Or start it elsewhere and give "
                "--vllm-url URL."
            )
        with listen("127.0.0.1", 0) as door:
            port = door.getsockname()[1]
        self.key, self.url = secrets.token_hex(24), f"http://127.0.0.1:{port}"
        self._stopping = False
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
        command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--logits-processors", SLOTS, *arguments]
        environment = {"VLLM_API_KEY": self.key, "VLLM_USE_V2_MODEL_RUNNER": "0"}
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=sys.stderr,
            start_new_session=True,
        )

    def wait(self, completions: Completions) -> None:
        """Wait until it serves, and end with it from then on.

        Raises:
            ConfigError: It ended instead.
        """
        end = time.monotonic() + READY_S
        try:
            while not completions.healthy():
                if self._process.poll() is not None or time.monotonic() > end:
                    code = self._process.poll()
                    raise ConfigError(f"vLLM did not start (exit code {code}); what it wrote above says why.")
                time.sleep(0.2)
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """End it, with all of its processes."""
        self._stopping = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(STOP_S)
                return
            except subprocess.TimeoutExpired:
                continue

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._stopping:
            log.error("vllm died", extra={"fields": {"exit_code": code}})
            os.kill(os.getpid(), signal.SIGTERM)  # whoever looks after us starts both again


def make_engine(model: str, name: str, url: str | None = None, arguments: Sequence[str] = ()) -> RemoteEngine:
    """An engine whose tokens vLLM draws.

    Args:
        model: Folder or hub id of a causal LM with audio tokens, as ``vivavoce export`` writes it; its weights are not
            read here.
        name: Its id in requests, and vLLM's name for it.
        url: A vLLM that runs already; None starts one.
        arguments: More of vLLM's own options, for the one that is started.

    Raises:
        ModelError: Not such a model.
        MissingExtraError, ConfigError: As ``VllmProcess``; or nobody answers at ``url``.
    """
    folder = find_folder(model)
    config, processor = read_plain(folder, _plain_kind(folder, model))
    text_model_free = SpeechLM(config, defer_text_model=True)
    if (folder / "generation_config.json").is_file():
        text_model_free.generation_config = GenerationConfig.from_pretrained(folder)
    process = None if url else VllmProcess(folder, name, arguments)
    completions = Completions(
        url or process.url,  # type: ignore[union-attr]
        name,
        process.key if process else os.environ.get("VLLM_API_KEY"),
    )
    if process is not None:
        process.wait(completions)
    elif not completions.healthy():
        raise ConfigError(f"no vLLM answers at {url}/health; start it, or leave out --vllm-url.")
    return RemoteEngine(RemoteAssistant(completions, text_model_free, processor, name), name, process)


def _plain_kind(folder: Path, model: str) -> str | None:
    """The kind of a causal LM.

    Raises:
        ModelError: Another form; says what to do.
    """
    kind = model_kind(folder)
    if kind == MODEL_TYPE:
        ears = isinstance(SpeechLMConfig.from_pretrained(folder).audio_in, EmbeddingsIn)
        step = (
            "models that hear by embeddings are served by `vivavoce serve` itself, or exported to Ultravox's form and "
            "served by vLLM's own server"
            if ears
            else f"write what vLLM serves first: vivavoce export {model} DST"
        )
        raise ModelError(f"{model} is not in a form that vLLM serves; {step}.")
    if find_ears_preset(folder) is not None:
        raise ModelError(
            f"vLLM serves {model} with its audio on its own: vllm serve {model} --trust-remote-code; there is nothing "
            "for us to do in front of it."
        )
    return kind
