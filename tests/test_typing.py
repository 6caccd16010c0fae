"""What a type checker says of scripts that users write: mistakes are found, and results have types."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import nrc_fast as nrc
from nrc_fast import ufm

# Each line is right, and the type that it is given as is the one that it has.
GOOD = """
from __future__ import annotations
from typing import assert_type
import numpy as np
import nrc_fast as nrc
from nrc_fast.typing import ConventionName, Features, FloatArray

H, Y, W = np.ones((10, 4)), np.ones((10, 2)), np.ones((2, 4))
assert_type(nrc.nrc1(H, 2), float)
assert_type(nrc.nrc1(H, Y.shape[1], return_bound=True), tuple[float, float])
assert_type(nrc.nrc1(H, [1, 2]), FloatArray)
assert_type(nrc.nrc1(H, np.arange(1, 3)), FloatArray)
assert_type(nrc.nrc1("h.npy", None, return_bound=True), tuple[FloatArray, FloatArray])
assert_type(nrc.nrc2(H, W), float)
assert_type(nrc.nrc3(W, Y, return_bound=True), tuple[float, float])
assert_type(nrc.intrinsic_dimension(H), nrc.IntrinsicDimension)
assert_type(nrc.measure(H, Y, convention="id25", precision="highest", by_k="all"), nrc.Report)
assert_type(nrc.measure(((H, Y) for _ in range(3)), spectrum="full").nrc1, float)
assert_type(nrc.measure_classes(H, np.ones(10)), nrc.ClassReport)
assert_type(nrc.FeatureStatistics(4, n_targets=2, nonfinite="skip").update(H, Y).report(), nrc.Report)
assert_type(nrc.History("run").records("each"), tuple[nrc.Record, ...])
assert_type(nrc.ufm.penalties(1e-3, feature_decay=1e-3, n=2).c, float)
assert_type(nrc.ufm.penalties([1e-3, 1e-2], n=2).c, float | FloatArray)
assert_type(nrc.ufm.minimum(Y, lambda_W=0.1, lambda_H=0.1).mse, float | FloatArray)
nrc.measure(H, Y, penalties=nrc.ufm.penalties(1e-3, feature_decay=1e-3, n=2))
nrc.measure(H, Y, penalties=nrc.ufm.minimum(Y, lambda_W=0.1, lambda_H=0.1))
by_convention = {name: nrc.nrc1(H, 2, convention=name) for name in nrc.CONVENTIONS}
assert_type(by_convention, dict[ConventionName, float])

def collapse(features: Features, convention: ConventionName = "nrc24") -> float:
    return nrc.nrc1(features, 2, convention=convention)
"""

# Each line is wrong, in the way that is said of it.
BAD = """
import numpy as np
import nrc_fast as nrc
H, Y = np.ones((10, 4)), np.ones((10, 2))
nrc.nrc1(H, 2, convention="nrc25")  # No overload variant of "nrc1" matches
nrc.nrc2(H, Y, convention="nrc25")  # No overload variant of "nrc2" matches
nrc.measure(H, Y, convention="nrc25")  # expected "Literal['nrc24', 'id25', 'raw', 'uncentered', 'variance'] |
nrc.measure(H, Y, precision="best")  # expected "Literal['high', 'highest', 'fast']"
nrc.measure(H, Y, nonfinite="drop")  # expected "Literal['raise', 'skip']"
nrc.measure(H, Y, by_k="al")  # expected "Literal['leading', 'all']"
nrc.measure(H, Y, spectrum="whole")  # expected "Literal['auto', 'full']"
nrc.measure(H, Y, conventions="nrc24")  # did you mean "convention"?
nrc.measure(H, Y).nrc4  # "Report" has no attribute "nrc4"
value: float = nrc.nrc1(H, 2, return_bound=True)  # expression has type "tuple[float, float]", variable has type "float"
first: float = nrc.nrc1(H, [1, 2])  # variable has type "float"
nrc.ufm.predict(Y, c=0.1, loss="mse")  # No overload variant of "predict" matches
nrc.History().records("all")  # expected "Literal['last', 'each'] | float"
"""

GOOD_OF_TORCH = """
from typing import assert_type
import torch
import nrc_fast as nrc

