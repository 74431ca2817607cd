"""Clients that train one after the other, each on its own examples and from its own state, and the average of some of their layers."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.data.clients import Client
from lmclib.data.dataset import Dataset
from lmclib.networks.layers import Layer, find_layers
from lmclib.training.loop import Diverged
from lmclib.training.order import epoch_order

CLIENT = 2  # the first number of a client's random stream; a parent's is 0, a child's 1
State = dict[str, Tensor]


class LocalTraining:
    r"""K clients with one initialisation: their examples, weights $\theta_k$ and momentum $v_k$.

    Data order and augmentation of a client follow from the seed, the client and the epoch alone, so that what one client does in an
    epoch depends on no other. The last, incomplete batch of an epoch is kept, as a client may have less than one batch.

    Args:
        model: the architecture with its initialisation, any `nn.Module`; it is copied. Its floating type is that of everything.
        data: the data set.
        clients: what each client has.
        lr: the learning rate η.
        momentum: μ.
        weight_decay: λ.
        batch_size: examples in a batch.
        augment: whether training images are shifted and flipped as the data set says.
        seed: of data order and augmentation.
        numbers: what the clients are called in their random streams; 0, 1, … by default.
        device: where to compute.

    Attributes:
        nets: the network of each client.
        epoch: how many epochs they have trained.
        layers: the layers of the architecture, in forward order.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        clients: Sequence[Client],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        batch_size: int = 32,
        augment: bool = True,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
    ):
        self.nets = [copy.deepcopy(model).to(device) for _ in clients]
        self.data, self.clients = data.to(device), list(clients)
        self.seen = self.data if augment else _plain(self.data)
        self.lr, self.momentum, self.weight_decay, self.batch_size = lr, momentum, weight_decay, batch_size
        self.streams = [(CLIENT, seed, k) for k in (range(len(clients)) if numbers is None else numbers)]
        self.epoch = 0
        first = next(self.nets[0].parameters())
        self.device, self.dtype = first.device, first.dtype
        self.layers = find_layers(self.nets[0], torch.zeros(2, *data.shape, dtype=self.dtype, device=self.device))
        self.parameters = [list(net.parameters()) for net in self.nets]
        self.forget_momentum()
        test = self.data.test
        self.tests = [(self._normal(test.x[client.test]), test.y[client.test]) for client in clients]

    def train_epoch(self) -> None:
        """One epoch of every client on its own examples.

        Raises:
            Diverged: a client's loss is no longer finite.
        """
        for k, net in enumerate(self.nets):
            net.train()
            for x, y in self._batches(k):
                loss = F.cross_entropy(net(x), y)
                sgd_step(loss, self.parameters[k], self.velocities[k], self.lr, self.momentum, self.weight_decay)
            if not loss.isfinite():
                raise Diverged(
                    f"lr={self.lr:g}: the loss of client {k} is no longer finite in epoch {self.epoch + 1}; try a lower lr"
                )
        self.epoch += 1

    @property
    def states(self) -> list[State]:
        """The state dict of each client: its own tensors, which change as it trains."""
        return [net.state_dict() for net in self.nets]

    def average(self, names: Collection[str]) -> None:
        """Give every client the average of the layers of these names, weighted by the clients' numbers of examples.

        Buffers of a layer are averaged with its parameters; whole numbers, such as counts of batches, stay the client's own.
        """
        keys = [key for layer in self.layers if layer.name in names for key in layer.keys]
        states = self.states
        shared = weighted_average(states, [len(client) for client in self.clients], keys)
        for state in states:
            for key, value in shared.items():
                state[key].copy_(value)

    def forget_momentum(self) -> None:
        """Set the momentum of every client to zero."""
        self.velocities = [[torch.zeros_like(p) for p in own] for own in self.parameters]

    def local_accuracies(self) -> Tensor:
        """The accuracy of every client on its own test set, (K,) float64."""
        found = [self._correct(net, *test) for net, test in zip(self.nets, self.tests, strict=True)]
        return torch.tensor(found, dtype=torch.float64)

    def own_errors(self) -> Tensor:
        """The error of every client on its own training examples, without augmentation, (K,) float64."""
        train, found = self.data.train, []
        for net, client in zip(self.nets, self.clients, strict=True):
            found.append(1 - self._correct(net, self._normal(train.x[client.train]), train.y[client.train]))
        return torch.tensor(found, dtype=torch.float64)

    def global_test(self) -> tuple[float, float]:
        """Loss (nats) and accuracy of the first client's network on the whole test split: of all networks, where all layers are averaged."""
        x, y = self._normal(self.data.test.x), self.data.test.y
        outputs = self._outputs(self.nets[0], x)
        return float(F.cross_entropy(outputs.double(), y)), float((outputs.argmax(1) == y).double().mean())

    def _batches(self, k: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A client's examples of this epoch, in their order, augmented and normalised."""
        part = self.clients[k].train
        drawn = (entry.to(self.device) for entry in epoch_order(self.streams[k], self.epoch, self.seen, part))
        x, y = self.seen.drawn(*drawn, dtype=self.dtype)
        yield from zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)

    def _normal(self, x: Tensor) -> Tensor:
        return self.data.normalise(x, self.dtype)

    @torch.no_grad()
    def _outputs(self, net: nn.Module, x: Tensor) -> Tensor:
        net.eval()
        return torch.cat([net(part) for part in x.split(1024)])

    def _correct(self, net: nn.Module, x: Tensor, y: Tensor) -> float:
        return float((self._outputs(net, x).argmax(1) == y).double().mean())


