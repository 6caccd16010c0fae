"""`watch`: the rows that a layer is given, exactly, and no trace in the training."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import processes

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3

torch = pytest.importorskip("torch")
nn = torch.nn


def network(seed: int = 0, width: int = 16) -> Any:
    model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, width), nn.ReLU())
    model.add_module("head", nn.Linear(width, 2))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return model


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features_of(model: Any, X: Any) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model[:-1](X).numpy(), dtype=np.float64)


def close_to(statistics: nrc.FeatureStatistics, rows: np.ndarray) -> None:
    """Mean and covariance of the statistics are those of the rows, up to their bound and a pass in float32."""
    rows = np.asarray(rows, dtype=np.float64)
    assert statistics.count == len(rows)
    scale = float(np.mean(np.sum(rows**2, axis=1)))
    rounding = 2.0**-22  # of float32, in a pass of other batches
    allowed = (statistics.relative_error + rounding) * scale**0.5
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), atol=allowed)
    error = np.linalg.norm(statistics.covariance - np.cov(rows, rowvar=False, bias=True), 2)
    assert error <= statistics.covariance_error + rounding * scale


# ---- what is read ----


def test_report_of_a_head_is_that_of_its_inputs() -> None:
    model, X, Y = network().eval(), draw(300, 6), draw(300, 2, seed=2)
    with torch.no_grad(), nrc.watch(model.head) as features:
        for first in range(0, 300, 60):
            features.set_targets(Y[first : first + 60])
            model(X[first : first + 60])
    report = features.report()
    H, W, b = features_of(model, X), model.head.weight, model.head.bias.detach().numpy()
    assert report.samples == features.passes * 60 == 300
    assert abs(report.nrc1 - reference_nrc1(H, 2)) <= report.bounds["nrc1"]
    assert abs(report.nrc2 - reference_nrc2(H, W)) <= report.bounds["nrc2"]
    assert report.nrc3 == pytest.approx(reference_nrc3(W, Y), rel=1e-9)
    errors = H @ W.detach().double().numpy().T + b - Y.numpy()
    plain = np.mean(np.sum(errors**2, axis=1))
    assert abs(report.mse - plain) <= report.bounds["mse"] + 4.0 * 2.0**-52 * plain
    assert features.report(W=np.eye(2, 16), b=np.zeros(2)).nrc2 == pytest.approx(
        reference_nrc2(H, np.eye(2, 16)), rel=1e-5
    )


def test_layers_are_found_by_name_and_by_module() -> None:
    model, X = network().eval(), draw(50, 6)
    with torch.no_grad(), nrc.watch(model, layers=["0", model[3], "head"]) as watched:
        model(X)
    assert list(watched) == ["0", "3", "head"]
    close_to(watched["0"].statistics, X.numpy())
    close_to(watched["3"].statistics, torch.relu(model[0](X)).detach().numpy())
    close_to(watched["head"].statistics, features_of(model, X))


def test_a_layer_without_bias_has_zeros_and_another_layer_needs_weights() -> None:
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad(), nrc.watch(layer) as features, nrc.watch(nn.Sequential(layer), layers=["0"]):
        features.set_targets(draw(9, 2))
        layer(draw(9, 4, seed=3))
    errors = (draw(9, 4, seed=3).double() @ layer.weight.detach().double().T - draw(9, 2).double()).numpy()
    assert features.report().mse == pytest.approx(np.mean(np.sum(errors**2, axis=1)), rel=1e-5)
    with nrc.watch(nn.Sequential(nn.ReLU())) as features:
        features.layer(draw(9, 4))
    with pytest.raises(ValueError, match="n is not known"):
        features.report()


def test_a_hidden_layer_reports_without_its_own_weights() -> None:
    model, X, Y = network().eval(), draw(50, 6), draw(50, 2, seed=2)
    with torch.no_grad(), nrc.watch(model, layers=["0", "head"]) as watched:
        watched.set_targets(Y)
        model(X)
    assert np.isnan(watched["0"].report().nrc2)
    assert watched["0"].report().nrc1 == pytest.approx(reference_nrc1(X, 2), rel=1e-5)
    assert not np.isnan(watched["head"].report().nrc2)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("positions", [None, "mean", "each"])
def test_maps_are_pooled_or_read_pixel_by_pixel(positions: str | None, memory_format: Any) -> None:
    layer = nn.Conv2d(5, 3, 1)
    maps = draw(7, 5, 4, 3).to(memory_format=memory_format)
    with torch.no_grad(), nrc.watch(layer, positions=positions) as features:
        layer(maps)
    values = maps.double().numpy()
    expected = np.moveaxis(values, 1, -1).reshape(-1, 5) if positions == "each" else values.mean(axis=(2, 3))
    close_to(features.statistics, expected)


def test_a_map_without_batch_axis_is_one_sample() -> None:
    layer = nn.Conv2d(5, 3, 1)
    with torch.no_grad(), nrc.watch(layer, positions="each") as features:
        layer(draw(5, 4, 3))
    close_to(features.statistics, draw(5, 4, 3).numpy().reshape(5, 12).T)


class Tagger(nn.Module):
    """Reads sequences with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: Any, attention_mask: Any = None) -> Any:
        del attention_mask
        return self.head(tokens)


