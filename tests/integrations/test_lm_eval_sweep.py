"""lm-eval's tasks under steering: the same numbers as its own models, all doses in one batch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_steer_lm_eval import PAIRS, library, likelihoods, vectors_for

import heartstrings
import models
from heartstrings.core.errors import InputError
from heartstrings.engines.hf.engine import TorchEngine

DATA = Path(__file__).parents[1] / "data" / "lm_eval"
pytest.importorskip("lm_eval.evaluator", reason="lm-eval with what it needs", exc_type=ImportError)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from heartstrings.integrations.lm_eval import SteeredLM, sweep

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval's, datasets' and evaluate's own


@pytest.fixture(scope="module", params=["organism", "llama"])
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    made: Any = heartstrings.load("organism:steerable") if request.param == "organism" else models.engine("llama")
    return made


def instances(kind: str, arguments: Any) -> list[Any]:
    return [library("lm_eval.api.instance").Instance(kind, {}, one, at) for at, one in enumerate(arguments)]


def task(name: str) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((DATA / f"{name}.yaml").read_text().replace("DATA/", f"{DATA}/"))
    return found


def hflm(engine: TorchEngine) -> Any:
    kind = library("lm_eval.models.huggingface").HFLM
    return kind(pretrained=engine.model, tokenizer=engine.tokenizer, device="cpu", backend="causal", batch_size=3)


def test_unsteered_it_is_lm_evals_own_model(engine: TorchEngine) -> None:
    pairs = [*PAIRS, ("The rain had stopped before ", "she reached the harbour")]
    asked = instances("loglikelihood", pairs)
    ours = SteeredLM(engine).loglikelihood(asked)
    theirs = hflm(engine).loglikelihood(asked, disable_tqdm=True)
    np.testing.assert_allclose([a for a, _ in ours], [a for a, _ in theirs], atol=1e-4)
    assert [b for _, b in ours] == [b for _, b in theirs]


def test_a_continuation_is_greedy_where_lm_eval_says_so(engine: TorchEngine) -> None:
    contexts = [pair[0] for pair in PAIRS]
    written = SteeredLM(engine).generate_until(
        instances("generate_until", [(c, {"max_gen_toks": 2, "until": []}) for c in contexts])
    )
    pairs = [pair for pair in zip(contexts, written, strict=True) if pair[1].strip()]
    assert pairs
    asked = instances("loglikelihood", [*pairs, PAIRS[0]])
    ours = [greedy for _, greedy in SteeredLM(engine).loglikelihood(asked)]
    assert ours == [greedy for _, greedy in hflm(engine).loglikelihood(asked, disable_tqdm=True)]
    assert any(ours)


def test_steered_it_is_lm_evals_steered_model(tmp_path: Path, engine: TorchEngine) -> None:
    vectors = vectors_for(engine)
    path = heartstrings.export_vectors(
        vectors, tmp_path / "steer.pt", direction="joyful", layers=(2,), dose=0.3, variant="raw"
    )
    theirs = likelihoods(library("lm_eval.models.hf_steered").SteeredModel, engine, steer_path=str(path))
    steering = heartstrings.make_steering(vectors, "joyful", dose=0.3, layers=2)
    ours = SteeredLM(engine, steering, greedy=False).loglikelihood(instances("loglikelihood", PAIRS))
    np.testing.assert_allclose([a for a, _ in ours], theirs, atol=1e-4)


def test_a_task_with_repeats_gets_another_draw_each_time(engine: TorchEngine) -> None:
    settings = {"max_gen_toks": 12, "do_sample": True, "temperature": 1.0, "until": []}
    drawn = SteeredLM(engine).generate_until(instances("generate_until", [(PAIRS[0][0], settings)] * 4))
    assert len(set(drawn)) > 1
    assert drawn == SteeredLM(engine).generate_until(instances("generate_until", [(PAIRS[0][0], settings)] * 4))
    greedy = {"max_gen_toks": 12, "until": []}
    assert len(set(SteeredLM(engine).generate_until(instances("generate_until", [(PAIRS[0][0], greedy)] * 4)))) == 1


def test_whole_texts(engine: TorchEngine) -> None:
    """Ours do not score the opening token itself; theirs does where the tokenizer writes one."""
    texts = [a + b for a, b in PAIRS]
    asked = instances("loglikelihood_rolling", [(text,) for text in texts])
    theirs = hflm(engine)
    theirs.add_bos_token = False
    np.testing.assert_allclose(
        SteeredLM(engine).loglikelihood_rolling(asked),
        theirs.loglikelihood_rolling(asked, disable_tqdm=True),
        atol=1e-3,
    )


def test_a_sweep_asks_all_doses_at_once_and_equals_one_dose_alone(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_for(engine)
    steerings = {
        dose: heartstrings.make_steering(vectors, "sad", dose=dose, layers=1) if dose else None
        for dose in (-0.4, 0.0, 0.4)
    }
    sizes: list[int] = []
    score = engine.score
    monkeypatch.setattr(engine, "score", lambda requests: (sizes.append(len(requests)), score(requests))[1])
    rows = sweep([task("opposites"), task("written")], engine, steerings)
    assert sizes == [8 * 2 * 3]
    monkeypatch.undo()
    assert {(row.task, row.dose) for row in rows} == {
        (name, dose) for name in ("local_opposites", "local_written") for dose in steerings
    }
    assert all(row.n == 8 and row.value is not None and 0 <= row.value <= 1 for row in rows)
    evaluate = library("lm_eval.evaluator").simple_evaluate
    plain = evaluate(model=hflm(engine), tasks=[task("opposites")], bootstrap_iters=0)["results"]["local_opposites"]
    ours = {row.metric: row.value for row in rows if row.dose == 0 and row.task == "local_opposites"}
    assert ours == {name: plain[name] for name in ours}
    alone = sweep([task("opposites")], engine, {0.4: steerings[0.4]})
    assert alone == [row for row in rows if row.dose == 0.4 and row.task == "local_opposites"]


def test_what_it_refuses() -> None:
    engine = models.engine("gpt2")
    asked = instances("generate_until", [("A", {"until": [], "repetition_penalty": 1.2})])
    with pytest.raises(InputError, match="repetition_penalty"):
        SteeredLM(engine).generate_until(asked)
    with pytest.raises(InputError, match="one of each"):
        sweep([], engine, {0.0: None})


def test_chats_go_through_the_template_once() -> None:
    engine = models.engine("llama", tokenizer=models.tokenizer(chat=True))
    model = SteeredLM(engine, greedy=False)
    text = model.apply_chat_template([{"role": "user", "content": "Is rain wet?"}])
    assert text.startswith("<s>")
    assert text.endswith("<|quiet|>")
    found = model.loglikelihood(instances("loglikelihood", [(text, "yes")]))[0][0]
    from heartstrings.core.engine import Message, ScoreRequest

    expected = engine.score([ScoreRequest((Message("user", "Is rain wet?"),), ("yes",))])[0].logprobs[0]
    assert found == pytest.approx(expected)
