"""Run under torchrun or alone: the outer gradient of a tiny WavLM for three raters, written by the leader.

python outer_gradient_program.py CHECKPOINT OUT
"""

import sys
from types import SimpleNamespace

import torch

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.methods import FINETUNED_SYSTEMS
from s3prl_metaperser.methods.base import new_head
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.finetuning import FineTunedModel


class Noise:
    """Waveforms by row, each from its own generator."""

    def __getitem__(self, rows):
        made = []
        for row in rows:
            generator = torch.Generator().manual_seed(int(row))
            made.append(torch.randn(4000 + 800 * int(row % 5), generator=generator) * 0.1)
        return made


def main(checkpoint: str, out: str) -> None:
    torch.set_num_threads(1)
    if parallel.wanted():
        parallel.start("gloo", "cpu")
    options = Options.from_config(
        {
            "runner": {"total_steps": 4},
            "downstream_expert": {
                "modelrc": {"projector_dim": 8},
                "metarc": {"shots": 4, "inner_steps": 2, "inner_lr": 0.1, "derivative_annealing": False},
                "tunerc": {"micro_batch_seconds": 1.0},
            },
        }
    )
    head = new_head(options, 3, 16, 9, "test")
    model = FineTunedModel(build_upstream("wavlm_local", ckpt=checkpoint), head, options.downstream_expert.tunerc)
    task = SimpleNamespace(
        model=model, waveforms=Noise(), class_weights=torch.ones(9), device=torch.device("cpu"), seed=0, options=options
    )
    system = FINETUNED_SYSTEMS.get("Meta-PerSER")(options, task.class_weights)
    state = system.blank(task)
    targets = torch.softmax(torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(1)), -1)
    targets[2, 3] = 0  # the third rater has three samples only
    rows = torch.arange(12).reshape(3, 4)
    batch = EpisodeBatch([], ["a", "b", "c"], rows, targets, rows, targets)
    loss = system.outer_gradient(state, batch, step=1, task=task)
    gradients = {name: p.grad for name, p in state.parameters().items()}
    if parallel.is_leader():
        torch.save({"loss": loss, "rates": state.rates.values.grad, **gradients}, out)
    parallel.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
