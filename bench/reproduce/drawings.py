"""The figures of docs/papers.md, one function for each; a thin line for every seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reproduce.data_sets import load
from reproduce.seeds import Setting, settings

__all__ = ["DRAWINGS"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LAYER_PANELS = {
    "noise_fraction": "NRC1: variance outside the\nleading components",
    "signal_alignment": "NRC2: CKA of these\nand the targets",
    "weight_alignment": "NRC3: cosine of features\nand weights",
    "linear_mse": "NRC4: error of the best\nlinear readout",
}


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _lines(axes: Axes, setting: Setting, name: str, label: str | None = None, **style: Any) -> None:
    """The curve of every seed; only the first has the label. The start is at step 1 - 1, drawn at 1."""
    for seed in range(len(setting.found)):
        steps, values = setting.curve(name, seed)
        axes.plot(steps + 1, values, label=label if seed == 0 else None, linewidth=1.2, **style)


def _decays(chosen: Sequence[Setting], names: dict[str, str], axes: Sequence[Axes], title: str = "") -> None:
    for panel, (name, heading) in zip(axes, names.items(), strict=True):
        for setting, colour in zip(chosen, COLOURS, strict=False):
            _lines(panel, setting, name, f"{setting.run.weight_decay:g}", color=colour)
        panel.set(xscale="log", yscale="log", xlabel="step + 1", title=f"{title}{heading}")


def draw_collapse() -> Figure:
    """Figures 2 and 3 of NRC24: one training to the end."""
    setting = settings("decay", "swimmer")[0]
    figure = _figure(9.6, 5.0)
    (first, second, third), (fourth, fifth, unused) = figure.subplots(2, 3)
    for name, colour, label in (("nrc1", COLOURS[0], "NRC1"), ("nrc2", COLOURS[1], "NRC2")):
        _lines(first, setting, name, label, color=colour)
    first.set(yscale="log", title="NRC1 and NRC2")
    _lines(second, setting, "nrc3", "gamma of the last step", color=COLOURS[2])
    _lines(second, setting, "nrc3_each", "gamma of each step", color=COLOURS[2], linestyle=":")
    low, _, high = setting.found[0]["final"]["nrc3_random"]
    second.axhspan(low, high, color="0.88", label="90% of random heads")
    second.set(yscale="log", ylim=(1e-5, 1.0), title="NRC3")
    for name, colour, label in (("mse", COLOURS[0], "training"), ("test_mse", COLOURS[1], "test")):
        _lines(third, setting, name, label, color=colour)
    third.set(yscale="log", title="mean squared error")
    ratio = np.array(setting.found[0]["curves"]["explained_variance_ratio"])
    steps = np.array(setting.found[0]["curves"]["step"]) + 1
    for component, colour in zip(range(ratio.shape[1]), COLOURS, strict=False):
        fourth.plot(steps, ratio[:, component], color=colour, label=f"component {component + 1}")
    fourth.set(ylim=(0.0, 1.0), title="share of the variance (seed 0)")
    _lines(fifth, setting, "balance_distance", "distance from balance", color=COLOURS[3])
    fifth.set(yscale="log", title="balance of the head")
    for panel in (first, second, third, fourth, fifth):
        panel.set(xscale="log", xlabel="step + 1")
        panel.legend(frameon=False)
    unused.set_axis_off()
    return figure


def draw_gamma() -> Figure:
    """Figure 4 of NRC24: NRC3 against gamma at the end, beside what random heads reach."""
    chosen = [
        *settings("decay", "swimmer")[:1],
        *settings("decay", "reacher_standardised")[:1],
        *settings("decay", "hopper")[:1],
    ]
    titles = {"swimmer": "Swimmer", "reacher_standardised": "Reacher, standardised", "hopper": "Hopper"}
    figure = _figure(9.6, 3.0)
    for panel, setting in zip(np.ravel(figure.subplots(1, 3)), chosen, strict=False):
        for seed, one in enumerate(setting.found):
            curve = one["final"]["nrc3_curve"]
            panel.plot(np.linspace(0.0, 1.0, len(curve)), curve, color=COLOURS[seed], label=f"seed {seed}")
            panel.plot(one["final"]["gamma_share"], max(one["final"]["nrc3"], 1e-7), "o", color=COLOURS[seed])
        low, _, high = setting.found[0]["final"]["nrc3_random"]
        panel.axhspan(low, high, color="0.88")
        title = f"{titles[setting.run.data]}, decay {setting.run.weight_decay:g}"
        panel.set(yscale="log", xlabel="gamma / smallest eigenvalue", title=title)
        panel.legend(frameon=False)
    figure.axes[0].set_ylabel("NRC3")
    return figure


def draw_decay() -> Figure:
    """Figures 5, 7 and 8 of NRC24: from strong to weak weight decay."""
    names = {"nrc1": "NRC1", "nrc2": "NRC2", "nrc3_each": "NRC3, gamma of each step", "test_mse": "test error"}
    titles = {"swimmer": "Swimmer", "reacher_standardised": "Reacher", "hopper": "Hopper"}
    figure = _figure(10.4, 7.4)
    for row, (data, title) in zip(figure.subplots(3, 4), titles.items(), strict=True):
        _decays(settings("decay", data), names, row)
        row[0].set_ylabel(title)
        row[0].legend(title="decay", frameon=False)
        low, _, high = settings("decay", data)[0].found[0]["final"]["nrc3_random"]
        row[2].axhspan(low, high, color="0.88")
    return figure


def draw_ufm() -> Figure:
    """Figures 6 and 9 of NRC24: penalties on the features and the head."""
    names = {"nrc1_variance": "NRC1 (variance)", "nrc2": "NRC2", "nrc3_each": "NRC3, gamma of each step", "mse": "MSE"}
    chosen = settings("ufm", "swimmer")
    figure = _figure(10.4, 2.9)
    panels = figure.subplots(1, 4)
    _decays(chosen, names, panels)
    for setting, colour in zip(chosen, COLOURS, strict=False):
        predicted = setting.found[0]["final"].get("predicted_mse")
        if predicted:
            panels[3].axhline(predicted, color=colour, linestyle="--", linewidth=0.8)
    panels[0].legend(title="lambda", frameon=False)
    return figure


def draw_norms() -> Figure:
    """Figures 10 and 11 of NRC24: norms by the penalty on the features, and what is left of the targets."""
    figure = _figure(10.0, 3.2)
    first, second, third = figure.subplots(1, 3)
    for data, colour in {"swimmer": COLOURS[0], "reacher": COLOURS[1]}.items():
        chosen = settings("norms", data)
        penalties = [float(setting.run.feature_penalty or 0.0) for setting in chosen for _ in setting.found]
        ends = [one["final"] for setting in chosen for one in setting.found]
        heads = [float(np.trace(end["head_gram"])) for end in ends]
        first.plot(penalties, [end["mean_squared_feature_norm"] for end in ends], "o", color=colour)
        second.plot(penalties, heads, "o", color=colour, label=data.capitalize())
        predicted = np.array([float(np.trace(end["predicted_gram"])) for end in ends])
        decays = np.array([setting.run.weight_decay for setting in chosen for _ in setting.found])
        order = np.argsort(penalties)
        first.plot(np.sort(penalties), (predicted * decays / penalties)[order], color=colour, linewidth=1.0)
        second.plot(np.sort(penalties), predicted[order], color=colour, linewidth=1.0)
    first.set(xscale="log", yscale="log", xlabel="lambda_H", title="mean squared norm of the features")
    second.set(xscale="log", yscale="log", xlabel="lambda_H", title="squared norm of W")
    second.legend(frameon=False)
    _residuals(third, settings("norms", "swimmer")[0].found[0]["final"])
    return figure


def _residuals(axes: Axes, end: dict[str, Any]) -> None:
    """Residuals, in units of the root of their mean square, by the direction of the whitened target."""
    residuals, targets = np.array(end["residuals"]), np.array(end["targets"])
    values, vectors = np.linalg.eigh(np.array(end["covariance"]))
    white = (targets - targets.mean(axis=0)) @ (vectors / np.sqrt(values)) @ vectors.T
    scaled = residuals / np.sqrt(float(np.trace(end["residual_covariance"])) / len(values))
    axes.scatter(scaled[:, 0], scaled[:, 1], c=np.arctan2(white[:, 1], white[:, 0]), cmap="hsv", s=9)
    axes.set(aspect="equal", title="residuals of Swimmer", xlabel="first", ylabel="second")


def draw_heads() -> Figure:
    """Ours: the exponent of the head by depth, and the decay that its balance implies."""
    figure = _figure(8.0, 3.2)
    first, second = figure.subplots(1, 2)
    kinds = (
        ("linear", "linear_directions", "linear layers", "o"),
        ("relu", "linear_directions", "ReLU, linear targets", "s"),
        ("relu", "curved_directions", "ReLU, curved targets", "^"),
    )
    for colour, (activation, data, label, marker) in zip(COLOURS, kinds, strict=False):
        chosen = [one for one in settings("depth", data) if one.run.activation == activation]
        layers = [setting.run.hidden + 1 for setting in chosen for _ in setting.found]
        found = [value for setting in chosen for value in setting.final("exponent")]
        first.plot(layers, found, marker, color=colour, fillstyle="none", label=label)
    depths = np.array([2, 3, 4])
    first.plot(depths, 1.0 / depths, color="0.6", linewidth=1.0, label="1/layers")
    first.set(xticks=depths, xlabel="layers", title="exponent p of W W^T ~ Sigma^p", ylim=(0.0, None))
    first.legend(frameon=False)
    for colour, (group, label) in zip(
        COLOURS, {"decay": "MuJoCo", "depth": "depth", "layers": "Deep NRC", "vision": "images"}.items(), strict=False
    ):
        chosen = [setting for setting in settings(group) if setting.run.weight_decay > 0.0]
        decays = [setting.run.weight_decay for setting in chosen for _ in setting.found]
        found = [value for setting in chosen for value in setting.final("balance_decay")]
        second.plot(decays, found, ".", color=colour, label=label)
    second.axline((1e-4, 1e-4), (1e-1, 1e-1), color="0.6", linewidth=1.0)
    second.set(xscale="log", yscale="log", xlabel="weight decay of the training", title="decay implied by the balance")
    second.legend(frameon=False)
    return figure


def draw_layers() -> Figure:
    """DNRC26: the four conditions by layer, for two components, the rank of the targets."""
    figure = _figure(10.4, 3.0)
    for panel, (name, title) in zip(figure.subplots(1, 4), LAYER_PANELS.items(), strict=True):
        for setting, colour in zip(settings("layers"), COLOURS, strict=False):
            for seed, one in enumerate(setting.found):
                values = [layer[name] for layer in one["final"]["layers"]["n = 2"]]
                label = f"{setting.run.weight_decay:g}" if seed == 0 else None
                panel.plot(range(len(values)), values, color=colour, label=label, linewidth=1.2)
        panel.set(xlabel="layer that takes the features", title=title)
        if name in ("noise_fraction", "linear_mse"):
            panel.set_yscale("log")
    figure.axes[0].legend(title="decay", frameon=False)
    return figure


def draw_vision() -> Figure:
    """Images with three continuous targets, and collapse of a network with convolutions."""
    figure = _figure(10.4, 3.0)
    pictures, *panels = figure.subplots(1, 4)
    images = load("shapes").inputs[:16, 0]
    pictures.imshow(np.block([[images[4 * row + column] for column in range(4)] for row in range(4)]), cmap="gray")
    pictures.set(xticks=[], yticks=[], title="16 of the images")
    names = {"nrc1_variance": "NRC1 (variance)", "nrc2": "NRC2", "nrc3_each": "NRC3, gamma of each step"}
    chosen = settings("vision")
    _decays(chosen, names, panels)
    low, _, high = chosen[0].found[0]["final"]["nrc3_random"]
    panels[2].axhspan(low, high, color="0.88")
    panels[0].legend(title="decay", frameon=False)
    return figure


# By the end of the file's name: the group and the data of runs that it needs, and what draws it.
DRAWINGS: dict[str, tuple[str, str | None, Callable[[], Figure]]] = {
    "collapse": ("decay", "swimmer", draw_collapse),
    "gamma": ("decay", None, draw_gamma),
    "decay": ("decay", None, draw_decay),
    "ufm": ("ufm", None, draw_ufm),
    "norms": ("norms", "swimmer", draw_norms),
    "heads": ("depth", None, draw_heads),
    "layers": ("layers", None, draw_layers),
    "vision": ("vision", None, draw_vision),
}
