"""Parity with the reference implementations: methods that adapt to test images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import Tensor, nn

from fergen_bench.training.normalisation import entropy, normalisations, scale_and_shift, use_batch_statistics
from golden import PRECISIONS, Golden


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_t3a_supports_and_scores(dtype: torch.dtype) -> None:
    t3a, golden = method_module("t3a"), Golden("t3a", dtype)
    weight, bias = golden("classifier_weight"), golden("classifier_bias")
    batches = [golden(f"features{t}") for t in range(sum(name.isdigit() for name in golden.names("features")))]
    first = t3a.first_supports(weight, bias)
    golden.exact("warmup_labels", first.labels)
    golden.check("warmup_entropy", first.entropy)
    for t, features in enumerate(batches):
        labelled = t3a.labelled(features, weight, bias)
        golden.exact(f"pseudo_labels{t}", labelled.labels)
        golden.check(f"entropy{t}", labelled.entropy)
    for case, most in enumerate(golden("filter_K").tolist()):
        supports, place = first, f"case{case}_"
        for t, features in enumerate(batches):
            supports = t3a.filtered(t3a.added(supports, features, weight, bias), most, len(bias))
            golden.check(f"{place}supports{t}", supports.features)
            golden.exact(f"{place}support_labels{t}", supports.labels)
            golden.check(f"{place}support_entropy{t}", supports.entropy)
            golden.check(f"{place}logits{t}", t3a.scores(features, supports, len(bias)))
        supports = t3a.filtered(supports, most, len(bias))
        golden.check(f"{place}logits_no_adapt", t3a.scores(batches[0], supports, len(bias)))
        again = t3a.filtered(t3a.added(first, batches[1], weight, bias), most, len(bias))
        golden.check(f"{place}logits_after_reset", t3a.scores(batches[1], again, len(bias)))


class TentNet(nn.Module):
    """The network of the TENT vectors."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        weights = {name: golden(f"param.{name}").clone() for name in golden.names("param.")}
        channels = len(weights["bn1.weight"]), len(weights["bn2.weight"])
        stride, dtype = int(golden("conv2_stride")), golden.dtype
        self.conv1 = nn.Conv2d(weights["conv1.weight"].shape[1], channels[0], 3, 1, 1, bias=False, dtype=dtype)
        self.bn1 = nn.BatchNorm2d(channels[0], dtype=dtype)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, stride, 1, bias=False, dtype=dtype)
        self.bn2 = nn.BatchNorm2d(channels[1], dtype=dtype)
        self.fc = nn.Linear(*weights["fc.weight"].shape[::-1], dtype=dtype)
        self.load_state_dict(weights, strict=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(self.bn1(self.conv1(images)).relu())).relu()
        return self.fc(hidden.mean((2, 3)))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_tent_outputs_gradients_and_parameters(dtype: torch.dtype) -> None:
    tent, golden = method_module("tent"), Golden("tent", dtype)
    limit = {torch.float64: 1e-9, torch.float32: 1e-4}[dtype]
    batches = [golden(f"images{t}") for t in range(len(golden.names("images")))]
    net = TentNet(golden)
    for t, images in enumerate(batches):
        golden.check(f"outputs_source{t}", net(images), limit)
    layers = list(normalisations(net).items())
    use_batch_statistics([layer for _, layer in layers], len(batches[0]), "tent")
    names = [f"{name}.{part}" for name, _ in layers for part in ("weight", "bias")]
    parameters = scale_and_shift([layer for _, layer in layers])
    adam: dict[str, Any] = dict(
        lr=float(golden("adam_lr")),
        betas=(float(golden("adam_beta1")), float(golden("adam_beta2"))),
        eps=float(golden("adam_eps")),
        weight_decay=float(golden("adam_weight_decay")),
    )
    sgd: dict[str, Any] = dict(lr=float(golden("sgd_lr")), momentum=float(golden("sgd_momentum")), nesterov=True)

    def check(place: str, gradients: bool = False) -> None:
        for name, parameter in zip(names, parameters, strict=True):
            value = parameter.grad if gradients else parameter
            assert value is not None
            golden.check(f"{place}.{name}", value, limit)

    def descent(kind: str, steps: int = 1) -> Any:
        make = {"adam": lambda weights: torch.optim.Adam(weights, **adam), "sgd": lambda w: torch.optim.SGD(w, **sgd)}
        return tent.Descent(net, parameters, make[kind], steps)

    for kind in ("adam", "sgd"):
        one = descent(kind)
        for t, images in enumerate(batches):
            golden.check(f"online_{kind}_outputs{t}", one.adapt(images), limit)
            check(f"online_{kind}_grad{t}", gradients=True)
            check(f"online_{kind}_after{t}")
            golden.check(f"online_{kind}_outputs_after{t}", net(images), limit)
        one.reset()
        if kind == "adam":
            check("online_adam_after_reset")
            golden.check("online_adam_outputs_after_reset", one.adapt(batches[1]), limit)
            check("online_adam_after_reset_step")
            one.reset()

    golden.check("steps3_outputs_batch_statistics", net(batches[0]), limit)
    one = descent("adam")
    steps = len([name for name in golden.names("steps3_entropy") if name.endswith("_f64")])
    for t in range(steps):
        logits = one.adapt(batches[0])
        golden.check(f"steps3_entropy{t}", entropy(logits).mean(), limit)
        golden.check(f"steps3_outputs{t}", logits, limit)
        check(f"steps3_grad{t}", gradients=True)
    check("steps3_after")
    golden.check("steps3_outputs_after", net(batches[0]), limit)
    one.reset()
    golden.check("steps3_returned", descent("adam", steps).adapt(batches[0]), limit)
    one.reset()

    episodic = descent("adam", 2)
    for t, images in enumerate(batches):
        episodic.reset()
        golden.check(f"episodic_outputs{t}", episodic.adapt(images), limit)
        check(f"episodic_after{t}")


