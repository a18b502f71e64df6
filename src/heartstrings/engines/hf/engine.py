"""The transformers engine: one loaded model behind the verbs of `Engine`."""

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

from heartstrings.core.engine import Completion, GenerateRequest, PooledBatch, Prompt, Score, ScoreRequest, Trace
from heartstrings.core.errors import ModelError
from heartstrings.core.steering import Operation, Positions, Steering
from heartstrings.core.types import ModelInfo, Pooling, Site
from heartstrings.engines.hf import fingerprint
from heartstrings.engines.hf import generate as torch_generate
from heartstrings.engines.hf import pool as torch_pool
from heartstrings.engines.hf import read as torch_read
from heartstrings.engines.hf import score as torch_score
from heartstrings.engines.hf import session as torch_session
from heartstrings.engines.hf.architecture import Architecture, take_apart
from heartstrings.engines.hf.branches import Branches
from heartstrings.engines.hf.host_memory import keep_freed_memory
from heartstrings.engines.hf.text import encode_texts
from heartstrings.engines.hf.trunk import Trunks
from heartstrings.vectors.algebra import Direction
from heartstrings.vectors.emotion_vectors import EmotionVectors


class TorchEngine:
    """Made by `heartstrings.load`, or by `from_model` from a model and tokenizer at hand.

    The model stays as it is, bit for bit: hooks live only while a verb runs, training flags and gradients are
    put back, and the tokenizer used here is a copy.
    """

    share_trunk: bool = True
    """In `score` and `generate`, run the blocks below the steered one once a text; in `score`, a prompt once for all
    its continuations. Changes the time and nothing else."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parts: Architecture, info: ModelInfo
    ) -> None:
        self.model, self.parts, self.info = model, parts, info
        self.tokenizer = tokenizer
        self.device = parts.text_model.get_input_embeddings().weight.device
        self._head_checked = False
        self._trunks, self._branches, self._prefills = Trunks(), Branches(), Trunks()

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
            weights_hash: what identifies the weights, where that is not the folder's files (a GGUF file).
            quantisation: the type that they were stored in, if they were quantised.
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
        token_budget: int = 8192,
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
            token_budget: rows times longest text of a batch. Memory follows it, results do not.
            done: numbers of batches to leave out, as in the plan of an earlier, interrupted run.
            chunk: run long texts in stretches of this many tokens through the model's cache: less memory, and
                twice the time for a text with sinks, since those are known only at its end.
        Raises:
            InputError: no such layer; ModelError: out of memory on one text, a tokenizer of another model;
            NumericalError: NaN or Inf in a residual, with the text's number and first words.
        """
        return torch_pool.pool(
            self.parts,
            self.tokenizer,
            self.device,
            texts,
            layers=layers,
            poolings=poolings,
            site=site,
            token_budget=token_budget,
            max_tokens=max_tokens,
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
        return torch_read.read(
            self.parts, self.tokenizer, self.device, prompts, directions, layers=layers, centre=centre, site=site
        )

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Natural-log probability of each continuation after its prompt.

        Prompt and continuation are tokenised on their own and joined, so the boundary is where the request
        puts it, even where the tokenizer would have merged across it. Each request is steered in its own way;
        the continuation counts as generated.

        Raises:
            InputError: steering of another width, at an unknown layer, or at no token that is fed, before anything
            runs; ModelError: no such site, or a residual that did not move as asked; NumericalError: NaN or Inf.
        """
        with torch_session.inside(self.parts, requests) as own:
            sharing = torch_score.Sharing(self._trunks, self._branches) if self.share_trunk else None
            return torch_score.score(self.parts, self.tokenizer, self.device, own, sharing=sharing)

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        """Sampled continuations. Each request draws from its own generator, so its text for a seed does not
        depend on what else is in the batch (beyond float rounding, which may tip a near tie). Each is steered in
        its own way. Raises as `score` does."""
        with torch_session.inside(self.parts, requests) as own:
            trunks = self._prefills if self.share_trunk else None
            return torch_generate.generate(self.model, self.parts, self.tokenizer, self.device, own, trunks=trunks)

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

        Afterwards, also after an exception, the hooks are gone and the model is bitwise as before. Several `with`
        add up, the outer first; `score` and `generate` inside add theirs to each request's own; `pool` and
        `read` are refused there. The prompt is what the first call on a cache carries.

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
        steering = torch_session.what_to_do(
            self, self.parts, direction, dose=dose, layer=layer, operation=operation, positions=positions, site=site,
            vectors=vectors,
        )  # fmt: skip
        return torch_session.session(self.model, self.parts, steering)

    def unembed(self, states: Float32[np.ndarray, "state width"]) -> Float32[np.ndarray, "state vocab"]:
        """Logits of residual states through the final norm and the unembedding, soft cap included.

        Raises:
            ModelError: an encoder, a checkpoint without unembedding, or one whose logits take another way.
        """
        if not self._head_checked:
            torch_read.check_head(self.model, self.parts, self.device)
            self._head_checked = True
        return torch_read.unembed(self.parts, self.device, states)

    def count_tokens(self, texts: Sequence[str], *, max_tokens: int = 512) -> Int64[np.ndarray, "text"]:
        """Tokens of each text as `pool` counts them: special tokens included, cut at `max_tokens`."""
        return encode_texts(self.tokenizer, texts, max_tokens=max_tokens, vocabulary=self.parts.vocabulary).lengths

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """Each token as text a person can read."""
        return [self.tokenizer.decode([int(index)], skip_special_tokens=False) for index in ids]


def _fingerprint(model: PreTrainedModel, folder: Path | None) -> str:
    return fingerprint.of_module(model, model.config.to_dict()) if folder is None else fingerprint.of_folder(folder)
