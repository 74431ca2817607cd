"""Networks of every kind that a reader may bring, so small that all commands go through them in a moment."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models import MobileNetV3, VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock, ResNet

CLASSES, VOCABULARY = 3, 11


class NarrowResNet(ResNet):
    """Torchvision's ResNet, an eighth as wide."""

    def _make_layer(self, block, planes, *args, **kwargs):
        return super()._make_layer(block, planes // 8, *args, **kwargs)


def resnet18(classes: int = CLASSES, blocks: int = 2) -> nn.Module:
    """Torchvision's ResNet-18, an eighth as wide; with one block a stage instead of two it is a ResNet-10."""
    net = NarrowResNet(BasicBlock, [blocks] * 4)
    net.fc = nn.Linear(64, classes)
    return net


def mobilenet() -> nn.Module:
    """Torchvision's MobileNet v3, of three narrow blocks."""
    kinds = [(8, 3, 8, 8, True, "RE", 2, 1), (8, 3, 16, 8, False, "RE", 2, 1), (8, 5, 16, 8, True, "HS", 1, 1)]
    return MobileNetV3([InvertedResidualConfig(*kind, width_mult=1.0) for kind in kinds], 16, num_classes=CLASSES)


def vit() -> nn.Module:
    """Torchvision's vision transformer, of one narrow layer."""
    return VisionTransformer(16, 8, 1, 2, 8, 8, num_classes=CLASSES)


def convnext() -> nn.Module:
    """Torchvision's ConvNeXt, of two narrow stages."""
    net = ConvNeXt([CNBlockConfig(4, 8, 1), CNBlockConfig(8, None, 1)], num_classes=CLASSES)
    for module in net.modules():
        if hasattr(module, "layer_scale"):  # a millionth at the start, at which a layer does next to nothing
            nn.init.ones_(module.layer_scale)
    return net


class Recurrent(nn.Module):
    """Tokens through an LSTM to classes."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.head = (
            nn.Embedding(VOCABULARY, 4),
            nn.LSTM(4, 5, batch_first=True),
            nn.Linear(5, CLASSES),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


class Tied(nn.Module):
    """Tokens to the next ones, by one matrix on the way in and on the way out."""

    def __init__(self):
        super().__init__()
        self.embedding, self.body, self.head = (
            nn.Embedding(VOCABULARY, 6),
            nn.Linear(6, 6),
            nn.Linear(6, VOCABULARY, bias=False),
        )
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(self.embedding(x))))


def weight_normed(width: int = 5) -> nn.Module:
    """A convolution and a linear layer whose weights are a direction and a length."""
    convolution, head = weight_norm(nn.Conv2d(3, width, 3, stride=16)), weight_norm(nn.Linear(4 * width, CLASSES))
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), head)


def perceptron(width: int = 6, inputs: int = 4) -> nn.Module:
    """Two layers."""
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, CLASSES))


def images(size: int = 32, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """A few random images with classes."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % CLASSES


def vectors(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A few random vectors with classes, in batches."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(7))
    y = torch.arange(count) % CLASSES
    return list(zip(x.split(5), y.split(5), strict=True))
