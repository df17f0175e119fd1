"""One run in several processes, each with a GPU of its own.

Every process runs the whole program with the same seeds, the same batches and the same draws, and comes to the same
numbers. Only the passes of faces through a network are shared out: each process takes its rows of the batch through the
network's body, and all get the features of everyone. Heads, losses and optimisers then do the same in each, so a loss
may couple faces as it likes, and methods know nothing of all this. Going back, every process has the gradient of all
features, takes its own rows of it through the body, and the gradients of the body's weights are added up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

from fergen_bench.error import BenchError, RunError
from fergen_bench.peers import MEETING

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""


class Processes:
    """The processes that make a run together. The first of them speaks and writes for all."""

    def __init__(self, device: str) -> None:
        """Joins them, as torchrun's environment variables say. device: cpu, or cuda for the GPU of this process."""
        self.count, self.first = int(os.environ["WORLD_SIZE"]), os.environ["RANK"] == "0"
        if device not in {"cpu", "cuda"}:
            raise BenchError(f"--device {device}: names one device, and {self.count} processes make this run; use cuda")
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
        if device == "cuda" and torch.cuda.device_count() < here:
            raise BenchError(
                f"{here} processes were started for this run, and torch {torch.__version__} sees "
                f"{torch.cuda.device_count()} CUDA devices; ask for fewer with --gpus-per-run"
            )
        self.device = torch.device(device)
        if device == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        meeting = f"file://{os.environ[MEETING]}" if MEETING in os.environ else "env://"
        where: dict[str, Any] = {"rank": int(os.environ["RANK"]), "world_size": self.count, "timeout": PATIENCE}
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", init_method=meeting, **where)

    def told(self, said: bool) -> bool:
        """What the first process says, in all of them."""
        return bool(self._sent(torch.tensor(float(said)))[()])

    def unanimous(self, said: bool) -> bool:
        """Whether all of them say so."""
        return not bool(_added(torch.tensor(float(not said), device=self.device)))

    def compare(self, logits: np.ndarray) -> None:
        """Refuses logits that are not the same in all processes, up to what rounding may come to."""
        same = np.allclose(logits, self._sent(torch.from_numpy(logits)), rtol=1e-2, atol=1e-2)
        if not self.unanimous(same):
            raise RunError(
                f"the {self.count} processes of this run came to different logits, so the method draws random numbers "
                f"that do not come from its context, or its operations differ from one GPU to the next; use one GPU"
            )

    def _sent(self, values: Tensor) -> np.ndarray:
        """Values of the first process."""
        values = values.to(self.device, copy=True)
        distributed.broadcast(values, 0)
        return values.cpu().numpy()


def share_out(prepare: Callable[[Tensor], Tensor], body: nn.Module, images: Tensor) -> Tensor:
    """body(prepare(images)), to which each process contributes its rows: (B, …) → (B, features), in all of them.

    Where there are fewer faces than processes, or a method has hooked into the body (it may couple faces there), every
    process takes the whole batch through it instead.
    """
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in body.modules())
    if hooked or len(images) < distributed.get_world_size():
        return body(prepare(images))
    faces = prepare(_Mine.apply(images))
    weights: dict[str, Tensor] = {name: weight for name, weight in body.named_parameters() if weight.requires_grad}
    if weights and torch.is_grad_enabled():
        weights = dict(zip(weights, _Used.apply(*weights.values()), strict=True))
    drawn = _generator_state(faces.device) if body.training else None
    with _WholeBatch():
        features = functional_call(body, weights, (faces,))
    if drawn is not None and not torch.equal(drawn, _generator_state(faces.device)):
        raise RunError(
            f"{type(body).__name__} draws random numbers while it is trained (dropout, say), and each process would "
            f"draw others than one GPU does; use one GPU for this network"
        )
    return _Everyones.apply(features, len(images))


def _generator_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _added(values: Tensor) -> Tensor:
    """Sums over the processes. The same bits in all of them."""
    values = values.contiguous().clone()
    distributed.all_reduce(values)
    return values


# A tensor is either the same in all processes, or each has a part of it: some rows, or one of the terms of a sum. The
# functions below go from one to the other, and the gradient of each is another of them, so that gradients of gradients
# are right too.


class _Mine(Function):
    """This process's rows of a batch."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.count = len(values)
        return values.tensor_split(distributed.get_world_size())[distributed.get_rank()]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Everyones.apply(gradient, ctx.count)


class _Everyones(Function):
    """All rows of a batch of `count`, from those of each process."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int) -> Tensor:
        processes = distributed.get_world_size()
        padded = rows.new_zeros(-(-count // processes), *rows.shape[1:])  # collectives want equal shapes
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in range(processes)]
        distributed.all_gather(gathered, padded)
        sizes = [len(part) for part in torch.arange(count).tensor_split(processes)]
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Mine.apply(gradient), None


class _Added(Function):
    """The sum of what each process has."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _added(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Used.apply(gradient)[0]


class _Used(Function):
    """Tensors that are the same in all processes, which each now uses in its own way: gradients are added up."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> Any:
        ctx.set_materialize_grads(False)  # a weight without gradient has none with one process either
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        there = [gradient for gradient in gradients if gradient is not None]
        if not there:
            return gradients
        total = _Added.apply(torch.cat([gradient.flatten() for gradient in there]))
        parts = zip(there, total.split([gradient.numel() for gradient in there]), strict=True)
        added = iter([part.view_as(gradient) for gradient, part in parts])
        return tuple(None if gradient is None else next(added) for gradient in gradients)


class _WholeBatch(TorchFunctionMode):
    """Batch norm in training sees the whole batch, whichever module it is part of."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        function = _batch_norm if function is functional.batch_norm else function
        return function(*args, **(kwargs or {}))


def _batch_norm(
    rows: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm of the batch of which each process has some rows."""
    if not training:
        return functional.batch_norm(rows, running_mean, running_var, weight, bias, False, momentum, eps)
    if rows.is_cuda:
        if running_mean is None or running_var is None:
            # torch's own reads counts as the type of rows where no statistics are kept, and they may be bfloat16.
            kept = [rows.new_zeros(rows.shape[1], dtype=torch.float32) for _ in range(2)]
            running_mean, running_var = kept
        among = distributed.group.WORLD, distributed.get_world_size()
        return SyncBatchNorm.apply(rows, weight, bias, running_mean, running_var, eps, momentum, *among)
    # torch's own is for GPUs. Around the common mean: a mean of squares less a squared mean would lose digits.
    over = [dimension for dimension in range(rows.dim()) if dimension != 1]
    shape = [-1 if dimension == 1 else 1 for dimension in range(rows.dim())]
    own = torch.cat([rows.sum(over), rows.new_tensor([rows.numel() // rows.shape[1]])])
    (sums,) = _Used.apply(_Added.apply(own))
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    centred = rows - mean.view(shape)
    (variance,) = _Used.apply(_Added.apply(centred.square().sum(over) / count))
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * (count / (count - 1)), momentum)
    scale = torch.rsqrt(variance + eps) if weight is None else torch.rsqrt(variance + eps) * weight
    normalised = centred * scale.view(shape)
    return normalised if bias is None else normalised + bias.view(shape)
