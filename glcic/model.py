"""The three networks of GLCIC: completion, global discriminator, local discriminator (Sec. 3, Tables 1 and 2)."""

from glcic.config import Output, Parts

import paddle
from paddle import nn

# Table 1, row for row: (name, kernel, dilation, stride, outputs). A stride of 1/2 is a transposed convolution.
COMPLETION_ROWS = [
    ("conv1", 5, 1, 1, 64),
    ("conv2", 3, 1, 2, 128),
    ("conv3", 3, 1, 1, 128),
    ("conv4", 3, 1, 2, 256),
    ("conv5", 3, 1, 1, 256),
    ("conv6", 3, 1, 1, 256),
    ("dilated1", 3, 2, 1, 256),
    ("dilated2", 3, 4, 1, 256),
    ("dilated3", 3, 8, 1, 256),
    ("dilated4", 3, 16, 1, 256),
    ("conv7", 3, 1, 1, 256),
    ("conv8", 3, 1, 1, 256),
    ("deconv1", 4, 1, 1 / 2, 128),
    ("conv9", 3, 1, 1, 128),
    ("deconv2", 4, 1, 1 / 2, 64),
    ("conv10", 3, 1, 1, 32),
    ("conv11", 3, 1, 1, 3),
]
STRIDE = 4  # the bottleneck is a quarter of each side: images must be multiples of this

# Table 2: outputs of the 5x5, stride-2 convolutions; the local discriminator has the first five.
DISCRIMINATOR_OUTPUTS = [64, 128, 256, 512, 512, 512]


class ConvBlock(nn.Layer):
    """One row of Table 1: convolution, batch normalisation, ReLU.

    Padding is written out. Paddle's padding="SAME" would silently set the dilation back to 1 (D1), and conv7 has its
    padding too, so that both transposed convolutions have the paper's 4x4 kernel (D5). Normalisation is over channels,
    not over image rows as in the article (D2).
    """

    def __init__(self, inputs, outputs, kernel, dilation, stride, *, norm_first, bias, momentum, epsilon):
        super().__init__()
        bias_attr = None if bias else False
        if stride == 1 / 2:
            self.conv = nn.Conv2DTranspose(inputs, outputs, kernel, stride=2, padding=1, bias_attr=bias_attr)
        else:
            padding = dilation * (kernel - 1) // 2
            self.conv = nn.Conv2D(
                inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias_attr=bias_attr
            )
        self.norm = nn.BatchNorm2D(outputs, momentum=momentum, epsilon=epsilon)
        self.norm_first = norm_first

    def forward(self, x):
        x = self.conv(x)
        return nn.functional.relu(self.norm(x)) if self.norm_first else self.norm(nn.functional.relu(x))


class CompletionNetwork(nn.Layer):
    """Inpaints an image (Sec. 3.2, Table 1). Fully convolutional: sides may be any multiples of 4.

    One network serves the paper, the article and the published weights of three codebases; arguments select the
    differences. Input and output are in [-1, 1]; with a sigmoid output the network computes in [0, 1] internally.

    Args:
        base_channels: outputs of the first layer; 64 in Table 1, all other widths follow in proportion.
        output: sigmoid (paper), tanh (article) or clamp (MMagic) after the last convolution.
        mask_channel: whether the mask is the fourth input channel (paper) or no input at all (article, D7).
        subtract_mean: True (paper): subtract the mean colour, missing pixels are 0; False: they are the mean colour.
        norm_first: convolution, normalisation, ReLU (paper) or convolution, ReLU, normalisation (otenim).
        conv_bias: whether convolutions followed by a normalisation have a bias.
        norm_momentum: fraction of the old running statistics that a step keeps.
    """

    def __init__(
        self,
        base_channels: int = 64,
        output: Output = "sigmoid",
        mask_channel: bool = True,
        subtract_mean: bool = True,
        norm_first: bool = True,
        conv_bias: bool = True,
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
    ):
        super().__init__()
        self.arguments = {
            "base_channels": base_channels,
            "output": output,
            "mask_channel": mask_channel,
            "subtract_mean": subtract_mean,
            "norm_first": norm_first,
            "conv_bias": conv_bias,
            "norm_momentum": norm_momentum,
            "norm_epsilon": norm_epsilon,
        }  # saved with the weights
        self.output, self.mask_channel, self.subtract_mean = output, mask_channel, subtract_mean
        # The colour of "unknown": the data set's mean in [-1, 1], RGB; 0 is mid grey. Saved with the weights.
        self.register_buffer("mean_colour", paddle.zeros([1, 3, 1, 1]))
        block = {"norm_first": norm_first, "bias": conv_bias, "momentum": norm_momentum, "epsilon": norm_epsilon}
        channels = 4 if mask_channel else 3
        self.names = [name for name, *_ in COMPLETION_ROWS]
        for name, kernel, dilation, stride, outputs in COMPLETION_ROWS[:-1]:
            width = outputs * base_channels // 64
            setattr(self, name, ConvBlock(channels, width, kernel, dilation, stride, **block))
            channels = width
        self.conv11 = nn.Conv2D(channels, 3, 3, padding=1)

    def forward(self, image, mask):
        """Predicts the whole image; colours under the mask are ignored.

        Args:
            image: float32 [N, 3, H, W] in [-1, 1], H and W multiples of 4.
            mask: float32 [N, 1, H, W], 1 where the image is missing.

        Returns:
            float32 [N, 3, H, W] in [-1, 1], not yet composited with the known pixels.
        """
        unit = 0.5 if self.output == "sigmoid" else 1.0  # scale from [-1, 1] to the range computed in
        if self.subtract_mean:
            x = (image - self.mean_colour) * (1 - mask) * unit
        else:
            x = image * (1 - mask) + self.mean_colour * mask
            x = x * 0.5 + 0.5 if self.output == "sigmoid" else x
        if self.mask_channel:
            x = paddle.concat([x, mask], axis=1)  # 4 x H x W
        for name in self.names:  # 64 x H x W, down to 256 x H/4 x W/4, back to 3 x H x W
            x = getattr(self, name)(x)
        if self.output == "sigmoid":
            return nn.functional.sigmoid(x) * 2 - 1
        return nn.functional.tanh(x) if self.output == "tanh" else paddle.clip(x, -1, 1)


