"""The distribution layer: how the sum behind one update is split, in logic, not in processes."""

from saigen.recipe.layer import Layer
from saigen.recipe.schema import Agreement, Hardware, Trainer


def capture(trainer: Trainer, agreement: Agreement, hardware: Hardware) -> Layer:
    """Under the fixed tree the number of processes is a circumstance, else it counts."""
    return Layer(
        "distribution",
        {
            "reduction": agreement.reduction,
            "microbatches": trainer.microbatches,
            "microbatch_examples": trainer.batch_examples // trainer.microbatches,
            "processes": hardware.processes if agreement.reduction == "allreduce" else "any",
        },
    )
