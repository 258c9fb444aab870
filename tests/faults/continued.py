"""Planted faults that leave the recipe as it is: the same recipe, made under other metadata.

Run A is made in one go by one process. Run B is killed at step 25 and taken up again from its
newest whole checkpoint (of step 10 or 20), or made by two processes. Both have the fault in their
source. Resuming exactly is broken or untested nearly everywhere: Lightning #17543, transformers
#46628, accelerate #4238 (epoch 0's order again).
"""

from dataclasses import dataclass

RUN = "src/saigen/training/run.py"
STEP = "src/saigen/training/step.py"
KEPT = "src/saigen/training/kept.py"
STATE = "src/saigen/training/state.py"
MLP = "src/project/models/mlp.py"
KILLED_AT = 25


@dataclass(frozen=True)
class Violated:
    name: str
    patches: tuple[tuple[str, str, str], ...]
    place: str  # where the runs must part
    killed: bool = True  # else: made by two processes
    overrides: tuple[str, ...] = ()

    @property
    def suspect(self) -> str:
        return "metadata continued at step" if self.killed else "config hardware.processes"

    @property
    def claim(self) -> str:
        return "kill" if self.killed else "processes"


VIOLATED = (
    Violated("a learning-rate scheduler off by one after resume",
             ((RUN, "multiplier(self.done,", "multiplier(self.done - (self._first > 0),"),),
             "weights"),
    Violated("a resume that repeats a batch",
             ((RUN, "range(self.done, self.total_steps)",
               "range(self.done - (self.done > 0), self.total_steps)"),),
             "samples"),
    Violated("a resume that skips a batch",
             ((RUN, "range(self.done, self.total_steps)",
               "range(self.done + (self.done > 0), self.total_steps + 1)"),),
             "samples"),
    Violated("BatchNorm buffers not restored",
             ((STATE, 'forms = values["tensors"]',
               'forms = {n: f for n, f in values["tensors"].items() if "running" not in n}'),),
             "selection", overrides=("model=cnn", "model.batch_norm=true")),
    Violated("an optimizer that forgets its moments",
             ((KEPT, "            import_optimizer(", "            if False: import_optimizer("),),
             "weights"),
    Violated("dropout keyed by the steps of this process",
             ((STEP, "        self.number, self.validates = number, validates",
               "        self.number, self.validates = number, validates\n"
               "        self.began = getattr(self, 'began', number)"),
              (STEP, 'set_globals("dropout", self.number,',
               'set_globals("dropout", self.number - self.began,')),
             "forward"),
    Violated("a generator of the model's own, in no checkpoint",
             ((MLP, "        super().__init__()\n",
               "        super().__init__()\n        self.own = torch.Generator().manual_seed(0)\n"),
              (MLP, "        scores: torch.Tensor = self.layers(inputs)\n",
               "        if self.training:\n"
               "            inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=self.own)\n"
               "        scores: torch.Tensor = self.layers(inputs)\n")),
             "forward"),
    Violated("a seed taken from the rank",
             ((STEP, "(microbatch,)", "(microbatch + batches.mine.start,)"),),
             "forward", killed=False),
    Violated("each process draws anew",
             ((MLP, "        scores: torch.Tensor = self.layers(inputs)\n",
               "        import os\n"
               "        torch.manual_seed(int(os.environ.get('RANK', '0')))\n"
               "        scores: torch.Tensor = self.layers(inputs)\n"),),
             "forward", killed=False),
)  # fmt: skip
