"""How does the time of pooling depend on the tokens in a batch?

    OMP_NUM_THREADS=1 python bench/token_budget.py [MODEL] [--budgets 512,1024,2048,8192] [--rounds 4] [--texts 48]

Pools all layers of every tenth shipped story. The budgets take turns within each round, in random order; the figure is
the median ratio of processor time to the first budget. `naive`: batches of eight by length with `output_hidden_states`.
With MALLOC_TRIM_THRESHOLD_=131072 in the environment the C library gives freed memory back (`engines.hf._host_memory`).
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

import torch

import heartstrings
from heartstrings.core.types import Pooling
from heartstrings.corpus import shipped_stories

START = 50


def naive(engine: Any, texts: list[str]) -> list[torch.Tensor]:
    rows = sorted((engine.tokenizer(text)["input_ids"] for text in texts), key=len)
    means = []
    for start in range(0, len(rows), 8):
        some = rows[start : start + 8]
        width = max(map(len, some))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in some])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in some])
        with torch.no_grad():
            output = engine.parts.text_model(ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        late = mask[:, START:, None].float()
        means += [(state[:, START:] * late).sum(1) / late.sum(1) for state in output.hidden_states[1:]]
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--budgets", default="1024,256,512,2048,4096,8192")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--texts", type=int, default=48)
    given = parser.parse_args()
    engine: Any = heartstrings.load(given.model)
    texts = list(shipped_stories().texts[::10])[: given.texts]
    budgets = [int(budget) for budget in given.budgets.split(",")]

    def pool(budget: int) -> None:
        for _ in engine.pool(texts, poolings=(Pooling(start=START),), token_budget=budget):
            pass

    jobs: dict[str, Any] = {str(budget): lambda budget=budget: pool(budget) for budget in budgets}
    jobs["naive"] = lambda: naive(engine, texts)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    pool(budgets[0])
    for number in range(given.rounds):
        order = list(jobs)
        random.Random(number).shuffle(order)
        for name in order:
            begun = time.process_time()
            jobs[name]()
            times[name].append(time.process_time() - begun)
    print(f"{int(engine.count_tokens(texts).sum()):,} tokens, {torch.get_num_threads()} thread(s)")
    for name, own in times.items():
        ratios = [one / first for one, first in zip(own, times[str(budgets[0])], strict=True)]
        print(f"{name:>6} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
