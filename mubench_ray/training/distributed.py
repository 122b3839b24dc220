"""One run on several processes, with the numbers of one: every process makes the same global batches, and the network's work is split by rows.

A process puts only its rows of a batch through a network. The outputs of all are then gathered, differentiably, so that every process computes the whole
loss, whatever its formula: a mean, a ratio of sums, a contrast of all pairs, a curriculum that remembers. Each then goes back through its own rows, and the
mean of the gradients is the gradient that one process would have. Where rows meet inside the network (BatchNorm in train mode) the statistics are those of the
global batch, and dropout takes its rows of the mask that one process would draw. All that does not go through ``Context.outputs`` and
``Context.losses`` (masks, noise, pruning, Fisher from single examples, a helper's own training) is computed whole by every process, the same everywhere.

Plain ``torch.distributed``; one process never calls it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mubench_ray.errors import MubenchError
from mubench_ray.tasks.base import Batch


class WorkerLost(Exception):
    """Another process of this run is gone: nothing of the run can be known, and it has to be started again."""


@contextmanager
def _together() -> Iterator[None]:
    """Around everything that waits for the others."""
    try:
        yield
    except RuntimeError as error:  # what torch raises, whatever the backend
        raise WorkerLost(f"a process that shares this run no longer answers: {error}") from error


class World:
    """The processes that share a run: this one's ``rank`` among ``size``. ``World()`` is one process alone.

    ``sharded`` keeps parameters, gradients and the optimiser's state in pieces, one a process (torch's FSDP), for networks that do not fit otherwise.
    """

    def __init__(self, rank: int = 0, size: int = 1, sharded: bool = False) -> None:
        self.rank, self.size, self.sharded = rank, size, sharded and size > 1
        #: How many batches were split so far; work that split none was done whole by every process.
        self.splits = 0

    @classmethod
    def joined(cls, sharded: bool = False) -> World:
        """The world of the process group that this process has joined, or of one process where there is none."""
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), sharded)

    def shard(self, network: nn.Module) -> nn.Module:
        """Where parameters are kept in pieces, cut the network's up, in place: every block of its outermost lists comes and goes on its own."""
        if self.sharded:
            blocks: dict[str, nn.Module] = {}
            for name, module in network.named_modules():
                listed = isinstance(network.get_submodule(name.rpartition(".")[0]), nn.ModuleList | nn.Sequential)
                inside = any(name.startswith(f"{block}.") for block in blocks)
                if listed and not inside and any(True for _ in module.parameters()):
                    blocks[name] = module
            for block in blocks.values():
                fully_shard(block)
            fully_shard(network)
        return network

    def unshard_into(self, whole: nn.Module, network: nn.Module) -> nn.Module:
        """The parameters of a network that ``shard`` cut up, put together into one of the same architecture."""
        state = {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in network.state_dict().items()}
        whole.load_state_dict(state)
        return whole

    def rows(self, count: int) -> slice | None:
        """This process's rows of a batch of ``count``, as even as they come; None where all are its own: fewer rows than processes are not split."""
        if self.size == 1 or count < self.size:
            return None
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @contextmanager
    def split(self, batch: Batch, rows: slice) -> Iterator[Batch]:
        """These rows of a batch, to be put through a network meanwhile: what couples the rows is that of the whole batch."""
        self.splits += 1
        part = replace(
            batch,
            columns={name: column[rows] for name, column in batch.columns.items()},
            inputs={name: column[rows] for name, column in batch.inputs.items()},
            forget=batch.forget[rows],
            cache=batch.cache.setdefault("rows", {}),
        )
        with _Coupled(rows, len(batch)):
            yield part

    def gather(self, outputs: Any, rows: slice, count: int) -> Any:
        """What all processes computed of a batch of ``count`` rows: a tensor with rows first, or a tuple, list or mapping of such. Differentiable."""
        if isinstance(outputs, Tensor):
            return _Gather.apply(outputs, rows, count, self.size)
        if isinstance(outputs, dict):
            return {name: self.gather(value, rows, count) for name, value in outputs.items()}
        if isinstance(outputs, list | tuple):
            return type(outputs)(self.gather(value, rows, count) for value in outputs)
        raise MubenchError(
            f"workers: the task's outputs are {type(outputs).__name__}; only tensors, tuples, lists and mappings of them can be "
            "gathered. Use workers: 1."
        )

    def average_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over all processes; where parameters are in pieces, FSDP has done so."""
        if self.sharded:
            return
        buckets: dict[torch.dtype, list[Tensor]] = {}
        for parameter in network.parameters():
            if parameter.grad is not None:
                buckets.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in buckets.values():
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            with _together():
                dist.all_reduce(flat)
            flat /= self.size
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients])):
                gradient.copy_(mean.view_as(gradient))

    def total(self, value: float) -> float:
        """The sum over all processes, the same on each."""
        return float(sum(self._gathered(value)))

    def agree(self, decision: bool) -> bool:
        """What rank 0 decides: whether to stop is asked of one clock only."""
        return bool(self._gathered(decision)[0])

    def on_rank_0(self, make: Callable[[], Any]) -> Any:
        """What ``make`` returns on rank 0, for all: a bool, a number, a string or None.

        An exception there is raised on every rank: on the others as what it is, or is a kind of, of a MubenchError and what a process that is short of memory
        raises, else as a MubenchError with its name and text.
        """
        if self.size == 1:
            return make()
        said, failed = b"", None
        if self.rank == 0:
            try:
                said = json.dumps({"value": make()}).encode()
            except Exception as error:  # noqa: BLE001 - the others would wait for ever; all raise it below
                failed = error
                kinds = [_name(kind) for kind in type(error).__mro__]
                said = json.dumps({"kinds": kinds, "name": type(error).__name__, "text": str(error)}).encode()
        answer = json.loads(self._exchanged(said)[0])
        if failed is not None:
            raise failed
        if "value" not in answer:
            raise _raised(answer["kinds"], answer["name"], answer["text"])
        return answer["value"]

    def check_equal(self, network: nn.Module, when: str) -> None:
        """Raise MubenchError naming the rank whose parameters or buffers are not, to the bit, those of rank 0."""
        if self.size == 1 or self.sharded:
            return
        sums = self._gathered(checksum(network.state_dict().values()))
        if wrong := [rank for rank, value in enumerate(sums) if value != sums[0]]:
            raise MubenchError(
                f"workers: {when} the network of rank {wrong[0]} is not that of rank 0. Something was drawn or computed differently on it: unlike "
                "devices, or a method that uses a random state of its own."
            )

    def _gathered(self, value: Any) -> list[Any]:
        return [json.loads(said) for said in self._exchanged(json.dumps(value).encode())]

    def _exchanged(self, said: bytes) -> list[bytes]:
        """What every rank says, by rank. Torch's own collectives of objects unpickle what they are sent, which lets whoever speaks for a rank run code."""
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sizes = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(self.size)]
        with _together():
            dist.all_gather(sizes, torch.tensor([len(said)], device=device))
            longest = max(int(size) for size in sizes)
            texts = [torch.zeros(longest, dtype=torch.uint8, device=device) for _ in range(self.size)]
            dist.all_gather(texts, torch.tensor([*said.ljust(longest)], dtype=torch.uint8, device=device))
        return [bytes(text[: int(size)].tolist()) for text, size in zip(texts, sizes)]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _raised(kinds: list[str], name: str, text: str) -> Exception:
    """The exception of another rank, given the names of its class and of those above it: the first of them that is known here."""
    known: list[type[Exception]] = [MemoryError, torch.OutOfMemoryError, MubenchError]
    for kind in known:
        known += kind.__subclasses__() if issubclass(kind, MubenchError) else []
    by_name = {_name(kind): kind for kind in known}
    kind = next((by_name[kind] for kind in kinds if kind in by_name), None)
    return MubenchError(f"{name}: {text}") if kind is None else kind(text)