class SarNet(nn.Module):
    """The network of the SAR vectors."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        weights = {name: golden(f"param.{name}").clone() for name in golden.names("param.")}
        groups, stride = int(golden("n_groups")), int(golden("layer4_stride"))

        def layer(name: str, *options: int) -> nn.Sequential:
            outputs, inputs, side, _ = weights[f"{name}.0.weight"].shape
            convolution = nn.Conv2d(inputs, outputs, side, *options, bias=False)
            return nn.Sequential(convolution, nn.GroupNorm(groups, outputs), nn.ReLU())

        self.layer1, self.layer2, self.layer4 = layer("layer1", 1, 1), layer("layer2", 1, 1), layer("layer4", stride)
        self.head_ln = nn.LayerNorm(len(weights["head_ln.weight"]))
        self.fc = nn.Linear(*weights["fc.weight"].shape[::-1])
        self.to(golden.dtype).load_state_dict(weights)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.head_ln(self.layer4(self.layer2(self.layer1(images))).flatten(1)))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_sar_steps_and_recoveries(dtype: torch.dtype) -> None:
    sar, golden = method_module("sar"), Golden("sar", dtype)
    limit = {torch.float64: 1e-9, torch.float32: 1e-3}[dtype]
    net = SarNet(golden)
    layers = {name: layer for name, layer in normalisations(net).items() if "layer4" not in name}
    names = [f"{name}.{part}" for name in layers for part in ("weight", "bias")]
    parameters = scale_and_shift(list(layers.values()))
    rate, momentum = float(golden("lr")), float(golden("momentum"))
    threshold = float(golden("ema_reset_threshold"))
    one = sar.SharpDescent(
        net,
        parameters,
        lambda weights: torch.optim.SGD(weights, rate, momentum=momentum),
        float(golden("margin")),
        threshold,
        float(golden("rho")),
    )
    for t in range(len(golden.names("images"))):
        if t == int(golden("explicit_reset_before")):
            one.restore()
        step = one.adapt(golden(f"images{t}"))
        golden.check(f"outputs{t}", step.logits, limit)
        for which, entropies, kept in zip(("first", "second"), step.entropies, step.kept, strict=True):
            golden.check(f"entropy_{which}{t}", entropies, limit)
            golden.exact(f"kept_{which}{t}", kept.to(torch.uint8))
        golden.check(f"grad_norm{t}", step.norm, limit)
        for name, moved, gradient, after in zip(names, step.perturbed, step.gradients, parameters, strict=True):
            golden.check(f"perturbed{t}.{name}", moved, limit)
            golden.check(f"grad_second{t}.{name}", gradient, limit)
            golden.check(f"after{t}.{name}", after, limit)
        average = -1.0 if one.average is None else one.average
        golden.check(f"ema{t}", torch.tensor(average, dtype=torch.float64), limit)
        golden.exact(f"reset{t}", torch.tensor(step.recovered, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_shot_pseudo_labels_losses_and_steps(dtype: torch.dtype) -> None:
    shot, golden = method_module("shot"), Golden("shot", dtype)
    inputs, labels = golden("inputs"), golden("labels")
    assert len(inputs) == len(labels)
    backbone, bottleneck, batch_norm, head = _shot_net(golden)
    with torch.no_grad():
        features = batch_norm.eval()(bottleneck(backbone(inputs)))
        logits = head(features)
    golden.check("eval_features", features)
    golden.check("eval_logits", logits)
    golden.check("fc_weight", head.weight)
    kinds = {"cosine": 0, "cosine_pda": int(golden("pda_threshold")), "euclidean": 0}
    for kind, threshold in kinds.items():
        distance = kind.partition("_")[0]
        golden.check(f"{kind}_features", shot.compared(features, distance))
        rounds = shot.pseudo_labels(features, logits, distance, threshold)
        for k, found in enumerate(rounds):
            golden.exact(f"{kind}_class_set{k}", found.classes)
            golden.check(f"{kind}_centroids{k}", found.centroids)
            golden.check(f"{kind}_distances{k}", found.distances)
            golden.exact(f"{kind}_pseudo_labels{k}", found.labels)
    chosen = shot.pseudo_labels(features, logits)[-1].labels

    assert float(golden("epsilon")) == pytest.approx(shot.EPSILON)
    rate, decays = float(golden("lr")), (float(golden("lr_decay1")), float(golden("lr_decay2")))
    rest = [*bottleneck.parameters(), *batch_norm.parameters()]
    optimizer = shot.target_optimizer(backbone.parameters(), rest, rate, decays, float(golden("momentum")))
    for group in optimizer.param_groups:
        group["weight_decay"] = float(golden("weight_decay"))
    batch_norm.train()
    parts = {"backbone": backbone, "bottleneck": bottleneck, "bn": batch_norm}
    steps = [name for name in golden.names("batch") if name.isdigit()]
    for s in range(len(steps)):
        rows = golden(f"batch{s}")
        golden.exact(f"batch_pseudo_labels{s}", chosen[rows])
        shot.set_rates(optimizer, rate, int(golden("iter_num0")) + s, int(golden("max_iter")))
        golden.check(f"lr{s}", torch.tensor([group["lr"] for group in optimizer.param_groups], dtype=torch.float64))
        logits = head(batch_norm(bottleneck(backbone(inputs[rows]))))
        weights = float(golden("cls_par")), float(golden("ent_par"))
        terms = shot.target_loss(logits, chosen[rows], *weights)
        golden.check(f"logits{s}", logits)
        golden.check(f"loss_ce{s}", terms.ce)
        golden.check(f"loss_entropy{s}", terms.entropy)
        golden.check(f"loss_diversity{s}", terms.diversity)
        golden.check(f"loss_im{s}", weights[1] * (terms.entropy - terms.diversity))
        golden.check(f"loss_total{s}", terms.total)
        optimizer.zero_grad()
        terms.total.backward()
        for place, part in parts.items():
            for name, parameter in part.named_parameters():
                if (place, name) != ("bottleneck", "bias"):  # its gradient is 0, since batch norm follows
                    assert parameter.grad is not None
                    golden.check(f"grad{s}.{place}.{name}", parameter.grad)
        optimizer.step()
        for place, part in parts.items():
            for name, value in part.state_dict().items():
                if name != "num_batches_tracked":
                    golden.check(f"after{s}.{place}.{name}", value)

    source_logits = golden("source_logits", grad=True)
    loss = shot.smoothed_loss(source_logits, golden("source_labels"), float(golden("smoothing")))
    golden.check("source_loss", loss)
    golden.check("grad_source_logits", torch.autograd.grad(loss, source_logits)[0])


def _shot_net(golden: Golden) -> tuple[nn.Linear, nn.Linear, nn.BatchNorm1d, nn.Linear]:
    """Return trunk, bottleneck, batch norm and frozen classifier of the SHOT vectors."""
    weights = {name: golden(f"param.{name}").clone() for name in golden.names("param.")}
    trunk = nn.Linear(*weights["backbone.weight"].shape[::-1], bias=False)
    bottleneck = nn.Linear(*weights["bottleneck.weight"].shape[::-1])
    batch_norm, head = nn.BatchNorm1d(len(weights["bn.weight"])), nn.Linear(*weights["fc.weight_v"].shape[::-1])
    head = nn.utils.parametrizations.weight_norm(head, dim=0)
    weights |= {
        "fc.parametrizations.weight.original0": weights.pop("fc.weight_g"),
        "fc.parametrizations.weight.original1": weights.pop("fc.weight_v"),
    }
    net = nn.ModuleDict({"backbone": trunk, "bottleneck": bottleneck, "bn": batch_norm, "fc": head}).to(golden.dtype)
    lacking, unknown = net.load_state_dict(weights, strict=False)
    assert not unknown
    assert set(lacking) <= {"bn.num_batches_tracked"}
    head.requires_grad_(False)
    return trunk, bottleneck, batch_norm, head
