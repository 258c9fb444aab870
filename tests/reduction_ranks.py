"""What the processes of test_reduction.py do: train in groups of every size.

torch is imported once and the processes are forked from there, because importing it eight times
takes longer than everything else.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from saigen.digest import digest_bytes
from saigen.streams import Streams
from saigen.training.clipping import Clipping
from saigen.training.flat import FlatModel
from saigen.training.model_state import exported
from saigen.training.processes import Group
from saigen.training.reduction import Reduction

STREAMS = Streams({"init": 0, "data": 1, "dropout": 2})
STEPS = 4


def outcome(microbatches, rank, world, processes=None):
    """Train a CNN with BatchNorm and dropout; SHA-256 of all tensors and sums of every step."""
    STREAMS.set_globals("init")
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(144, 10),
    )  # fmt: skip
    flat = FlatModel(model, scalars=2, multiple=64 * world, microbatches=microbatches)
    reduction = Reduction(flat, Group(rank, world), microbatches, processes)
    seen = b""
    for step in range(STEPS):
        reduction.begin_step()
        for microbatch in reduction.mine:
            data = torch.Generator().manual_seed(STREAMS.key("data", step, microbatch) % 2**64)
            x, y = torch.randn(3, 1, 8, 8, generator=data), torch.randint(10, (3,), generator=data)
            STREAMS.set_globals("dropout", step, microbatch)
            loss = F.cross_entropy(model(x), y, reduction="sum")
            loss.backward()
            flat.scalars.copy_(torch.stack([loss.detach().double(), torch.tensor(3.0)]))
            reduction.end_microbatch(microbatch)
        reduction.end_step()
        with torch.no_grad():
            Clipping(flat.gradients, 1.0).mean_and_clip(flat.scalars[1].item())
            flat.weights[0].sub_(flat.gradients[0], alpha=0.1)  # an optimizer imports the compiler
        seen += b"".join(t.detach().numpy().tobytes() for t in (flat.scalars, *flat.gradients))
    seen += b"".join(t.numpy().tobytes() for t in exported(model).values())
    return digest_bytes(seen)


def be_rank(folder, rank, worlds, counts):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=max(worlds)
    )
    found = {}
    for world in worlds:
        processes = dist.new_group(list(range(world)))
        for microbatches in counts:
            if rank < world <= microbatches:
                found[f"{microbatches}/{world}"] = outcome(microbatches, rank, world, processes)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def main(folder, worlds, counts):
    fork = multiprocessing.get_context("fork")
    ranks = [
        fork.Process(target=be_rank, args=(folder, rank, worlds, counts))
        for rank in range(max(worlds))
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(max(abs(rank.exitcode) for rank in ranks))


if __name__ == "__main__":
    main(sys.argv[1], *(json.loads(text) for text in sys.argv[2:4]))