def checksum(tensors: Iterable[Tensor]) -> int:
    """A number of the bits of some tensors, in order: equal tensors, equal number."""
    total = 0
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    for tensor in tensors:
        bits = tensor.detach().contiguous().view(-1)
        bits = bits.view(torch.uint8 if bits.dtype == torch.bool else integers[bits.element_size()]).long()
        total = (
            total * 1_000_003 + int((bits * (torch.arange(len(bits), device=bits.device) % 8191 + 1)).sum())
        ) % 2**61
    return total


class _Gather(torch.autograd.Function):
    """Rows of all processes; backward gives each its own rows' gradient, times the number of processes: the mean over them makes up for it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: slice, count: int, size: int) -> Tensor:
        ctx.rows, ctx.size = rows, size
        whole = own.new_zeros(count, *own.shape[1:])
        whole[rows] = own
        with _together():
            dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        (gradient,) = gradients
        return gradient[ctx.rows] * ctx.size, None, None, None


class _Sum(torch.autograd.Function):
    """The sum over all processes, of the gradients too."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        whole = own.clone()
        with _together():
            dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone()
        with _together():
            dist.all_reduce(whole)
        return whole


class _Coupled(TorchFunctionMode):
    """While some rows of a batch go through a network: BatchNorm sees the whole batch, and what is drawn for the rows is drawn for all, of which these are
    taken. Attention with dropout is computed as torch does on a CPU; its fused kernels on a GPU draw otherwise, and such a network is there equal in
    distribution only."""

    def __init__(self, rows: slice, count: int) -> None:
        super().__init__()
        self.rows, self.count, self.own = rows, count, rows.stop - rows.start

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self.batch_norm(*args, **kwargs)
        if func is F.dropout:
            return self.dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self.attention(*args, **kwargs)
        if func in (torch.rand, torch.randn, torch.randint):
            return self.draw(func, args, kwargs)
        return func(*args, **kwargs)

    def batch_norm(
        self, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None,
        training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        """``F.batch_norm`` with the statistics of the whole batch."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        others = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        number = x.numel() // x.shape[1] // self.own * self.count
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = _Sum.apply(values.sum(others)) / number
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / number
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean), momentum)
            if running_var is not None:
                running_var.lerp_((variance * (number / (number - 1))).to(running_var), momentum)
        scaled = centred * (variance + eps).rsqrt().view(shape)
        if weight is not None:
            scaled = scaled * weight.view(shape)
        if bias is not None:
            scaled = scaled + bias.view(shape)
        return scaled.to(x.dtype)

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """``F.dropout`` with these rows of the whole batch's mask."""
        if not training or p == 0 or x.shape[0] % self.own:
            return F.dropout(x, p, training, inplace)
        each = x.shape[0] // self.own
        whole = torch.ones(self.count * each, *x.shape[1:], dtype=x.dtype, device=x.device)
        return x * F.dropout(whole, p)[self.rows.start * each : self.rows.stop * each]

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """``F.scaled_dot_product_attention``; with dropout, these rows of the whole batch's mask."""
        if dropout_p == 0:
            options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
            return F.scaled_dot_product_attention(query, key, value, attn_mask, 0.0, **options)
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        return self.dropout(scores.softmax(-1), dropout_p) @ value

    def draw(self, func: Any, args: tuple, kwargs: dict) -> Tensor:
        """Random numbers for every row (the depth of a stochastic-depth network, a diffusion's noise)."""
        as_sequence = bool(args) and isinstance(args[-1], list | tuple)
        size = kwargs.get("size") if "size" in kwargs else args[-1] if as_sequence else args
        if func is torch.randint and not as_sequence and "size" not in kwargs:
            return func(*args, **kwargs)
        if not size or size[0] != self.own:
            return func(*args, **kwargs)
        whole = (self.count, *size[1:])
        if "size" in kwargs:
            return func(*args, **{**kwargs, "size": whole})[self.rows]
        return func(*args[:-1], whole, **kwargs)[self.rows] if as_sequence else func(*whole, **kwargs)[self.rows]