@pytest.mark.parametrize("positions", [None, "each", "mean"])
@pytest.mark.parametrize("source", ["keyword", "position", "function"])
def test_masked_positions_do_not_count(positions: str | None, source: str) -> None:
    model, tokens = Tagger(), draw(6, 5, 4)
    kept = draw(6, 5, seed=2) > 0
    kept[:, 0] = True
    tokens[~kept] = torch.nan
    targets = draw(6, 5, 2, seed=3) if positions != "mean" else draw(6, 2, seed=3)
    mask = "attention_mask" if source != "function" else lambda: kept
    with (
        torch.no_grad(),
        nrc.watch(model, layers=["head"], mask=mask, positions=positions, nonfinite="raise") as watched,
    ):
        watched.set_targets(targets)
        if source == "keyword":
            model(tokens, attention_mask=kept.long())
        else:
            model(tokens, kept.long())
    values, flags = tokens.double().numpy(), kept.numpy()
    if positions == "mean":
        expected = np.array([row[flag].mean(axis=0) for row, flag in zip(values, flags, strict=True)])
        Y = targets.numpy()
    else:
        expected, Y = values[flags], targets.numpy()[flags]
    statistics = watched["head"].statistics
    close_to(statistics, expected)
    cross = (expected - expected.mean(axis=0)).T @ (Y - Y.mean(axis=0)) / len(Y)
    np.testing.assert_allclose(statistics.cross_covariance, cross, atol=1e-6)


def test_sampling_reads_one_pass_of_ten_up_to_a_number_of_rows() -> None:
    layer = nn.Linear(3, 2)
    batches = [draw(8, 3, seed=k) for k in range(40)]
    with torch.no_grad(), nrc.watch(layer, every=10) as sampled, nrc.watch(layer, every=10, max_rows=13) as limited:
        for batch in batches:
            layer(batch)
    rows = torch.cat([batches[number] for number in (0, 16, 22, 38)]).numpy()  # one of every ten
    close_to(sampled.statistics, rows)
    close_to(limited.statistics, rows[:13])
    assert sampled.passes == limited.passes == 40


@pytest.mark.parametrize(("mode", "counted"), [("any", [0, 1, 2]), ("train", [0, 2]), ("eval", [1])])
def test_modes_are_told_apart(mode: str, counted: list[int]) -> None:
    layer = nn.Linear(3, 2)
    batches = [draw(8, 3, seed=k) for k in range(3)]
    with torch.no_grad(), nrc.watch(layer, mode=mode) as features:
        for k, batch in enumerate(batches):
            layer.train(k != 1)(batch)
    close_to(features.statistics, torch.cat([batches[k] for k in counted]).numpy())


def test_reset_close_and_nesting() -> None:
    layer = nn.Linear(3, 2)
    with torch.no_grad(), nrc.watch(layer) as outer:
        layer(draw(8, 3))
        with nrc.watch(layer) as inner:
            layer(draw(8, 3, seed=2))
        layer(draw(8, 3, seed=3))
        assert (outer.count, inner.count) == (24, 8)
        close_to(inner.statistics, draw(8, 3, seed=2).numpy())
        outer.reset()
        layer(draw(5, 3))
    outer.close()
    layer(draw(8, 3))
    assert outer.count == 5
    assert not layer._forward_pre_hooks


