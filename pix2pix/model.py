"""The networks of pix2pix: U-Net and ResNet generators, and the family of PatchGAN discriminators (Sec. 3.2)."""

from typing import Literal

from pix2pix.config import Dropout, Norm, Patch, Upsample

import paddle
from paddle import nn
from paddle.nn import functional

STRIDED_CONVS = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5}  # by the side of the patch that one output judges


def normalisation(norm: Norm, channels: int) -> nn.Layer:
    """The layer after a convolution. The official instance normalisation has no scale and shift, the article's has."""
    if norm == "batch":
        return nn.BatchNorm2D(channels)
    if norm == "instance":
        return nn.InstanceNorm2D(channels, weight_attr=False, bias_attr=False)
    if norm == "instance-affine":
        return nn.InstanceNorm2D(channels)
    return nn.Identity()


def conv_bias(norm: Norm) -> bool | None:
    """bias_attr of a normalised convolution: only an instance normalisation without shift leaves room for a bias."""
    return None if norm == "instance" else False


def initialise(network: nn.Layer, norm_deviation: float = 0.02) -> None:
    """Initialises convolutions with N(0, 0.02), biases with 0, norm scales with N(1, norm_deviation) (App. 6.2).

    Args:
        norm_deviation: 0.02 in the official code; 0 in the article, whose scales start at exactly 1 (D10).
    """
    for layer in network.sublayers():
        if isinstance(layer, nn.Conv2D | nn.Conv2DTranspose):
            layer.weight.set_value(paddle.normal(0.0, 0.02, layer.weight.shape))
            if layer.bias is not None:
                layer.bias.set_value(paddle.zeros_like(layer.bias))
        elif isinstance(layer, nn.BatchNorm2D):
            layer.weight.set_value(1 + norm_deviation * paddle.randn(layer.weight.shape))


# ---- generators


class Residual(nn.Layer):
    """The article's residual block: two reflected 3x3 convolutions and the way around them; no ReLU after the sum."""

    def __init__(self, channels: int, norm: Norm, dropout: bool):
        super().__init__()
        around = {"padding": 1, "padding_mode": "reflect", "bias_attr": conv_bias(norm)}
        self.conv1 = nn.Conv2D(channels, channels, 3, **around)
        self.norm1 = normalisation(norm, channels)
        self.dropout = nn.Dropout(0.5) if dropout else None
        self.conv2 = nn.Conv2D(channels, channels, 3, **around)
        self.norm2 = normalisation(norm, channels)

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        if self.dropout is not None:
            y = self.dropout(y)
        return x + self.norm2(self.conv2(y))


def zero_pad(x):
    """One row of zeros below and one column on the right; on a CPU twice as fast as Paddle's padding."""
    for axis in (2, 3):
        x = paddle.concat([x, paddle.zeros_like(paddle.slice(x, [axis], [0], [1]))], axis)
    return x


class ResnetGenerator(nn.Layer):
    """The article's generator, and with output-padding the official `resnet_6blocks` and `resnet_9blocks`.

    Args:
        blocks: residual blocks; 7 in the article.
        base_channels: outputs of the first convolution.
        upsample: how a transposed 3x3 convolution of stride 2 gets an even size: the official `output-padding`
            computes the last row and column, the article's `zero-pad` sets them to 0 after the ReLU (D7).
        dropout: none in the article; else inside each block.
    """

    def __init__(
        self,
        blocks: int = 7,
        base_channels: int = 64,
        norm: Norm = "batch",
        dropout: Dropout = "none",
        upsample: Upsample = "zero-pad",
        source_channels: int = 3,
        target_channels: int = 3,
    ):
        super().__init__()
        self.arguments = {
            "kind": "resnet", "blocks": blocks, "base_channels": base_channels, "norm": norm, "dropout": dropout,
            "upsample": upsample, "source_channels": source_channels, "target_channels": target_channels,
        }  # fmt: skip
        self.stride = 4  # sides of the images must be multiples of this
        self.zero_pad = upsample == "zero-pad"
        bias, width = conv_bias(norm), base_channels
        extra = 0 if self.zero_pad else 1
        self.conv1 = nn.Conv2D(source_channels, width, 7, padding=3, padding_mode="reflect", bias_attr=bias)
        self.norm1 = normalisation(norm, width)
        self.conv2 = nn.Conv2D(width, width * 2, 3, stride=2, padding=1, bias_attr=bias)
        self.norm2 = normalisation(norm, width * 2)
        self.conv3 = nn.Conv2D(width * 2, width * 4, 3, stride=2, padding=1, bias_attr=bias)
        self.norm3 = normalisation(norm, width * 4)
        self.blocks = nn.LayerList([Residual(width * 4, norm, dropout != "none") for _ in range(blocks)])
        self.deconv1 = nn.Conv2DTranspose(
            width * 4, width * 2, 3, stride=2, padding=1, output_padding=extra, bias_attr=bias
        )
        self.norm4 = normalisation(norm, width * 2)
        self.deconv2 = nn.Conv2DTranspose(
            width * 2, width, 3, stride=2, padding=1, output_padding=extra, bias_attr=bias
        )
        self.norm5 = normalisation(norm, width)
        self.conv4 = nn.Conv2D(width, target_channels, 7, padding=3, padding_mode="reflect")

    def forward(self, source):
        """float32 [N, source channels, H, W] in [-1, 1] -> [N, target channels, H, W]; H, W multiples of 4."""
        x = functional.relu(self.norm1(self.conv1(source)))  # 64 x H x W
        x = functional.relu(self.norm2(self.conv2(x)))  # 128 x H/2 x W/2
        x = functional.relu(self.norm3(self.conv3(x)))  # 256 x H/4 x W/4
        for block in self.blocks:
            x = block(x)
        for deconv, norm in ((self.deconv1, self.norm4), (self.deconv2, self.norm5)):
            x = functional.relu(norm(deconv(x)))  # 128 x H/2 x W/2, 64 x H x W
            if self.zero_pad:
                x = zero_pad(x)
        return functional.tanh(self.conv4(x))


