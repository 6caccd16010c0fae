"""The runs of the reproduction: which network is trained on what, with which penalties, for how many steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["RUNS", "SEEDS", "Run", "named"]

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes
    ----------
    group : str
        What is shown together; see `RUNS`.
    data : str
        A data set of `reproduce.data_sets`.
    weight_decay : float
        ``(weight_decay/2) |parameters|^2``, of all parameters, or of the head alone where the features are penalised.
        The loss beside it is ``1/2 |prediction - target|^2``, summed over the outputs and averaged over the samples.
    feature_penalty : float or None
        lambda_H of the UFM loss, ``(lambda_H/2) |h|^2`` averaged over the samples. None: not that loss.
    steps : int
    hidden, width : int
        Number and width of the hidden layers.
    last_relu : bool
        Whether the features have a ReLU.
    activation : {"relu", "linear"}
    biases : bool
    network : {"dense", "convolutions"}
    initial_scale : float
        Of the initial weights beside torch's own, which let the signal of deep networks without biases die out.
    learning_rate, momentum, cooling : float
        The learning rate is constant, and falls to 0 over the share `cooling` of the steps, at the end.
    batch : int
    seed : int
        Of the initial weights and of the order of the samples.
    """

    group: str
    data: str
    weight_decay: float
    steps: int
    feature_penalty: float | None = None
    hidden: int = 3
    width: int = 256
    last_relu: bool = True
    activation: str = "relu"
    biases: bool = True
    network: str = "dense"
    initial_scale: float = 1.0
    learning_rate: float = 0.1
    momentum: float = 0.9
    cooling: float = 0.3
    batch: int = 256
    seed: int = 0

    @property
    def c(self) -> float | None:
        """lambda_W lambda_H of the UFM loss."""
        return None if self.feature_penalty is None else self.weight_decay * self.feature_penalty

    @property
    def setting(self) -> Run:
        """The same run with the first seed: what runs of several seeds have in common."""
        return replace(self, seed=SEEDS[0])

    @property
    def name(self) -> str:
        """A name that no other run has, for its file."""
        penalty = "" if self.feature_penalty is None else f"-features-{self.feature_penalty:g}"
        depth = f"-{self.activation}-{self.hidden}" if self.group in ("depth", "layers") else ""
        return f"{self.group}-{self.data}{depth}-{self.weight_decay:g}{penalty}-seed-{self.seed}"


# What comes to rest first is trained for the fewest steps: decay moves weights within 1/(rate x decay) steps, where the
# rate is learning_rate/(1 - momentum) = 1.
DECAY = (
    *(Run("decay", "swimmer", decay, 6_000) for decay in (5e-2, 2e-2, 1e-2)),
    Run("decay", "swimmer", 1e-3, 10_000),
    Run("decay", "swimmer", 1e-4, 20_000),
    Run("decay", "swimmer", 0.0, 6_000),
    Run("decay", "swimmer_jumping", 5e-2, 4_000),
    *(Run("decay", "reacher_standardised", decay, 6_000) for decay in (0.05, 0.025, 0.02, 0.01, 0.0)),
    *(Run("decay", "hopper", decay, 8_000) for decay in (1e-2, 2e-3)),
)
UFM = tuple(
    Run("ufm", "swimmer", penalty, steps, feature_penalty=penalty, last_relu=False)
    for penalty, steps in ((3e-2, 6_000), (1e-2, 6_000), (1e-3, 8_000), (1e-4, 8_000), (0.0, 6_000))
)
NORMS = {
    data: tuple(
        Run("norms", data, 0.01, 4_000, feature_penalty=penalty, last_relu=False)
        for penalty in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    )
    for data in ("swimmer", "reacher")
}
DEPTH = tuple(
    Run("depth", data, 1e-3, 10_000, hidden=hidden, width=64, activation=activation, biases=False)
    for data, activation in (
        ("linear_directions", "linear"),
        ("linear_directions", "relu"),
        ("curved_directions", "relu"),
    )
    for hidden in (1, 2, 3)
)
LAYERS = tuple(
    Run("layers", "rank_two", decay, 6_000, hidden=8, width=128, biases=False, initial_scale=2.4, learning_rate=0.02)
    for decay in (2e-3, 2e-4, 0.0)
)
VISION = tuple(
    Run("vision", "shapes", decay, 2_500, network="convolutions", width=128, learning_rate=0.05, batch=128)
    for decay in (5e-2, 1e-2, 1e-3, 0.0)
)
# All settings with the first seed, then with the next: what is interrupted has every row, with fewer seeds.
RUNS = tuple(
    replace(run, seed=seed)
    for seed in SEEDS
    for run in (*DEPTH, *DECAY, *UFM, *NORMS["swimmer"], *LAYERS, *VISION, *NORMS["reacher"])
)


def named(*patterns: str) -> tuple[Run, ...]:
    """The runs whose names contain one of the texts.

    Raises
    ------
    ValueError
        A text is in no name.
    """
    for pattern in patterns:
        if not any(pattern in run.name for run in RUNS):
            groups = ", ".join(dict.fromkeys(run.group for run in RUNS))
            msg = f"no run has {pattern!r} in its name; groups are {groups}"
            raise ValueError(msg)
    return tuple(run for run in RUNS if any(pattern in run.name for pattern in patterns))
