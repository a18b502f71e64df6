"""The transformers engine: a loaded model with the methods of `Engine`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
import transformers
from jaxtyping import Float32, Int64
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heartstrings.core.engine import (
    Completion,
    GenerateRequest,
    PooledBatch,
    Prompt,
    Score,
    ScoreRequest,
    Trace,
    default_token_budget,
)
from heartstrings.core.errors import ModelError
from heartstrings.core.steering import Operation, Positions, Steering
from heartstrings.core.types import ModelInfo, Pooling, Site
from heartstrings.engines.hf import _fingerprint as fingerprint
from heartstrings.engines.hf import _generate as torch_generate
from heartstrings.engines.hf import _pool as torch_pool
from heartstrings.engines.hf import _read as torch_read
from heartstrings.engines.hf import _score as torch_score
from heartstrings.engines.hf import _session as torch_session
from heartstrings.engines.hf._architecture import Architecture, take_apart
from heartstrings.engines.hf._host_memory import give_back, keep_freed_memory
from heartstrings.engines.hf._sharing import Sharing, Shortcut
from heartstrings.engines.hf.text import Encoded, encode_texts
from heartstrings.vectors.algebra import Direction
from heartstrings.vectors.emotion_vectors import EmotionVectors


class TorchEngine:
    """Made by `heartstrings.load`, or by `from_model` from a model and tokenizer at hand.

    The model is not changed: hooks exist only while a method runs, training flags and gradients are restored, and the
    tokenizer used here is a copy.
    """

    share_trunk: bool = True
    """In `score` and `generate`, run the blocks below the steered one once a text; in `score`, run a prompt once for
    all its continuations. Results are the same; only the time differs."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parts: Architecture, info: ModelInfo
    ) -> None:
        self.model, self.parts, self.info = model, parts, info
        self.tokenizer = tokenizer
        self._head_checked = False
        self._last_encoded: tuple[tuple[PreTrainedTokenizerBase, tuple[str, ...], int], Encoded] | None = None
        self._trunks, self._branches, self._stems, self._prefills = Shortcut(), Shortcut(), Shortcut(), Shortcut()

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model_id: str = "in memory",
        revision: str | None = None,
        folder: Path | None = None,
        weights_hash: str | None = None,
        quantisation: str | None = None,
    ) -> TorchEngine:
        """Wrap a model that is already loaded.

        Args:
            folder: where its files are, for a fingerprint that equals the one of `heartstrings.load`.
            weights_hash: identifies the weights of a model that does not come from a folder (a GGUF file).
            quantisation: the type that the weights were stored in, if they were quantised.
        Raises:
            ModelError: the architecture is unknown, or a weight is NaN or Inf.
        """
        # A copy: calling a fast tokenizer rewrites its padding and truncation settings.
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.truncation_side = "right"
        parts = take_apart(model)
        broken = fingerprint.non_finite(model)
        if broken is not None:
            raise ModelError(
                f"the weights of {model_id} hold NaN or Inf in {broken}",
                "finite weights",
                "Load another copy, or another dtype",
            )
        embedding = parts.text_model.get_input_embeddings().weight
        if embedding.device.type == "cpu":
            keep_freed_memory()
        info = ModelInfo(
            model_id=model_id,
            revision=revision,
            architecture=str(model.config.model_type),
            n_layers=parts.n_layers,
            width=parts.width,
            is_encoder=parts.is_encoder,
            dtype=str(embedding.dtype).removeprefix("torch."),
            device=str(embedding.device),
            engine=f"torch {torch.__version__}, transformers {transformers.__version__}",
            weights_hash=weights_hash or _fingerprint(model, folder),
            quantisation=quantisation,
            template_hash=fingerprint.of_template(tokenizer),
            tokenizer_hash=fingerprint.of_tokenizer(tokenizer),
        )
        return cls(model, tokenizer, parts, info)

    def pool(
        self,
        texts: Sequence[str],
        *,
        layers: Sequence[int] | None = None,
        poolings: Sequence[Pooling] = (Pooling(),),
        site: Site = "block",
        token_budget: int | None = None,
        max_tokens: int = 512,
        done: Collection[int] = (),
        chunk: int | None = None,
    ) -> Iterator[PooledBatch]:
        """Mean residuals of each text at each layer, a batch at a time; all layers and rules in one pass.

        Plain text, with the special tokens that the tokenizer adds by itself. The model stops after the last
        layer asked for, and its unembedding never runs. Texts longer than `max_tokens`, or than the model's
        learned positions, are cut and flagged.

        Args:
            layers: all of them when None.
            token_budget: rows times longest text of a batch; None: `default_token_budget`. It decides the
                memory and the speed, not the results.
            done: numbers of batches to leave out, as in the plan of an earlier, interrupted run.
            chunk: run long texts in chunks of this many tokens with the model's cache: less memory, but twice the time
                for a text with sinks, which are known only at its end.
        Raises:
            InputError: no such layer; ModelError: out of memory on one text, a tokenizer of another model;
            NumericalError: NaN or Inf in a residual, with the text's number and first words.
        """
        return torch_pool.pool(
            self.parts,
            texts,
            lambda: self._encoded(texts, max_tokens),
            layers=layers,
            poolings=poolings,
            site=site,
            token_budget=default_token_budget(self.info.device, self.info.dtype)
            if token_budget is None
            else token_budget,
            done=done,
            chunk=chunk,
        )

    def read(
        self,
        prompts: Sequence[Prompt],
        directions: Float32[np.ndarray, "layer direction width"],
        *,
        layers: Sequence[int],
        centre: Float32[np.ndarray, "layer width"] | None = None,
        site: Site = "block",
    ) -> list[Trace]:
        """Projection of every token on every direction at its layer, minus the centre's, as `Trace`s in order.

        A chat is rendered by the model's template once, without a second BOS and with thinking switched off.

        Raises:
            InputError: widths or counts do not match; ModelError: no chat template, or a prompt longer than
            the model's positions; NumericalError: NaN or Inf in a residual.
        """
        return torch_read.read(self.parts, self.tokenizer, prompts, directions, layers=layers, centre=centre, site=site)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Natural-log probability of each continuation after its prompt.

        Prompt and continuation are tokenised separately and joined, so the boundary is where the request has it,
        even where the tokenizer would merge across it. Each request has its own steering; the continuation counts
        as generated.

        Raises:
            InputError: steering of another width, at an unknown layer, or at no token that is fed, before anything
            runs; ModelError: no such site, or a residual that did not move as asked; NumericalError: NaN or Inf.
        """
        with torch_session.inside(self.parts, requests) as own:
            sharing = Sharing(self._trunks, self._branches, self._stems, self._prefills) if self.share_trunk else None
            scores = torch_score.score(self.parts, self.tokenizer, own, sharing=sharing)
        give_back()
        return scores

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        """Sampled continuations. Each request has its own random generator, so its text for a seed does not depend on
        the other requests of the batch (except for float rounding, which may decide a near tie), and its own steering.
        Raises the errors of `score`."""
        with torch_session.inside(self.parts, requests) as own:
            trunks = self._prefills if self.share_trunk else None
            completions = torch_generate.generate(self.model, self.parts, self.tokenizer, own, trunks=trunks)
        give_back()
        return completions

    def steered(
        self,
        direction: str | Direction | Steering,
        *,
        dose: float | int | None = None,
        layer: int | Sequence[int] | None = None,
        operation: Operation = "add",
        positions: Positions = "all",
        site: Site = "block",
        vectors: EmotionVectors | None = None,
    ) -> AbstractContextManager[Steering]:
        """Steer every forward pass of `model` while the `with` lasts, plain `transformers` calls included:

            with engine.steered(vectors["calm"], dose=0.1, layer=14):
                pipeline("text-generation", model=engine.model, tokenizer=engine.tokenizer)("Dear Sir,")

        Afterwards, also after an exception, the hooks are removed and the model is as before. Nested `with` blocks add
        up, the outer first; `score` and `generate` inside add this steering to that of each request; `pool` and `read`
        are refused there. The prompt is the first call on a cache.

        Args:
            direction: a direction, a finished `Steering`, or an expression such as `calm - 0.5*sad` of `vectors`.
            dose: fraction of the mean residual norm; several layers share it, as in `make_steering`.
            layer: one or several; may be left out for a direction at one layer.
            positions: no characters, since outside calls pass no text.
            site: where a `Direction` belongs; a bundle and a `Steering` know it themselves.
            vectors: the bundle whose norms are the unit of dose; without it they are measured over the
                package's calibration texts, once an engine (equal to those of `extract`).
        Raises:
            InputError: another model's width, an unknown layer, a direction that is nothing, characters.
            HeartstringsError: inside, a call that does not tell which of its tokens are meant; at the end, calls
                of which none had a token to steer.
        """
        steering = torch_session.steering_for(
            self,
            self.parts,
            direction,
            dose=dose,
            layer=layer,
            operation=operation,
            positions=positions,
            site=site,
            vectors=vectors,
        )
        return torch_session.session(self.model, self.parts, steering)

    def unembed(self, states: Float32[np.ndarray, "state width"]) -> Float32[np.ndarray, "state vocab"]:
        """Logits of residual states through the final norm and the unembedding, soft cap included.

        Raises:
            ModelError: an encoder, a checkpoint without unembedding, or one that computes its logits otherwise.
        """
        if not self._head_checked:
            torch_read.check_head(self.model, self.parts)
            self._head_checked = True
        return torch_read.unembed(self.parts, states)

    def count_tokens(self, texts: Sequence[str], *, max_tokens: int = 512) -> Int64[np.ndarray, "text"]:
        """Tokens of each text as `pool` counts them: special tokens included, cut at `max_tokens` and the positions."""
        return self._encoded(texts, max_tokens).lengths

    def _encoded(self, texts: Sequence[str], max_tokens: int) -> Encoded:
        """Token ids of texts. The last result is kept: workflows count the tokens of texts before they pool them."""
        key, last = (self.tokenizer, tuple(texts), max_tokens), self._last_encoded
        if last is not None and last[0] == key:
            return last[1]
        limit = self.parts.position_limit
        cut = max_tokens if limit is None else min(max_tokens, limit)
        encoded = encode_texts(self.tokenizer, texts, max_tokens=cut, vocabulary=self.parts.vocabulary)
        self._last_encoded = (key, encoded)
        return encoded

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """Each token as readable text."""
        return [self.tokenizer.decode([int(index)], skip_special_tokens=False) for index in ids]


def _fingerprint(model: PreTrainedModel, folder: Path | None) -> str:
    return fingerprint.of_module(model, model.config.to_dict()) if folder is None else fingerprint.of_folder(folder)