class BottleneckNorm(nn.BatchNorm2D):
    """Batch normalisation where a channel may be a single value, of which only its shift remains.

    Paddle's own passes a single value unchanged, without scale and shift. The running averages stay as they are.
    """

    def forward(self, x):
        if not self.training or x.shape[0] * x.shape[2] * x.shape[3] > 1:
            return nn.BatchNorm2D.forward(self, x)
        scale, shift = (value.reshape([1, -1, 1, 1]) for value in (self.weight, self.bias))
        return (x - x) * scale + shift


class UnetGenerator(nn.Layer):
    """The paper's generator (App. 6.1.1): C64-C128-C256-C512-…, and back, each level concatenated with its mirror.

    Args:
        levels: downsamplings to the bottleneck; 8 is the paper's U-Net-256, 7 is U-Net-128.
        base_channels: outputs of the first convolution; deeper levels have 2, 4 and then 8 times as many.
        skips: False is the paper's encoder-decoder.
        dropout: of 50 %, the generator's only noise (D5). `paper` (and its Torch code): after the three innermost
            transposed convolutions; `pytorch`: the official port has none after the innermost, but after those of
            full width that follow it (three with 8 levels, two with 7).
        bare_bias: a bias in convolutions that no normalisation follows, as the Torch code has it; the official port has
            one there only with instance normalisation (and in the last layer, as here, always).
        bottleneck_norm: normalise the innermost level too, as the authors' first code did: the paper's errata (App.
            6.3) explain why this is a mistake for one image at a time.
    """

    def __init__(
        self,
        levels: int = 8,
        base_channels: int = 64,
        skips: bool = True,
        norm: Norm = "batch",
        dropout: Dropout = "paper",
        bare_bias: bool = False,
        bottleneck_norm: bool = False,
        source_channels: int = 3,
        target_channels: int = 3,
    ):
        super().__init__()
        self.arguments = {
            "kind": "unet", "levels": levels, "base_channels": base_channels, "skips": skips, "norm": norm,
            "dropout": dropout, "bare_bias": bare_bias, "bottleneck_norm": bottleneck_norm,
            "source_channels": source_channels, "target_channels": target_channels,
        }  # fmt: skip
        self.stride, self.skips = 2**levels, skips
        widths = [base_channels * min(2**level, 8) for level in range(levels)]  # 64 128 256 512 512 512 512 512
        dropped = {"paper": range(3), "pytorch": range(1, levels - 4), "none": ()}[dropout]
        self.down, self.up = nn.LayerList(), nn.LayerList()
        self.leaky_relu = nn.LeakyReLU(0.2)
        channels = source_channels
        for level, width in enumerate(widths):
            # The first level has no normalisation, nor has the last: over a 1x1 map of one image it would be zero.
            innermost = level == levels - 1
            now = "none" if level == 0 or (innermost and not bottleneck_norm) else norm
            bias = None if bare_bias and now == "none" else conv_bias(norm)
            conv = nn.Conv2D(channels, width, 4, stride=2, padding=1, bias_attr=bias)
            after = BottleneckNorm(width) if innermost and now == "batch" else normalisation(now, width)
            self.down.append(nn.Sequential(("conv", conv), ("norm", after)))
            channels = width
        for step, width in enumerate([*widths[-2::-1], target_channels]):
            last = step == levels - 1
            inputs = channels * 2 if skips and step > 0 else channels
            bias = None if last or (bare_bias and norm == "none") else conv_bias(norm)
            deconv = nn.Conv2DTranspose(inputs, width, 4, stride=2, padding=1, bias_attr=bias)
            parts = [("deconv", deconv), ("norm", normalisation("none" if last else norm, width))]
            if step in dropped and not last:
                parts.append(("dropout", nn.Dropout(0.5)))
            self.up.append(nn.Sequential(*parts))
            channels = width

    def forward(self, source):
        """float32 [N, source channels, H, W] in [-1, 1] -> [N, target channels, H, W]; sides multiples of 2^levels."""
        x, passed = source, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.leaky_relu(x))  # 64 x H/2 x W/2 … 512 x 1 x 1
            passed.append(x)
        passed.pop()
        for block in self.up:
            x = block(functional.relu(x))  # 512 x 2 x 2 … 3 x H x W
            if passed:
                across = passed.pop()
                x = paddle.concat([across, x], axis=1) if self.skips else x
        return functional.tanh(x)