def composite(image, completed, mask):
    """Known pixels from the image, missing ones from the network: what the discriminators see."""
    return image * (1 - mask) + completed * mask


class DiscriminatorTower(nn.Layer):
    """One discriminator of Table 2: 5x5 convolutions of stride 2, then one fully connected layer."""

    def __init__(self, side_px: int, convs: int, base_channels: int, conv_bias: bool, feature_relu: bool,
                 norm_first: bool, momentum: float, epsilon: float):  # fmt: skip
        super().__init__()
        blocks, channels, side = [], 3, side_px
        for outputs in DISCRIMINATOR_OUTPUTS[:convs]:
            width = outputs * base_channels // 64
            conv = nn.Conv2D(channels, width, 5, stride=2, padding=2, bias_attr=None if conv_bias else False)
            rest = [("norm", nn.BatchNorm2D(width, momentum=momentum, epsilon=epsilon)), ("relu", nn.ReLU())]
            blocks.append(nn.Sequential(("conv", conv), *(rest if norm_first else rest[::-1])))
            channels, side = width, (side + 1) // 2
        self.convs = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels * side * side, 16 * base_channels)
        self.feature_relu = feature_relu

    def forward(self, x):
        x = self.convs(x)  # 512 x 4 x 4 in the paper
        x = self.fc(x.flatten(1))  # 1024
        return nn.functional.relu(x) if self.feature_relu else x


class Discriminator(nn.Layer):
    """Global and local discriminator and their fusion layer (Sec. 3.3, Table 2).

    One object judges real and completed images (D3).

    Args:
        global_px, local_px: sides of the image and of the patch; 256 and 128 in the paper, 160 and 96 for CelebA,
            128 and 64 in the article.
        global_convs: 6 in the paper and the article, 5 for CelebA. The local discriminator always has 5.
        base_channels: outputs of the first layer, 64 in Table 2.
        feature_relu: a ReLU on the two feature vectors before their concatenation (otenim, MMagic).
        norm_first: as in the completion network.
        unit_range: the towers compute in [0, 1], as otenim's do; the input is in [-1, 1] either way.
        norm_momentum, norm_epsilon: as in the completion network; the defaults of files that lack them.
        parts: `global` or `local` leaves the other one out, as the paper's ablation does.
    """

    def __init__(
        self,
        global_px: int = 256,
        local_px: int = 128,
        global_convs: int = 6,
        base_channels: int = 64,
        conv_bias: bool = True,
        feature_relu: bool = False,
        norm_first: bool = True,
        unit_range: bool = False,
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        parts: Parts = "both",
    ):
        super().__init__()
        self.arguments = {
            "global_px": global_px, "local_px": local_px, "global_convs": global_convs,
            "base_channels": base_channels, "conv_bias": conv_bias, "feature_relu": feature_relu,
            "norm_first": norm_first, "unit_range": unit_range, "norm_momentum": norm_momentum,
            "norm_epsilon": norm_epsilon, "parts": parts,
        }  # fmt: skip
        tower = (base_channels, conv_bias, feature_relu, norm_first, norm_momentum, norm_epsilon)
        self.unit_range, self.parts = unit_range, parts
        if parts != "local":
            self.global_tower = DiscriminatorTower(global_px, global_convs, *tower)
        if parts != "global":
            self.local_tower = DiscriminatorTower(local_px, 5, *tower)
        self.fusion = nn.Linear((1 + (parts == "both")) * 16 * base_channels, 1)

    def forward(self, image, patch):
        """Judges images.

        Args:
            image: float32 [N, 3, global_px, global_px] in [-1, 1].
            patch: float32 [N, 3, local_px, local_px] in [-1, 1], cropped from the image around the mask.

        Returns:
            float32 [N, 1], logits: the paper's probability of being real is their sigmoid.
        """
        if self.unit_range:
            image, patch = image * 0.5 + 0.5, patch * 0.5 + 0.5
        if self.parts == "global":
            return self.fusion(self.global_tower(image))
        if self.parts == "local":
            return self.fusion(self.local_tower(patch))
        features = paddle.concat([self.global_tower(image), self.local_tower(patch)], axis=1)  # 2048
        return self.fusion(features)


def cut_patches(image, corners, side_px: int):
    """Crops one square patch from each image.

    Args:
        image: float32 [N, 3, H, W].
        corners: int [N, 2], top and left of each patch, on the host.

    Returns:
        float32 [N, 3, side_px, side_px].
    """
    cuts = [image[n, :, top : top + side_px, left : left + side_px] for n, (top, left) in enumerate(corners.tolist())]
    return paddle.stack(cuts)
