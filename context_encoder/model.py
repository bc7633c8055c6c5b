"""The networks of the Context Encoder: generator (encoder, bottleneck, decoder) and discriminator (Sec. 3)."""

import math

from context_encoder.config import Output

import paddle
from paddle import nn

SMALLEST_SIDE = 4  # the feature map before the bottleneck, and after it, is 4 x 4
LEAK = 0.2
CONTEXT_KERNEL = 5  # of the conditional discriminator's two first convolutions


def widths(side_px: int, base_channels: int = 64) -> list[int]:
    """Outputs of the stride-2 convolutions that bring a side down to 4 px.

    64 px: 64, 128, 256, 512; 128 px: 64, 64, 128, 256, 512, and so on; times base_channels / 64.
    """
    halvings = int(math.log2(side_px // SMALLEST_SIDE))
    rows = [64] * max(0, halvings - 3) + [128, 256, 512]
    return [width * base_channels // 64 for width in rows[-halvings:]]


def weight(mean: float = 0.0) -> paddle.ParamAttr:
    """N(0, 0.02) for convolutions, N(1, 0.02) for normalisations, as in the release and the article."""
    return paddle.ParamAttr(initializer=nn.initializer.Normal(mean, 0.02))


def convolution(inputs, outputs, kernel=4, stride=2, padding=1, bias=False, transposed=False) -> nn.Layer:
    layer = nn.Conv2DTranspose if transposed else nn.Conv2D
    bias_attr = paddle.ParamAttr(initializer=nn.initializer.Constant(0)) if bias else False
    return layer(inputs, outputs, kernel, stride, padding, weight_attr=weight(), bias_attr=bias_attr)


def normalisation(channels: int) -> nn.BatchNorm2D:
    return nn.BatchNorm2D(channels, momentum=0.9, epsilon=1e-5, weight_attr=weight(1.0))


class ContextEncoder(nn.Layer):
    """Inpaints an image from its surroundings (Sec. 3.1).

    The released code's networks: convolutions of stride 2 down to 4 x 4, one convolution over all of it as the
    bottleneck, and transposed convolutions up again. The article lists the same layers without the one that leads from
    the bottleneck back to 4 x 4, and cannot run (D1). Images have exactly one size, `image_px`: the bottleneck sees
    all of it. (`infer` brings images of any size to it.)

    Args:
        image_px: side of the images, a power of two from 32; 128 in the paper.
        output: center: the square in the middle, half as wide as the image; whole: the whole image (Sec. 3.3,
            random regions).
        base_channels: outputs of the first layer; 64 in the paper, all other widths follow in proportion.
        bottleneck: units of the bottleneck, 4000.
        noise_channels: dimension of the noise vector concatenated to the bottleneck, 0 for none; 100 in the
            release's option noiseGen.
        overlap_px: visible ring of the predicted square, so that the fill meets its surroundings (Sec. 5.1).
        mean_colour: red, green and blue in 0..255 that fill the mask. The release's (117, 104, 123) is ImageNet's mean
            colour in a wrong order, which its weights need (D3).
        conv_bias: whether convolutions have a bias: the article's do, the ports of the release do not.
        bottleneck_relu: a ReLU after the bottleneck (article) instead of the leaky one (release, D2).
    """

    def __init__(
        self,
        image_px: int = 128,
        output: Output = "center",
        base_channels: int = 64,
        bottleneck: int = 4000,
        noise_channels: int = 0,
        overlap_px: int = 4,
        mean_colour: tuple[float, float, float] = (117.0, 104.0, 123.0),
        conv_bias: bool = False,
        bottleneck_relu: bool = False,
    ):
        super().__init__()
        self.arguments = {
            "image_px": image_px,
            "output": output,
            "base_channels": base_channels,
            "bottleneck": bottleneck,
            "noise_channels": noise_channels,
            "overlap_px": overlap_px,
            "mean_colour": list(mean_colour),
            "conv_bias": conv_bias,
            "bottleneck_relu": bottleneck_relu,
        }  # saved with the weights
        self.image_px, self.output, self.overlap_px = image_px, output, overlap_px
        self.output_px = image_px // 2 if output == "center" else image_px
        self.noise_channels = noise_channels
        fill = paddle.to_tensor([value / 127.5 - 1 for value in mean_colour], "float32")
        self.register_buffer("fill", fill.reshape([1, 3, 1, 1]), persistable=False)  # known from the arguments
        bias = {"bias": conv_bias}

        blocks, channels = [], 3  # 3 x 128 x 128
        for n, width in enumerate(widths(image_px, base_channels)):
            norm = [("norm", normalisation(width))] if n else []
            conv = ("conv", convolution(channels, width, **bias))
            blocks.append(nn.Sequential(conv, *norm, ("relu", nn.LeakyReLU(LEAK))))
            channels = width
        self.encoder = nn.Sequential(*blocks)  # 512 x 4 x 4
        self.bottleneck = convolution(channels, bottleneck, SMALLEST_SIDE, 1, 0, **bias)  # 4000 x 1 x 1
        if noise_channels:
            self.noise = convolution(noise_channels, noise_channels, 1, 1, 0, **bias)
        self.bottleneck_norm = normalisation(bottleneck + noise_channels)
        self.bottleneck_relu = nn.ReLU() if bottleneck_relu else nn.LeakyReLU(LEAK)

        outputs = [base_channels * 512 // 64, *_decoder_widths(self.output_px, base_channels)]
        blocks, channels = [], bottleneck + noise_channels
        for n, width in enumerate(outputs):
            size = {"stride": 2, "padding": 1} if n else {"stride": 1, "padding": 0}  # the first: 1 x 1 to 4 x 4 (D1)
            conv = ("conv", convolution(channels, width, transposed=True, **size, **bias))
            blocks.append(nn.Sequential(conv, ("norm", normalisation(width)), ("relu", nn.ReLU())))
            channels = width
        self.decoder = nn.Sequential(*blocks)  # 64 x 32 x 32
        self.to_picture = convolution(channels, 3, transposed=True, **bias)  # 3 x 64 x 64

    def forward(self, image, mask, noise=None):
        """Predicts the square in the middle, or the whole image.

        Args:
            image: float32 [N, 3, image_px, image_px] in [-1, 1]; colours under the mask are ignored.
            mask: float32 [N, 1, image_px, image_px], 1 where the image is missing. It is no input of the
                network: missing pixels get the mean colour.
            noise: float32 [N, noise_channels], only for networks that have some.

        Returns:
            float32 [N, 3, output_px, output_px] in [-1, 1], not composited with the known pixels.
        """
        x = self.encode(image, mask, noise)  # 4000 x 1 x 1
        return nn.functional.tanh(self.to_picture(self.decoder(x)))

    def encode(self, image, mask, noise=None):
        """The bottleneck's features, float32 [N, bottleneck + noise_channels, 1, 1], as the decoder gets them."""
        x = self.bottleneck(self.encoder(self.masked(image, mask)))
        if self.noise_channels:
            x = paddle.concat([x, self.noise(noise.unsqueeze([2, 3]))], axis=1)
        norm = self.bottleneck_norm
        if self.training and x.shape[0] == 1:
            # D15: one image has one value per channel and no variance; the running statistics stand in.
            norm.eval()
            x = norm(x)
            norm.train()
        else:
            x = norm(x)
        return self.bottleneck_relu(x)

    def masked(self, image, mask):
        """The image with missing pixels set to the mean colour: what the encoder sees."""
        return image * (1 - mask) + self.fill * mask

    def target(self, image):
        """The part of an image (or mask) that the network predicts."""
        if self.output == "whole":
            return image
        start, end = self.image_px // 4, self.image_px * 3 // 4
        return image[:, :, start:end, start:end]


def _decoder_widths(output_px: int, base_channels: int) -> list[int]:
    """Outputs of the transposed convolutions between the first one, to 4 x 4, and the last one, to the image.

    64 px: 256, 128, 64; 128 px: 256, 128, 64, 64.
    """
    levels = int(math.log2(output_px // SMALLEST_SIDE)) - 1
    rows = [256, 128, 64] + [64] * max(0, levels - 3)
    return [width * base_channels // 64 for width in rows[:levels]]


class Discriminator(nn.Layer):
    """Distinguishes real patches (or whole images) from predicted ones (Sec. 3.2).

    Args:
        side_px: side of what it judges: 64 for the centre, the image's for random regions.
        base_channels: outputs of the first layer, 64.
        conv_bias: as in the generator.
        context_px: side of the surroundings that it sees too, 0 for none (the paper's choice: a generator is then
            not rewarded for mere continuity at the seam). The release's option conditionAdv.
    """

    def __init__(self, side_px: int = 64, base_channels: int = 64, conv_bias: bool = False, context_px: int = 0):
        super().__init__()
        self.arguments = {
            "side_px": side_px,
            "base_channels": base_channels,
            "conv_bias": conv_bias,
            "context_px": context_px,
        }
        self.conditional = context_px > 0
        blocks, channels, outputs = [], 3, widths(side_px, base_channels)
        if self.conditional:
            # Both are downsampled by 2; the patch is padded to its place in the surroundings.
            around = (context_px - side_px) // 2
            self.context = convolution(3, base_channels, CONTEXT_KERNEL, 2, 2, conv_bias)
            self.patch = convolution(3, base_channels, CONTEXT_KERNEL, 2, 2 + around, conv_bias)
            channels = 2 * base_channels
            outputs = widths(context_px // 2, base_channels)
        for n, width in enumerate(outputs):
            norm = [("norm", normalisation(width))] if n or self.conditional else []
            conv = ("conv", convolution(channels, width, bias=conv_bias))
            blocks.append(nn.Sequential(conv, *norm, ("relu", nn.LeakyReLU(LEAK))))
            channels = width
        self.convs = nn.Sequential(*blocks)  # 512 x 4 x 4
        self.score = convolution(channels, 1, SMALLEST_SIDE, 1, 0, conv_bias)  # 1 x 1 x 1

    def forward(self, patch, context=None):
        """Judges patches.

        Args:
            patch: float32 [N, 3, side_px, side_px] in [-1, 1].
            context: float32 [N, 3, context_px, context_px], the image with missing pixels set to the mean colour;
                only for the conditional discriminator.

        Returns:
            float32 [N, 1], logits: the paper's probability of being real is their sigmoid.
        """
        x = patch
        if self.conditional:
            x = paddle.concat([self.context(context), self.patch(patch)], axis=1)  # 128 x 64 x 64
            x = nn.functional.leaky_relu(x, LEAK)
        return self.score(self.convs(x)).flatten(1)