def test_a_layer_in_several_places_is_found_by_each_of_its_names() -> None:
    layer, X = nn.Linear(4, 4), draw(8, 4)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    with torch.no_grad(), nrc.watch(model, layers=["2"]) as watched:
        model(X)
        between = torch.tanh(layer.forward(X))
    assert watched["2"].passes == 2
    close_to(watched["2"].statistics, torch.cat([X, between]).numpy())
    with pytest.raises(ValueError, match="called several times in a pass can only be watched without targets"):
        nrc.measure_layers(model, [(X, X)])


def test_tensors_given_by_keyword_are_read() -> None:
    layer = nn.Linear(3, 2)
    with torch.no_grad(), nrc.watch(layer) as features:
        layer(input=draw(8, 3))
    close_to(features.statistics, draw(8, 3).numpy())


# ---- no trace ----


def train(model: Any, *, watched: bool, steps: int = 30) -> list[Any]:
    """Parameters, gradients and random numbers after a training with dropout."""
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    X, Y = draw(64, 6), draw(64, 2, seed=2)
    watches = [nrc.watch(model, layers=["0", "3", "head"], every=3), nrc.watch(model.head)] if watched else []
    for _ in range(steps):
        for watch in watches:
            watch.set_targets(Y)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
    for watch in watches:
        watch.close()
    return [*(part for parameter in model.parameters() for part in (parameter, parameter.grad)), torch.rand(4)]


def test_training_is_the_same_to_the_bit() -> None:
    plain, watched = train(network(), watched=False), train(network(), watched=True)
    assert all(torch.equal(first, second) for first, second in zip(plain, watched, strict=True))


def test_nothing_holds_the_graph() -> None:
    model, inputs = network(), draw(10, 6).requires_grad_()
    freed: list[bool] = []

    class Held(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Any) -> Any:
            ctx.token = Token()
            return values * 1.0

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:  # noqa: ARG004
            return gradient

    class Token:
        def __del__(self) -> None:
            freed.append(True)

    with nrc.watch(model.head) as features:
        output = model(Held.apply(inputs))
        assert not freed
        del output
        assert freed
    assert features.count == 10


def test_rows_are_read_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    from nrc_fast.kernels import calls as kernels_calls

    seen = []
    original = kernels_calls.checked_gram

    def checked_gram(rows: Any, request: Any) -> Any:
        seen.append(rows.array)
        return original(rows, request)

    monkeypatch.setattr(kernels_calls, "checked_gram", checked_gram)
    layer, X = nn.Linear(512, 2), draw(2048, 512)
    with nrc.watch(layer):
        layer(X)
    assert seen[0].ctypes.data == X.data_ptr()


def test_copies_of_a_watched_model_are_not_watched(tmp_path: Path) -> None:
    model = network().eval()
    with torch.no_grad(), nrc.watch(model, layers=["head"]) as watched, nrc.watch(model, mask="input") as whole:
        averaged = torch.optim.swa_utils.AveragedModel(model).eval()
        torch.save(model, tmp_path / "model.pt")
        loaded = torch.load(tmp_path / "model.pt", weights_only=False)
        for copied in (averaged, loaded):
            assert torch.equal(copied(draw(5, 6)), model(draw(5, 6)))
        loaded.head(draw(5, 16))
        if hasattr(torch.compiler, "is_exporting"):
            exported = torch.export.export(model, (draw(5, 6),)).module()
            assert torch.equal(exported(draw(5, 6)), copied(draw(5, 6)))
    assert watched["head"].count == whole.count == 10


# ---- in company ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_features_are_read_in_their_own_dtype(dtype: Any) -> None:
    model, X = network().eval(), draw(50, 6)
    kept: list[Any] = []
    model.head.register_forward_pre_hook(lambda _, args: kept.append(args[0].clone()))
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype), nrc.watch(model.head) as features:
        model(X)
    assert kept[0].dtype == dtype
    assert features.report().dtype == str(dtype).removeprefix("torch.")
    close_to(features.statistics, kept[0].double().numpy())


