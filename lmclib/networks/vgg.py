"""VGG-11 for small images, with any width and normalisation."""

from itertools import pairwise
from math import log2

from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.networks.resnet import WITHOUT, normalisation

# widths of the convolutions in shares of the first one's, and where images are halved after one (column A of table 1)
WIDTHS = (1, 2, 4, 4, 8, 8, 8, 8)
HALVED = (0, 1, 3, 5, 7)


class VGG(nn.Module):
    r"""Eight 3×3 convolutions, five of them followed by max-pooling, then one linear layer (Simonyan and Zisserman 2015, configuration A).

    Images of fewer than 32 pixels are pooled later and less often, so that one pixel is left at the end. The three large linear layers of the original are one, as is
    usual for CIFAR.

    Args:
        shape: channels, height and width.
        n_classes: the number of outputs.
        width: of the first convolution; 64 is the original.
        norm: `bn`, `gn`, `ln` or `none`.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, width: int, norm: str):
        super().__init__()
        widths = [shape[0], *(width * share for share in WIDTHS)]
        self.convs = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1, bias=norm in WITHOUT) for pair in pairwise(widths))
        self.norms = nn.ModuleList(normalisation(norm, outputs) for outputs in widths[1:])
        self.fc = nn.Linear(widths[-1], n_classes)
        times = min(len(HALVED), int(log2(min(shape[1:]))))
        self.halved = HALVED[len(HALVED) - times :]
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x)))
            if i in self.halved:
                x = F.max_pool2d(x, 2)
        return self.fc(x.mean((2, 3)))
