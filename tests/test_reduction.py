"""What the fixed tree promises: the same bits for any number of processes."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TIMEOUT
from torch import nn

import saigen
from saigen.training.flat import FlatModel
from saigen.training.processes import Group
from saigen.training.reduction import Reduction
from saigen.training.tree import Accumulator, Node, share, subtrees

sys.path.insert(0, str(Path(__file__).parent))
from reduction_ranks import outcome

WORLDS = [1, 2, 3, 4, 5, 6, 7, 8]
COUNTS = [6, 8]


def written(leaves, some=None):
    """The tree's shape as text, e.g. ((0+1)+2)."""
    tree = Accumulator[str](leaves, lambda left, right: f"({left}+{right})")
    for leaf in some or range(leaves):
        tree.push(Node(0, leaf), str(leaf))
    return [value for _, value in tree.held]


@pytest.mark.parametrize(
    ("leaves", "shape"),
    [
        (1, "0"),
        (2, "(0+1)"),
        (3, "((0+1)+2)"),
        (5, "(((0+1)+(2+3))+4)"),
        (6, "(((0+1)+(2+3))+(4+5))"),
        (7, "(((0+1)+(2+3))+((4+5)+6))"),
        (8, "(((0+1)+(2+3))+((4+5)+(6+7)))"),
    ],
)
def test_the_tree_over_a_number_of_microbatches_is_this_one(leaves, shape):
    assert written(leaves) == [shape]


def test_any_number_of_processes_finishes_the_same_tree():
    for leaves in range(1, 40):
        for world in range(1, leaves + 1):
            shares = [share(leaves, rank, world) for rank in range(world)]
            assert list(itertools.chain(*shares)) == list(range(leaves))
            tree = Accumulator[str](leaves, lambda left, right: f"({left}+{right})")
            for some in shares:
                assert some
                nodes = subtrees(leaves, some)
                for node, text in zip(nodes, written(leaves, some), strict=True):
                    tree.push(node, text)
            assert [value for _, value in tree.held] == written(leaves)


def test_few_sums_are_alive_at_any_time():
    for leaves in (1, 2, 7, 8, 100, 1024):
        tree = Accumulator[int](leaves, lambda left, right: left + right)
        alive = 0
        for leaf in range(leaves):
            tree.push(Node(0, leaf), 1)
            alive = max(alive, len(tree.held))
        assert alive <= max(1, leaves.bit_length() - 1 + (leaves & (leaves - 1) != 0))
        assert tree.held[0][1] == leaves


def test_a_process_of_a_power_of_two_sends_one_sum():
    for world in (1, 2, 4, 8):
        assert all(len(subtrees(8, share(8, rank, world))) == 1 for rank in range(world))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The outcomes of real processes over Gloo, in groups of every size."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("reduction_ranks.py")
    command = [
        sys.executable,
        "-W",
        "error",
        script,
        folder,
        json.dumps(WORLDS),
        json.dumps(COUNTS),
    ]
    source = Path(saigen.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(source), "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(command, env=environment, check=True, timeout=TIMEOUT)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(max(WORLDS))]


@pytest.mark.parametrize("microbatches", COUNTS)
def test_any_number_of_processes_gives_the_same_bits_on_every_rank(found, microbatches):
    torch.set_num_threads(1)
    alone = outcome(microbatches, 0, 1)
    for world in WORLDS:
        if world <= microbatches:
            held = [found[rank][f"{microbatches}/{world}"] for rank in range(world)]
            assert held == [alone] * world, f"{world} processes"


def test_the_number_of_microbatches_belongs_to_the_recipe(found):
    assert found[0]["6/1"] != found[0]["8/1"]


# ------------------------------------------------------------------------------ one process


def flat_of(elements, multiple=64):
    return FlatModel(
        nn.Linear(elements, 1, bias=False), scalars=1, multiple=multiple, microbatches=1
    )


def total_of(leaves, count):
    flat = flat_of(leaves.shape[1])
    reduction = Reduction(flat, Group(0, 1), count)
    for _ in range(2):  # the second step must not see the first
        reduction.begin_step()
        for microbatch in reduction.mine:
            flat.gradients[0].add_(leaves[microbatch])
            flat.scalars += 1
            reduction.end_microbatch(microbatch)
        reduction.end_step()
    assert flat.scalars.item() == count
    return flat.gradients[0].clone()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 13])
def test_gradients_are_added_in_the_tree_s_order_to_the_bit(count):
    torch.manual_seed(0)
    leaves = torch.randn(count, 64) * torch.logspace(-3, 3, count)[:, None]
    tree = Accumulator[torch.Tensor](count, lambda left, right: left + right)
    for leaf in range(count):
        tree.push(Node(0, leaf), leaves[leaf])
    [(_, expected)] = tree.held
    assert torch.equal(total_of(leaves, count), expected)
    if count > 3:
        one_after_the_other = leaves[0].clone()
        for leaf in leaves[1:]:
            one_after_the_other += leaf
        assert not torch.equal(one_after_the_other, expected)


def test_batchnorm_counts_steps_and_not_microbatches():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    flat = FlatModel(model, scalars=1, multiple=64, microbatches=3)
    reduction = Reduction(flat, Group(0, 1), 3)
    for _ in range(5):
        reduction.begin_step()
        for microbatch in reduction.mine:
            model(torch.randn(2, 4)).sum().backward()
            reduction.end_microbatch(microbatch)
        reduction.end_step()
    assert model[1].num_batches_tracked == 5