def test_checkpointed_activations_are_read_once() -> None:
    from torch.utils.checkpoint import checkpoint

    model, X = network().eval(), draw(50, 6).requires_grad_()
    with nrc.watch(model.head) as features:
        checkpoint(model, X, use_reentrant=False).sum().backward()
    close_to(features.statistics, features_of(model, X.detach()))


def test_inference_mode() -> None:
    model, X = network().eval(), draw(50, 6)
    with torch.inference_mode(), nrc.watch(model.head) as features:
        model(X)
    close_to(features.statistics, features_of(model, X))


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # torch's own compiler, in several places
def test_compiled_model_is_watched_and_left_alone() -> None:
    torch._dynamo.reset()
    model, X = network().eval(), draw(50, 6)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad(), nrc.watch(compiled, layers=["head"]) as watched:
        for _ in range(3):
            output = compiled(X)
    assert watched["head"].count == 150
    close_to(watched["head"].statistics, np.tile(features_of(model, X), (3, 1)))
    with torch.no_grad():
        np.testing.assert_allclose(output.numpy(), model(X).numpy(), rtol=1e-6)
        compiled(X)  # may still call the hook, which is closed
    assert watched["head"].count == 150


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_training_is_the_same_to_the_bit(backend: str) -> None:
    """Also what the compiler fuses and the random numbers that it draws: the graph does not break at the layer."""

    def train(*, watched: bool) -> list[Any]:
        torch._dynamo.reset()
        torch.manual_seed(5)
        model, X, Y = network(), draw(64, 6), draw(64, 2, seed=2)
        watches = [nrc.watch(model, layers=["3", "head"], every=2, mode="train"), nrc.watch(model.head)]
        if not watched:
            for watch in watches:
                watch.close()
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(5):
            if watched:
                watches[0].set_targets(Y)
            optimizer.zero_grad()
            nn.functional.mse_loss(compiled(X), Y).backward()
            optimizer.step()
        if watched:
            assert (watches[0]["3"].count, watches[0]["head"].count, watches[1].count) == (192, 192, 320)
            assert watches[0]["head"].report().samples == 192
            watches[1].close()
            model.eval()
            compiled(X)
            assert (watches[0]["3"].passes, watches[1].passes) == (5, 5)
            watches[0].close()
        return [*(part for parameter in model.parameters() for part in (parameter, parameter.grad)), torch.rand(4)]

    plain, watched = train(watched=False), train(watched=True)
    assert all(torch.equal(first, second) for first, second in zip(plain, watched, strict=True))