def build_generator(kind: Literal["resnet", "unet"], **arguments) -> ResnetGenerator | UnetGenerator:
    """The generator whose `arguments` were saved with its weights."""
    return {"resnet": ResnetGenerator, "unet": UnetGenerator}[kind](**arguments)


# ---- discriminators


class PatchDiscriminator(nn.Layer):
    """Judges every patch of an image (Sec. 3.2.2, App. 6.1.2). Fully convolutional.

    Args:
        patch_px: side of the patch that one output sees: 1 (PixelGAN), 16, 34, 70 (the paper's choice), 142 or 286
            (ImageGAN: more than the whole image of 256 px).
        base_channels: outputs of the first convolution.
        first_norm: normalise after the first convolution too, as in the article (D4).
        conditional: whether it sees the source as well as the image (cGAN) or the image alone (GAN).
    """

    def __init__(
        self,
        patch_px: Patch = 70,
        base_channels: int = 64,
        norm: Norm = "batch",
        first_norm: bool = False,
        conditional: bool = True,
        source_channels: int = 3,
        target_channels: int = 3,
    ):
        super().__init__()
        self.arguments = {
            "patch_px": patch_px, "base_channels": base_channels, "norm": norm, "first_norm": first_norm,
            "conditional": conditional, "source_channels": source_channels, "target_channels": target_channels,
        }  # fmt: skip
        self.conditional = conditional
        channels = target_channels + (source_channels if conditional else 0)
        if patch_px == 1:
            rows = [(64, 1, 1, 0), (128, 1, 1, 0)]  # outputs / 64 of base, kernel, stride, padding
        else:
            strided = STRIDED_CONVS[patch_px]
            rows = [(64 * min(2**n, 8), 4, 2, 1) for n in range(strided)]
            rows.append((64 * min(2**strided, 8), 4, 1, 1))
        self.convs = nn.LayerList()
        for n, (outputs, kernel, stride, padding) in enumerate(rows):
            width = outputs * base_channels // 64
            now = norm if n > 0 or first_norm else "none"
            bias = None if n == 0 else conv_bias(norm)
            conv = nn.Conv2D(channels, width, kernel, stride=stride, padding=padding, bias_attr=bias)
            self.convs.append(nn.Sequential(("conv", conv), ("norm", normalisation(now, width))))
            channels = width
        if patch_px == 1:
            self.last = nn.Conv2D(channels, 1, 1, bias_attr=conv_bias(norm))
        else:
            self.last = nn.Conv2D(channels, 1, 4, padding=1)

    def forward(self, source, image):
        """Judges images, each knowing its source.

        Args:
            source, image: float32 [N, channels, H, W] in [-1, 1]; without `conditional` the source is ignored.

        Returns:
            float32 [N, 1, h, w], logits: 30 x 30 for 256 px and patches of 70, 26 x 26 for 224.
        """
        x = paddle.concat([source, image], axis=1) if self.conditional else image
        return self.judge(x)

    def judge(self, x):
        """`forward` on what it sees: float32 [N, 6 (or 3), H, W] -> logits [N, 1, h, w]."""
        for block in self.convs:  # 64 x H/2 x W/2, 128 x H/4 x W/4, 256 x H/8 x W/8, 512 x H/8 - 1 x W/8 - 1
            x = functional.leaky_relu(block(x), 0.2)
        return self.last(x)
