"""MobileNet v2 for small images: torchvision's blocks behind a stem that keeps the image's size."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torchvision.models import MobileNetV2

# expansion, channels, repeats and stride of each group of blocks; the first two strides of ImageNet's network are 1
BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def mobilenet(shape: tuple[int, int, int], n_classes: int, width: float, repeats: int = 4) -> "MobileNetV2":
    """Torchvision's MobileNet v2 (Sandler et al. 2018) with the strides that are usual for CIFAR, and no dropout.

    Args:
        shape: channels, height and width.
        n_classes: the number of outputs.
        width: by which all channels are multiplied.
        repeats: how many blocks of a kind at most; the original has up to four.
    """
    from torchvision.models import MobileNetV2  # which loads PyTorch's compiler

    net = MobileNetV2(n_classes, width, [[*block[:2], min(block[2], repeats), block[3]] for block in BLOCKS], dropout=0)
    stem = net.features[0][0]
    net.features[0][0] = nn.Conv2d(shape[0], stem.out_channels, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(net.features[0][0].weight, mode="fan_out")
    return net