def _plain(data: Dataset) -> Dataset:
    """The same images, shown as they are."""
    return Dataset(data.label, data.classes, data.train, data.test, known_fingerprint=data.known_fingerprint)


def sgd_step(
    loss: Tensor, parameters: list[Tensor], velocities: list[Tensor], lr: float, momentum: float, weight_decay: float
) -> None:
    r"""One step of SGD in place, $v \leftarrow \mu v + \nabla L + \lambda\theta$, $\theta \leftarrow \theta - \eta v$.

    Args:
        loss: L, of the parameters.
        parameters: θ.
        velocities: v, a tensor a parameter.
        lr: η.
        momentum: μ.
        weight_decay: λ.

    Example:
        >>> theta, v = torch.ones(1, requires_grad=True), torch.zeros(1)
        >>> for _ in range(2):  # L = θ²: v is 2, then 2 + 2 · 0
        ...     sgd_step((theta**2).sum(), [theta], [v], lr=0.5, momentum=1.0, weight_decay=0.0)
        >>> theta.item(), v.item()
        (-1.0, 2.0)
    """
    gradients = list(torch.autograd.grad(loss, parameters))
    with torch.no_grad():
        torch._foreach_add_(gradients, parameters, alpha=weight_decay)
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(parameters, velocities, alpha=-lr)


def weighted_average(states: Sequence[Mapping[str, Tensor]], sizes: Sequence[int], keys: Sequence[str]) -> State:
    r"""$\sum_k \frac{n_k}{n} \theta_k$ of some tensors, summed in float64 and returned in their own type.

    Args:
        states: the clients' state dicts.
        sizes: their numbers of examples, n_k.
        keys: which tensors.

    Example:
        >>> weighted_average([{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}], [3, 1], ["w"])["w"].item()
        1.0
    """
    total = sum(sizes)
    found = {}
    for key in keys:
        mean = sum(n * state[key].double() for n, state in zip(sizes, states, strict=True)) / total
        found[key] = mean.to(states[0][key].dtype)
    return found


def bytes_of(layers: Sequence[Layer], names: Collection[str], state: Mapping[str, Tensor]) -> int:
    """The bytes of all tensors of some layers, each once."""
    keys = [key for layer in layers if layer.name in names for key in layer.tensors]
    return sum(state[key].numel() * state[key].element_size() for key in keys)