class Masked(nn.Module):
    """A head on positions, told which of them count."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, inputs: Any, attention_mask: Any = None) -> Any:
        H = torch.tanh(self.trunk(inputs))
        return self.head(H if attention_mask is None else H * attention_mask.unsqueeze(-1))


def doubled(model: Any) -> Any:
    def called(*args: Any, **kwargs: Any) -> Any:
        return 2.0 * model(*args, **kwargs)

    return called


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("in_function", [False, True], ids=["model", "function"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_masks_by_name_do_not_break_a_compiled_graph(backend: str, in_function: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(3)
    model, kept = Masked(), []
    with nrc.watch(model, layers=["trunk", "head"], mask="attention_mask") as watched:
        called = doubled(model) if in_function else model
        compiled = torch.compile(called, backend=backend, fullgraph=True)
        for step in range(4):
            X, mask = draw(6, 5, 4, seed=step), (draw(6, 5, seed=10 + step) > 0).long()
            output = compiled(X, mask) if step % 2 else compiled(X, attention_mask=mask)
            output.sum().backward()
            H = torch.tanh(nn.functional.linear(X, model.trunk.weight, model.trunk.bias))
            kept.append((X[mask != 0], H[mask != 0]))
    for name, part in (("trunk", 0), ("head", 1)):
        close_to(watched[name].statistics, torch.cat([rows[part] for rows in kept]).detach().numpy())


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_a_compiled_graph_takes_the_mask_before_the_rows() -> None:
    torch._dynamo.reset()
    witnesses = []

    def backend(graph: Any, _: Any) -> Any:
        calls = [node for node in graph.graph.nodes if "nrc_fast.watched" in str(node.target)]
        witnesses.append([node.args[1] for node in calls])
        return graph

    model = Masked()
    with nrc.watch(model, layers=["trunk", "head"], mask="attention_mask"):
        # In a function, where the model's own hooks and its layers are parts of one graph.
        torch.compile(doubled(model), backend=backend, fullgraph=True)(draw(6, 5, 4), torch.ones(6, 5))
    ((first, *others),) = witnesses
    # Operators that change the same tensor stay in their order.
    assert others == [first, first]


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_a_compiled_model_without_its_mask_says_so() -> None:
    torch._dynamo.reset()
    model = Masked()
    with nrc.watch(model, layers=["head"], mask="attention_mask") as watched:
        compiled = torch.compile(model, backend="eager")
        with pytest.raises(ValueError, match="called without 'attention_mask'"):
            compiled(draw(6, 5, 4))
        compiled(draw(6, 5, 4), None)  # no mask: all positions count
        assert watched["head"].count == 30


def test_watches_say_what_they_have_read() -> None:
    model, X = network().eval(), draw(50, 6)
    with nrc.watch(model.head) as watched:
        assert repr(watched) == "<WatchedLayer Linear, watched: 0 passes, 0 rows read>"
        model(X)
        model(X)
    assert repr(watched) == "<WatchedLayer Linear, closed: 2 passes, 100 rows read>"
    width = model.head.in_features
    assert repr(watched.statistics) == f"<FeatureStatistics d = {width}, n_targets = 0: 100 rows>"
    with nrc.watch(model, ["head"]) as layers:
        assert repr(layers) == "<WatchedLayers <WatchedLayer head, watched: 0 passes, 0 rows read>>"


def test_wrapped_models_answer_to_their_own_names(tmp_path: Path) -> None:
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model, X = network().eval(), draw(50, 6)
        wrapped = nn.parallel.DistributedDataParallel(model)
        with nrc.watch(wrapped, layers=["head"]) as watched:
            wrapped(X).sum().backward()
        watched["head"].all_reduce()
        statistics = watched["head"].statistics
    finally:
        # DistributedDataParallel is full of cycles, and must go before its group.
        del wrapped, watched
        gc.collect()
        distributed.destroy_process_group()
    close_to(statistics, features_of(model, X))


def test_sharded_heads_are_watched_and_their_weights_gathered(tmp_path: Path) -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this torch has no fully_shard")
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model, X, Y = network().eval(), draw(50, 6), draw(50, 2, seed=2)
        H, W = features_of(model, X), model.head.weight.detach().clone()
        mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
        fsdp.fully_shard(model.head, mesh=mesh)
        fsdp.fully_shard(model, mesh=mesh)
        with nrc.watch(model, layers=["head"]) as watched:
            model(X).sum().backward()
        report = watched["head"].report()
        record = nrc.Monitor(model, [(X, Y)]).evaluate()
    finally:
        distributed.destroy_process_group()
    assert abs(report.nrc2 - reference_nrc2(H, W)) <= report.bounds["nrc2"]
    assert record.nrc2 == pytest.approx(reference_nrc2(H, W), rel=1e-6)
    assert record.nrc3 == pytest.approx(reference_nrc3(W, Y), rel=1e-6)


def test_a_submodule_called_module_is_no_wrapper() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(3, 2)
            self.head = nn.Linear(2, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.module(x))

    model = Wrapper()
    with torch.no_grad(), nrc.watch(model, layers=["module", "head"]) as watched:
        model(draw(8, 3))
    close_to(watched["module"].statistics, draw(8, 3).numpy())


@pytest.mark.parametrize("cuts", [[450], [0, 700]], ids=str)
def test_processes_add_up_what_they_have_watched(tmp_path: Path, cuts: list[int]) -> None:
    H, Y, W = processes.draw()
    results = processes.run(tmp_path / "run", "watched", H, Y, W, cuts)
    assert all(result == results[0] for result in results)
    whole = nrc.FeatureStatistics(12, n_targets=2).update(H, Y).report(W, np.zeros(2))
    for name in ("samples", "nrc1", "nrc2", "nrc3", "mse"):
        assert results[0][name] == pytest.approx(getattr(whole, name), rel=1e-10)


def test_a_head_whose_weights_lie_in_several_processes(tmp_path: Path) -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this torch has no fully_shard")
    H, Y, W = processes.draw()
    results = processes.run(tmp_path / "run", "sharded", H, Y, W, [450])
    whole = nrc.FeatureStatistics(12, n_targets=2).update(H, Y).report(W, np.zeros(2))
    for result in results:
        assert result["is_sharded"]
        for name in ("samples", "nrc1", "nrc2", "nrc3", "mse"):
            assert result[name] == pytest.approx(getattr(whole, name), rel=1e-10)
        for name in ("nrc1", "nrc2", "nrc3", "mse"):
            assert result["monitored"][name] == pytest.approx(getattr(whole, name), rel=1e-10)


# ---- what goes wrong ----


def test_a_device_without_kernels_is_named() -> None:
    layer = nn.Linear(3, 2, device="meta")
    with (
        nrc.watch(layer),
        pytest.raises(RuntimeError, match=r"is given a tensor on meta, for which.*no kernels.*H\.cpu"),
    ):
        layer(torch.empty(4, 3, device="meta"))


def test_nonfinite_rows_are_left_out_unless_they_are_to_raise() -> None:
    layer, X = nn.Linear(3, 2), draw(8, 3)
    X[2, 1] = torch.inf
    with torch.no_grad(), nrc.watch(layer) as features:
        layer(X)
    assert (features.count, features.statistics.skipped) == (7, 1)
    close_to(features.statistics, np.delete(X.numpy(), 2, axis=0))
    with torch.no_grad(), nrc.watch(layer, nonfinite="raise"), pytest.raises(ValueError, match="the first is row 2"):
        layer(X)


def test_what_does_not_fit_is_said() -> None:
    model = network()
    with pytest.raises(TypeError, match=r"torch\.nn\.Module is expected"):
        nrc.watch(lambda x: x)
    with pytest.raises(ValueError, match="no layer 'tail'; it has 0, 1, 2, 3, 4, head"):
        nrc.watch(model, layers=["tail"])
    with pytest.raises(ValueError, match="not in the model"):
        nrc.watch(model, layers=[nn.Linear(2, 2)])
    for options in ({"every": 0}, {"max_rows": 0}, {"positions": "all"}, {"mode": "test"}, {"precision": "low"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            nrc.watch(model.head, **options)
    with pytest.raises(ValueError, match="nonfinite is 'keep'"):
        nrc.watch(model.head, nonfinite="keep")
    with pytest.raises(TypeError, match=r"layers is 'head'.*such as \['head'\]"):
        nrc.watch(model, layers="head")
    with pytest.raises(TypeError, match="mask is a int"):
        nrc.watch(model, layers=["head"], mask=1)
    assert not model.head._forward_pre_hooks
    layer = nn.Linear(3, 2)
    with nrc.watch(layer) as features:
        with pytest.raises(RuntimeError, match="given nothing"):
            features.report()
        features.set_targets(draw(5, 2))
        with pytest.raises(ValueError, match=r"shape \(5, 2\).*rows of shape \(4,\)"):
            layer(draw(4, 3))
        features.set_targets(draw(4, 2))
        layer(draw(4, 3))
        with pytest.raises(ValueError, match="call set_targets before every forward pass"):
            layer(draw(4, 3))
    tagger = Tagger()
    with nrc.watch(tagger, layers=["head"], mask="attention_mask"):
        with pytest.raises(ValueError, match="called without 'attention_mask'"):
            tagger(draw(2, 3, 4))
        with pytest.raises(ValueError, match=r"shape \(2, 2\); \(2, 3\)"):
            tagger(draw(2, 3, 4), attention_mask=torch.ones(2, 2))


def test_missing_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r"pip install 'nrc-fast\[torch\]'"):
        nrc.watch(nn.Linear(2, 2))


def test_the_input_of_a_whole_network_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2))
    with nrc.watch(model) as whole, nrc.watch(model[2]) as last, nrc.watch(head) as small, torch.no_grad():
        model(X)
        head(model[:2](X))
    words = "What was watched is the input of the whole Sequential, with 2 layers of weights inside."
    assert any(note.startswith(words) for note in whole.report(n=2).notes)
    for report in (last.report(), small.report(n=2), whole.report(np.eye(2, 4))):
        assert not any("the whole" in note for note in report.notes)
