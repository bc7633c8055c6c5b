"""Parameters and MACs: one layer of each kind by hand, totals of the papers' tables, and what the READMEs say."""

from pathlib import Path

import pytest

from common.evaluation.network_cost import Cost, network_cost
from context_encoder.model import ContextEncoder
from context_encoder.model import Discriminator as ContextDiscriminator
from dcgan_completion.model import Discriminator as DcganDiscriminator
from dcgan_completion.model import Generator as DcganGenerator
from deepfill.model import ConvBlock
from deepfill.model import Discriminator as SnPatchGan
from deepfill.model import Generator as DeepFill
from glcic.model import CompletionNetwork
from glcic.model import Discriminator as GlobalLocal
from pix2pix.model import PatchDiscriminator, ResnetGenerator, UnetGenerator

import paddle
from paddle import nn

ROOT = Path(__file__).parents[2]

# paper, network, how it is built, shapes of its inputs, trainable parameters (shared/specs: by the papers' tables).
NETWORKS = [
    ("glcic", "CompletionNetwork", CompletionNetwork, [(3, 256, 256), (1, 256, 256)], 6_072_131),
    ("glcic", "Discriminator", GlobalLocal, [(3, 256, 256), (3, 128, 128)], 45_063_681),
    ("pix2pix", "UnetGenerator", UnetGenerator, [(3, 256, 256)], None),
    ("pix2pix", "ResnetGenerator", ResnetGenerator, [(3, 224, 224)], None),
    ("pix2pix", "PatchDiscriminator", PatchDiscriminator, [(3, 256, 256), (3, 256, 256)], None),
    ("deepfill", "Generator", DeepFill, [(3, 256, 256), (1, 256, 256)], 4_052_478),
    ("deepfill", "Discriminator", SnPatchGan, [(3, 256, 256), (1, 256, 256)], 5_946_816),
    ("context_encoder", "ContextEncoder", ContextEncoder, [(3, 128, 128), (1, 128, 128)], 71_124_544),
    ("context_encoder", "Discriminator", ContextDiscriminator, [(3, 64, 64)], None),
    ("dcgan_completion", "Generator", DcganGenerator, [(100,)], 5_135_363),
    ("dcgan_completion", "Discriminator", DcganDiscriminator, [(3, 64, 64)], 4_316_545),
]


def cost_of(kind, shapes):
    return network_cost(kind(), [paddle.zeros([1, *shape]) for shape in shapes], (ConvBlock,))


@pytest.mark.parametrize(
    "layer, shape, parameters, macs",
    [
        # 8 x 8 to 4 x 4 by 3 x 3 kernels from 2 to 5 channels; two images of it
        (lambda: nn.Conv2D(2, 5, 3, stride=2, padding=1), (2, 2, 8, 8), 5 * 2 * 9 + 5, 2 * 16 * 5 * 2 * 9),
        # dilation 4 changes no size and costs nothing
        (lambda: nn.Conv2D(2, 5, 3, padding=4, dilation=4), (1, 2, 8, 8), 95, 64 * 5 * 2 * 9),
        # two groups: each output sees one of the two channels
        (lambda: nn.Conv2D(2, 4, 3, padding=1, groups=2), (1, 2, 8, 8), 4 * 9 + 4, 64 * 4 * 9),
        # 4 x 4 to 8 x 8: each of the 16 input positions is spread by a 4 x 4 kernel
        (lambda: nn.Conv2DTranspose(2, 5, 4, stride=2, padding=1), (1, 2, 4, 4), 2 * 5 * 16 + 5, 16 * 2 * 5 * 16),
        (lambda: nn.Linear(7, 3), (4, 7), 24, 4 * 21),
    ],
    ids=["strided", "dilated", "groups", "transposed", "linear"],
)
def test_one_layer_by_hand(layer, shape, parameters, macs):
    assert network_cost(layer(), [paddle.zeros(shape)]) == Cost(parameters, macs)


def test_what_is_called_twice_counts_twice_and_the_network_is_left_as_it_was():
    class Twice(nn.Layer):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(3, 3), nn.BatchNorm1D(3)

        def forward(self, x):
            return self.norm(self.fc(self.fc(x)))

    network = Twice()
    before = network.norm._mean.numpy().copy()
    assert network_cost(network, [paddle.ones([2, 3])]) == Cost(12 + 6, 2 * 2 * 9)
    assert network.training and network.norm.training and not network.fc._forward_post_hooks
    assert (network.norm._mean.numpy() == before).all()


def test_the_completion_network_by_hand():
    """GLCIC's Table 1: output side squared times the weights of each row; of transposed rows the input side."""
    rows = [(256, 5 * 5 * 4 * 64), (128, 9 * 64 * 128), (128, 9 * 128 * 128), (64, 9 * 128 * 256)]
    rows += [(64, 9 * 256 * 256)] * 8  # two plain, four dilated, two plain
    rows += [(64, 16 * 256 * 128), (128, 9 * 128 * 128), (128, 16 * 128 * 64), (256, 9 * 64 * 32), (256, 9 * 32 * 3)]
    assert cost_of(CompletionNetwork, NETWORKS[0][3]).macs == sum(side * side * weights for side, weights in rows)


@pytest.mark.medium
@pytest.mark.parametrize("paper, name, kind, shapes, parameters", NETWORKS, ids=lambda x: x if type(x) is str else "")
def test_totals_are_the_papers_and_stand_in_the_readmes(paper, name, kind, shapes, parameters):
    cost = cost_of(kind, shapes)
    assert parameters in (None, cost.parameters)
    row = f"| `{name}` | {cost.parameters:,} | {cost.macs / 1e9:.2f} |"
    for readme in (f"{paper}/README.md", f"{paper}/README.zh-CN.md"):
        assert row in (ROOT / readme).read_text(encoding="utf-8"), (readme, row)


def test_every_convolution_of_the_networks_is_counted():
    """No weight is used behind the counter's back: each layer with a kernel is called as a layer."""
    for paper, name, kind, shapes, _ in NETWORKS:
        network, called = kind(), set()
        within = {id(x.conv) for x in network.sublayers() if isinstance(x, ConvBlock)}
        layers = [x for x in network.sublayers() if len(getattr(x, "weight", paddle.zeros([1])).shape) == 4]
        layers = [x for x in layers if id(x) not in within]
        for layer in layers:
            layer.register_forward_post_hook(lambda layer, given, result, called=called: called.add(id(layer)))
        network.eval()
        network(*[paddle.zeros([1, *shape]) for shape in shapes])
        assert {id(layer) for layer in layers} == called, (paper, name)
