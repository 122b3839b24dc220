"""What a method sees while it unlearns: batches' losses and log-probabilities, teachers, relabelling; no devices, loops or budgets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import Model
from mubench_ray.randomness import derive, torch_generator
from mubench_ray.tasks.base import Batch, Task
from mubench_ray.training.data import UnlearningData
from mubench_ray.training.evaluate import eval_mode
from mubench_ray.training.meter import Meter
from mubench_ray.trial import Training


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities (B, K), summed over K, averaged over B, in nats; raises MubenchError for those of sequences.

    It knows neither which tokens count nor SuperLoss: a method's loss takes ``Context.kl``.
    """
    if student.dim() != 2:
        raise MubenchError(
            f"kl() takes log-probabilities (B, K), not {tuple(student.shape)}: which tokens count is the batch's to say. "
            "Use ctx.kl(batch, teacher, student)."
        )
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean")


class Helper:
    """A network that a method trains beside f_U, with Adam, until it freezes it."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.network = network
        self._optimizer: torch.optim.Optimizer | None = optimizer

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What trains it; raises ValueError once it is a teacher."""
        if self._optimizer is None:
            raise ValueError("a helper that is frozen takes no step")
        return self._optimizer

    def freeze(self) -> None:
        """From now on it is a teacher."""
        _frozen(self.network)
        self._optimizer = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        optimizer = None if self._optimizer is None else self._optimizer.state_dict()
        return {"network": self.network.state_dict(), "optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        if state["optimizer"] is None:
            self.freeze()
        else:
            self.optimizer.load_state_dict(state["optimizer"])


class Context:
    """The network being unlearned (f_U) and everything a method's formula mentions.

    ``state`` is the method's own memory: tensors and numbers, and lists, tuples and dictionaries of them, that a checkpoint keeps; ``helper`` gives networks.
    ``mask`` maps parameter names to boolean tensors; while it is set, entries that are False are not moved by any step. ``damping`` maps
    parameter names to the share, in (0, 1], of every step down the loss that their entries take; weight decay is not damped.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        network: nn.Module,
        data: UnlearningData,
        seed: int,
        meter: Meter,
        lr: float | None,
    ) -> None:
        self.task, self.model, self.network, self.data, self.meter = task, model, network, data, meter
        self.seed, self.lr = seed, lr
        self.device = data.device
        self.state: dict[str, Any] = {}
        #: Whether a step of any phase was taken; once a method has ended, whether what it leaves is its own (``unlearning.unlearn``).
        self.stepped = False
        #: Of a trial with LoRA what it trained, by name, once it has ended.
        self.adapters: dict[str, Tensor] | None = None
        #: Networks that the method trains beside f_U, by name.
        self.helpers: dict[str, Helper] = {}
        self.mask: dict[str, Tensor] | None = None
        self.damping: dict[str, Tensor] | None = None
        #: How the original was trained, for methods that train something from scratch; None where it was not said.
        self.training: Training | None = None
        #: Maps per-example losses (B,) to the losses that are minimised.
        self.curriculum: Callable[[Tensor], Tensor] | None = None
        #: Number of the phase and of the pass within it.
        self.epoch: tuple[int, int] = (0, 0)
        #: Share of its passes that the phase makes, below 1 where the budget shortens it.
        self.share = 1.0
        #: The processes that share this run.
        self.world = meter.world
        self._teachers: dict[str, nn.Module] = {}
        self._draws: dict[tuple, Tensor] = {}
        self._pools: dict[str, Tensor] = {}

    def to_try_on(self, meter: Meter) -> Context:
        """A context whose network, state and sets may be changed without this one noticing; teachers and examples are the same."""
        other = copy.copy(self)
        other.network, other.meter, other.world = copy.deepcopy(self.network), meter, meter.world
        other.data = copy.copy(self.data)
        other.data.sets = dict(self.data.sets)
        other.state, other.curriculum = copy.deepcopy(self.state), copy.deepcopy(self.curriculum)
        other.helpers, other.mask, other.damping, other._draws = {}, None, None, {}
        return other

    @property
    def learning_rate(self) -> float:
        """The trial's learning rate; raises MubenchError where it has none."""
        if self.lr is None:
            raise MubenchError(
                "the trial has no learning rate: the method says that it takes no gradient steps (uses_lr)."
            )
        return self.lr

    # Teachers

    def keep_original(self) -> None:
        """Freeze a copy of the network as it is now: f_O. Called once, before the first step."""
        self._teachers["original"] = _frozen(copy.deepcopy(self.network))

    @property
    def original(self) -> nn.Module:
        """f_O: the model that unlearning started from, frozen and in eval mode."""
        return self._teachers["original"]

    @property
    def incompetent(self) -> nn.Module:
        """A randomly initialised network of the same architecture, frozen and in eval mode (Bad-T's incompetent teacher)."""
        if "incompetent" not in self._teachers:
            self._teachers["incompetent"] = _frozen(self.fresh_network("incompetent"))
        return self._teachers["incompetent"]

    def fresh_network(self, stream: str) -> nn.Module:
        """A newly initialised network of the same architecture, from this trial's seed."""
        state = torch.random.get_rng_state()
        torch.manual_seed(derive("fresh", stream, self.seed))
        network = self.model.build(self.task).to(self.device)
        torch.random.set_rng_state(state)
        return network

    def helper(self, name: str) -> Helper:
        """The method's own network of this name, newly initialised where it is asked for first; a checkpoint keeps it."""
        if name not in self.helpers:
            network = self.fresh_network(name).train()
            self.helpers[name] = Helper(network, torch.optim.Adam(network.parameters(), lr=self.learning_rate))
        return self.helpers[name]

    # Losses

    def outputs(self, batch: Batch, of: nn.Module | None = None) -> Any:
        """Logits of a network (f_U unless ``of`` names a teacher); a teacher's carry no gradient. Computed once per batch."""
        network = self.network if of is None else of
        if id(network) not in batch.cache:
            rows = self.world.rows(len(batch))
            if rows is None:
                batch.cache[id(network)] = self._outputs(network, batch)
            else:
                with self.world.split(batch, rows) as own:
                    outputs = self._outputs(network, own)
                batch.cache[id(network)] = self.world.gather(outputs, rows, len(batch))
        return batch.cache[id(network)]

    def _outputs(self, network: nn.Module, batch: Batch) -> Any:
        """A network's outputs for a batch, or for this process's rows of one; kept with it."""
        key = ("own", id(network))
        if key not in batch.cache:
            with torch.set_grad_enabled(torch.is_grad_enabled() and network is self.network):
                batch.cache[key] = self.task.outputs(network, batch)
        return batch.cache[key]

    def _each(self, function: Callable[[Any, Batch], Any], batch: Batch) -> Any:
        """What a function of f_U's outputs and a batch says of each example; of the other processes' rows they say it."""
        rows = self.world.rows(len(batch))
        if rows is None:
            return function(self.outputs(batch), batch)
        with self.world.split(batch, rows) as own:
            values = function(self._outputs(self.network, own), own)
        return self.world.gather(values, rows, len(batch))

    def losses(self, batch: Batch) -> Tensor:
        """The task's loss of f_U on each example, (B,), in nats."""
        return self._each(self.task.losses, batch)

    def loss(self, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """Mean of the task's loss, through the curriculum if the trial has one; with per-example ``weight`` (B,) sum(w l) / sum(w)."""
        losses = self.losses(batch)
        if self.curriculum is not None:
            losses = self.curriculum(losses)
        return losses.mean() if weight is None else (weight * losses).sum() / weight.sum()

    def log_likelihoods(self, batch: Batch, of: nn.Module | None = None) -> Tensor:
        """log p(y | x) of each example's whole target, (B,), in nats: summed over its tokens where it is a sequence; of f_U, or of a teacher."""
        if of is None:
            return self._each(self.task.log_likelihoods, batch)
        return self.task.log_likelihoods(self.outputs(batch, of), batch)

    def mean(self, terms: Tensor, each: Tensor | int = 1, factor: float = 1.0) -> Tensor:
        """Mean over a batch of its examples' losses, through the curriculum if the trial has one.

        An example's loss is ``factor`` times the sum of its ``terms`` (B, ...), over their number ``each`` (its tokens, say; (B,) or the same for all).
        """
        if self.curriculum is None and not isinstance(each, Tensor):
            return factor * (terms.mean() if terms.dim() == 1 else terms.sum() / (len(terms) * each))
        losses = (terms if terms.dim() == 1 else terms.flatten(1).sum(1)) / each
        return factor * losses.mean() if self.curriculum is None else self.curriculum(factor * losses).mean()

    def kl(self, batch: Batch, teacher: Tensor, student: Tensor, factor: float = 1.0) -> Tensor:
        """``factor`` KL(teacher || student) of two networks' ``log_probs`` on a batch, in nats, as the loss of each example: a token's mean where the
        target is a sequence, as the task's loss is."""
        terms = F.kl_div(student, teacher, log_target=True, reduction="none")
        return self.mean(terms, self.task.tokens(batch), factor)

    def log_probs(self, batch: Batch, of: nn.Module | None = None, temperature: float = 1.0) -> Tensor:
        """Log-probabilities (B, K), or (B, T, K) of a target of T tokens, at a temperature; of f_U, or of a teacher."""
        log_probs = self.task.log_probs(self.outputs(batch, of), batch)
        return log_probs if temperature == 1.0 else F.log_softmax(log_probs / temperature, dim=-1)

    def divergence(
        self,
        batch: Batch,
        teacher: nn.Module | None,
        student: nn.Module | None = None,
        temperature: float = 1.0,
        factor: float = 1.0,
    ) -> Tensor:
        """``factor`` KL(teacher || student) at a temperature, as ``kl`` has it; None stands for f_U. Between Gaussians where the task predicts numbers, not
        probabilities; the temperature is then their standard deviation."""
        own = self.task.divergence(self.outputs(batch, teacher), self.outputs(batch, student), batch)
        if own is not None:
            return factor * (self.mean(own) / temperature**2)
        log_probs = [self.log_probs(batch, network, temperature=temperature) for network in (teacher, student)]
        return self.kl(batch, *log_probs, factor=factor)

    def relabel(self, batch: Batch, keep_true: bool = False, redraw: bool = False) -> Batch:
        """The batch with random targets on its D_F rows.

        The draw is a table over the training split, so it does not depend on the order or size of batches. ``redraw``: a new table every epoch;
        ``keep_true``: the true target may be drawn. Where another example's target takes its place, it is one of D_R's.
        """
        key = ("relabel", self.seed, self.epoch if redraw else "once")
        if key not in self._draws:
            size = len(self.data.rows("forget").examples)
            self._draws = {key: torch.rand(size, generator=torch_generator(*key))}
        draw = self._draws[key].to(self.device)[batch["index"]]
        pool = {"pool": self._kept_targets(name)} if (name := self.task.relabels_from) else {}
        relabelled = self.task.relabel(batch, draw, keep_true, **pool)
        columns = {
            name: torch.where(batch.forget.view(-1, *[1] * (column.dim() - 1)), column, batch[name])
            for name, column in relabelled.columns.items()
            if column is not batch[name]
        }
        return relabelled.replace(**columns)

    def _kept_targets(self, column: str) -> Tensor:
        """The targets of D_R, each once, rising."""
        if column not in self._pools:
            retain = self.data.rows("retain")
            self._pools[column] = retain.examples.columns[column][retain.positions].unique().to(self.device)
        return self._pools[column]

    def gradients(self) -> dict[str, Tensor]:
        """A copy of the gradient of every parameter of f_U after ``backward``; zeros where it has none."""
        return {
            name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
            for name, p in self.network.named_parameters()
        }

    # Sets

    @torch.no_grad()
    def error(self, name: str, batch_size: int | None = None) -> float:
        """Mean of 1 - score of f_U on ``forget``, ``retain`` or ``validation``, in eval mode; its FLOs are charged. Of a task whose score shows only
        in what it generates: the mean loss."""
        rows = self.data.rows(name)
        wrong = 0.0
        with eval_mode(self.network):
            # Logits over a vocabulary are large: a task says how many examples fit.
            for picked in torch.arange(len(rows)).split(batch_size or min(256, self.task.evaluation_batch)):
                batch = self.data.batch(rows, picked)
                observed = self.meter.charge(
                    "error", len(batch), lambda batch=batch: self._each(self.task.observe, batch)
                )
                scored = not bool(observed["correct"].isnan().any())
                wrong += float((1 - observed["correct"]).sum() if scored else observed["loss"].sum())
        return wrong / len(rows)

    def generator(self, *stream: object) -> torch.Generator:
        """A CPU generator for one of the method's own draws."""
        return torch_generator("method", self.seed, *stream)


def _frozen(network: nn.Module) -> nn.Module:
    network.eval()
    return network.requires_grad_(False)
