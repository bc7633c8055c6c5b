"""The networks of DCGAN: the generator whose latent space is searched, and the discriminator it was trained with.

Three families: `article`, whose code and checkpoint have 5x5 kernels with TensorFlow's SAME geometry; `wide`, the last
revision of that code, whose generator is wider; `4x4`, the networks of pytorch/examples.
"""

import math

from dcgan_completion.config import Variant

import paddle
from paddle import nn
from paddle.nn import functional

SAME = [1, 2, 1, 2]  # above, below, left, right: TensorFlow's SAME for 5x5 kernels of stride 2 on even sides
DEVIATION = 0.02  # of all initial weights
MOMENTUM = 0.9  # fraction of the old running statistics that a step keeps


class SameConv2D(nn.Conv2D):
    """TensorFlow's 5x5 convolution of stride 2 with padding SAME: [N, inputs, H, W] -> [N, outputs, H/2, W/2].

    H and W are even. One pixel is added above and to the left, two below and to the right; an even padding of two
    would shift the image by one pixel.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 5, stride=2, padding=SAME)


class SameConv2DTranspose(nn.Conv2DTranspose):
    """TensorFlow's transposed 5x5 convolution of stride 2 with SAME: [N, inputs, H, W] -> [N, outputs, 2H, 2W].

    It is the gradient of `SameConv2D`: a padding of 1 on all sides, of whose result the last row and column are
    dropped. Paddle drops them itself if the padding there is 2, and its backward pass is half as long for it.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 5, stride=2, padding=SAME)


def initialise(network: nn.Layer) -> None:
    """Initialises weights with N(0, 0.02); biases and shifts are 0, scales 1.

    The TensorFlow codes truncate the distribution at two deviations for convolutions, but not for transposed ones
    (which leaves a deviation of 0.0176). pytorch/examples does not, and samples the scales from N(1, 0.02).
    """
    pytorch = network.arguments["variant"] == "4x4"
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            if pytorch:
                layer.weight.set_value(1 + DEVIATION * paddle.randn(layer.weight.shape))
            continue
        draw = _truncated_normal if isinstance(layer, SameConv2D) else paddle.randn
        layer.weight.set_value(DEVIATION * draw(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.set_value(paddle.zeros_like(layer.bias))


def _truncated_normal(shape: list[int]):
    """N(0, 1) within two deviations, by its inverse distribution function: Paddle's own takes its bounds in other units
    from version to version."""
    most = math.erf(math.sqrt(2))
    return math.sqrt(2) * paddle.erfinv(paddle.uniform(shape, min=-most, max=most))


def doublings(image_px: int) -> int:
    """Number of layers of stride 2 between 4 x 4 and image_px x image_px. Raises ValueError for other sizes."""
    levels = image_px.bit_length() - 3
    if levels < 1 or image_px != 4 << levels:
        raise ValueError(f"DCGAN's images have sides of 8, 16, 32, 64, 128, … px, not {image_px}")
    return levels


class Generator(nn.Layer):
    """Generates images from latent codes z: a projection to 4 x 4, then transposed convolutions of stride 2.

    Args:
        variant: see the head of this file.
        image_px: side of the images, a power of two from 8; 64 in the article. The first layer has 512 channels at
            every size, and each upsampling halves them (in `wide` the first one does not).
        base_channels: a factor of all widths; 64 in the article.
        z_channels: dimension of z.
    """

    def __init__(
        self, variant: Variant = "article", image_px: int = 64, base_channels: int = 64, z_channels: int = 100
    ):
        super().__init__()
        self.arguments = {
            "variant": variant, "image_px": image_px, "base_channels": base_channels, "z_channels": z_channels,
        }  # fmt: skip
        self.levels = doublings(image_px)
        late = 1 if variant == "wide" else 0
        widths = [max(1, 8 * base_channels >> max(0, level - late)) for level in range(self.levels)]
        if variant == "4x4":
            self.deconv0 = nn.Conv2DTranspose(z_channels, widths[0], 4, bias_attr=False)
        else:
            self.linear = nn.Linear(z_channels, widths[0] * 4 * 4)
        for level, (inputs, outputs) in enumerate(zip(widths, [*widths[1:], 3], strict=True)):
            setattr(self, f"norm{level}", nn.BatchNorm2D(inputs, momentum=MOMENTUM, epsilon=1e-5))
            if variant == "4x4":
                deconv = nn.Conv2DTranspose(inputs, outputs, 4, stride=2, padding=1, bias_attr=False)
            else:
                deconv = SameConv2DTranspose(inputs, outputs)
            setattr(self, f"deconv{level + 1}", deconv)

    def forward(self, z):
        """float32 [N, z_channels] -> float32 [N, 3, image_px, image_px] in [-1, 1]."""
        if self.arguments["variant"] == "4x4":
            x = self.deconv0(z.unsqueeze([2, 3]))
        else:
            x = self.linear(z).reshape([-1, self.norm0.weight.shape[0], 4, 4])  # 512 x 4 x 4
        for level in range(self.levels):
            x = functional.relu(getattr(self, f"norm{level}")(x))
            x = getattr(self, f"deconv{level + 1}")(x)  # 256 x 8 x 8, 128 x 16 x 16, 64 x 32 x 32, 3 x 64 x 64
        return functional.tanh(x)


class Discriminator(nn.Layer):
    """Distinguishes real images from generated ones: convolutions of stride 2 down to 4 x 4, then one logit.

    The article's code has four convolutions and reshapes to 8192 features at any size, which splits an image of 128 px
    into four rows. Here the convolutions go down to 4 x 4 at every size, so that the 8192 are one image's
    (D5).

    Args:
        variant, image_px: as in `Generator`; `wide` and `article` are the same.
        base_channels: outputs of the first convolution, 64 in the article; doubled by each layer, at most eight times.
    """

    def __init__(self, variant: Variant = "article", image_px: int = 64, base_channels: int = 64):
        super().__init__()
        self.arguments = {"variant": variant, "image_px": image_px, "base_channels": base_channels}
        self.levels = doublings(image_px)
        inputs = 3
        for level in range(self.levels):
            outputs = base_channels * min(8, 1 << level)
            if variant == "4x4":
                conv = nn.Conv2D(inputs, outputs, 4, stride=2, padding=1, bias_attr=False)
            else:
                conv = SameConv2D(inputs, outputs)
            setattr(self, f"conv{level}", conv)
            if level > 0:
                setattr(self, f"norm{level}", nn.BatchNorm2D(outputs, momentum=MOMENTUM, epsilon=1e-5))
            inputs = outputs
        if variant == "4x4":
            setattr(self, f"conv{self.levels}", nn.Conv2D(inputs, 1, 4, bias_attr=False))
        else:
            self.linear = nn.Linear(inputs * 4 * 4, 1)

    def forward(self, image):
        """float32 [N, 3, image_px, image_px] in [-1, 1] -> logits float32 [N, 1]; their sigmoid is P(real)."""
        x = functional.leaky_relu(self.conv0(image), 0.2)  # 64 x 32 x 32
        for level in range(1, self.levels):
            x = getattr(self, f"norm{level}")(getattr(self, f"conv{level}")(x))
            x = functional.leaky_relu(x, 0.2)  # 128 x 16 x 16, 256 x 8 x 8, 512 x 4 x 4
        if self.arguments["variant"] == "4x4":
            return getattr(self, f"conv{self.levels}")(x).flatten(1)
        return self.linear(x.flatten(1))