X = torch.ones(10, 4)
model = torch.nn.Sequential(torch.nn.Linear(4, 2))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, X))
assert_type(nrc.nrc1(X, 2, device=torch.device("cpu")), float)
assert_type(nrc.measure(loader, n=2), nrc.Report)
assert_type(nrc.watch(model), nrc.WatchedLayer)
assert_type(nrc.watch(model, ["0"], mode="train", positions="last"), nrc.WatchedLayers)
assert_type(nrc.watch(model).report(n=2, convention="raw"), nrc.Report)
assert_type(nrc.Monitor(model, loader, features="streamed", gamma=0.1).step(), nrc.Record | None)
assert_type(nrc.measure_layers(model, loader), nrc.DeepReport)
"""

BAD_OF_TORCH = """
import torch
import nrc_fast as nrc
head = torch.nn.Linear(4, 2)
nrc.watch(head, mode="training")  # No overload variant of "watch" matches
nrc.watch(head).report(bins=2)  # Unexpected keyword argument "bins"
nrc.Monitor(head, [], features="keep")  # expected "Literal['held', 'streamed', 'again']"
nrc.Monitor(head, [], positions="first")  # expected "Literal['mean', 'each', 'last'] | None"
nrc.measure_layers(3, [])  # incompatible type "int"; expected Module
"""

# Reading torch takes a type checker 15 s; nothing of the first scripts needs it.
LEFT_OUT = "torch.*,matplotlib.*,scipy.*,zarr.*,wandb.*,h5py.*,pyarrow.*,dask.*,threadpoolctl.*"
CONFIGURATION = """
[mypy]
python_version = 3.11
strict = true
[mypy-nrc_fast.*]
follow_imports = silent
"""


def checked(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch, *, left_out: str = "") -> dict[int, str]:
    """What mypy says of a script, by line."""
    api = pytest.importorskip("mypy.api")
    place = Path(nrc.__file__).parents[1]
    if "site-packages" not in place.parts:
        monkeypatch.setenv("MYPYPATH", str(place))
    skipped = f"[mypy-{left_out}]\nfollow_imports = skip\nignore_missing_imports = true\n" if left_out else ""
    (folder / "mypy.ini").write_text(CONFIGURATION + skipped)
    (folder / "script.py").write_text(script)
    options = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(folder / "cache"), "--hide-error-context"]
    said, failed, _ = api.run([*options, str(folder / "script.py")])
    assert not failed, failed
    found: dict[int, str] = {}
    for line in said.splitlines():
        match = re.match(r".*script\.py:(\d+): error: (.*)", line)
        if match:
            found[int(match[1])] = match[2]
    return found


def expected(script: str) -> dict[int, str]:
    """What is to be said of the lines of a script that end with a comment."""
    parts = [line.partition("  # ") for line in script.splitlines()]
    return {number: said for number, (_, _, said) in enumerate(parts, start=1) if said}


def assert_said(found: dict[int, str], wanted: dict[int, str]) -> None:
    assert found.keys() == wanted.keys(), found
    for line, said in wanted.items():
        assert said in found[line]


def test_mypy_on_scripts_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = GOOD + BAD
    assert len(expected(script)) > 10
    assert_said(checked(tmp_path, script, monkeypatch, left_out=LEFT_OUT), expected(script))


@pytest.mark.long
def test_mypy_on_scripts_with_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = GOOD + BAD + GOOD_OF_TORCH + BAD_OF_TORCH
    assert_said(checked(tmp_path, script, monkeypatch), expected(script))


def test_literals_are_what_is_checked_at_runtime() -> None:
    known = nrc.typing
    assert get_args(known.ConventionName) == tuple(nrc.CONVENTIONS)
    assert get_args(known.LossName) == tuple(ufm.LOSSES)
    with pytest.raises(ValueError, match="loss is 'unknown'") as caught:
        ufm.convex([0.0, 1.0], lambda_W=1.0, lambda_H=1.0, loss="unknown")  # type: ignore[arg-type]
    assert all(repr(word) in str(caught.value) for word in get_args(known.TrainingLossName))
    for words, name in (
        (known.Precision, "precision"),
        (known.NonFinite, "nonfinite"),
        (known.ByK, "by_k"),
        (known.Spectrum, "spectrum"),
    ):
        with pytest.raises(ValueError, match=name) as caught:
            nrc.measure([[1.0, 2.0]], n=1, **{name: "unknown"})
        assert all(repr(word) in str(caught.value) for word in get_args(words))


def annotations() -> Iterator[tuple[str, str]]:
    """What public functions, methods and properties give, as text, and what public dataclasses hold."""
    for module in (nrc, ufm, nrc.reports, nrc.kernels, importlib.import_module("nrc_fast.testing")):
        for name in module.__all__:
            value = getattr(module, name)
            yield from results_of(value, f"{module.__name__}.{name}")
            if inspect.isclass(value):
                yield from ((f"{name}.{field}", str(kind)) for field, kind in inspect.get_annotations(value).items())
                for part, attribute in vars(value).items():
                    plain = getattr(attribute, "fget", None) or getattr(attribute, "func", None)
                    plain = plain or getattr(attribute, "__func__", attribute)
                    if not part.startswith("_"):
                        yield from results_of(plain, f"{name}.{part}")


def results_of(value: object, name: str) -> Iterator[tuple[str, str]]:
    if inspect.isfunction(value):
        yield name, str(inspect.signature(value).return_annotation)


def test_no_public_result_is_any() -> None:
    found = {name: kind for name, kind in annotations() if not name.rpartition(".")[2].startswith("_")}
    assert len(found) > 200
    assert not [name for name, kind in found.items() if re.search(r"\bAny\b|_empty", kind)]
