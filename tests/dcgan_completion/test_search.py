"""The search: gradients against finite differences, updates against numpy, and what an image's result depends on."""

import contextlib
import dataclasses

import numpy as np
import pytest

from common.errors import UserError
from dcgan_completion import losses
from dcgan_completion import search as searching
from dcgan_completion.model import Discriminator, Generator, initialise
from dcgan_completion.search import (
    adam_step,
    batch_statistics,
    hmc_step,
    image_rng,
    nesterov_step,
    objective,
    search,
)
from dcgan_completion.search_settings import PRESETS, Settings, check

import paddle

pytestmark = pytest.mark.medium

PX, Z = 16, 6
DESCENT = Settings(optimizer="adam", learning_rate=0.05, steps=12, statistics="running")


def networks(seed=0):
    """Small networks whose images depend on z, and averages that fit them."""
    paddle.seed(seed)
    generator, discriminator = Generator("article", PX, 4, Z), Discriminator("article", PX, 4)
    for network in (generator, discriminator):
        initialise(network)
        for weight in network.parameters():
            if len(weight.shape) > 1:
                weight.set_value(weight * 6)
        network.train()
    with paddle.no_grad():
        for _ in range(60):
            discriminator(generator(paddle.uniform([32, Z], min=-1.0, max=1.0)))
    return generator, discriminator


def faces(count=3, seed=0):
    """Noise, and holes of different places."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, (count, 3, PX, PX)).astype(np.float32)
    masks = np.zeros((count, 1, PX, PX), np.float32)
    for n in range(count):
        masks[n, 0, 2 + n % 4 : 9 + n % 4, 5:12] = 1
    return images, masks


@pytest.fixture(scope="module")
def shared():
    return networks()


@contextlib.contextmanager
def ready(pair, statistics):
    with batch_statistics(pair[0], statistics == "batch"), batch_statistics(pair[1], statistics == "batch"):
        yield


def rngs(count, seed=0):
    return [image_rng(seed, n) for n in range(count)]


# ---- gradients


@pytest.fixture
def double():
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


LOSSES = {
    "contextual": ({"perceptual_weight": 0.0}, False),
    "weighted": ({"perceptual_weight": 0.0, "weight_window": 7}, False),
    "lowres": ({"perceptual_weight": 0.0}, True),
    "perceptual": ({"perceptual_weight": 3.0, "perceptual_form": "non-saturating"}, None),
    "minimax": ({"perceptual_weight": 3.0, "perceptual_form": "minimax"}, None),
    "both": ({"perceptual_weight": 3.0, "weight_window": 3}, False),
}


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_finite_differences(double, name, statistics):
    """d(sum of the losses) / dz, every number of every z, by central differences in float64."""
    changes, lowres = LOSSES[name]
    pair, (images, masks) = networks(1), faces()
    if lowres is None:  # a hole everywhere leaves the perceptual loss
        masks[:], lowres = 1, False
    image, mask = (paddle.to_tensor(np.float64(values)) for values in (images, masks))
    companions = paddle.to_tensor(np.random.default_rng(4).uniform(-1, 1, (2, Z))) if statistics == "batch" else None
    z, h = np.random.default_rng(3).uniform(-1, 1, (3, Z)), 1e-6
    with ready(pair, statistics):
        evaluate = objective(*pair, image, mask, dataclasses.replace(DESCENT, **changes), lowres, companions)
        grad, slopes = evaluate(paddle.to_tensor(z)).grad.numpy(), np.zeros_like(z)
        for place in np.ndindex(*z.shape):
            for sign in (1, -1):
                moved = z.copy()
                moved[place] += sign * h
                slopes[place] += sign * float(evaluate(paddle.to_tensor(moved), gradient=False).loss.sum())
    slopes /= 2 * h
    assert grad.dtype == np.float64 and abs(slopes).min() > 1e-6
    np.testing.assert_allclose(grad, slopes, rtol=1e-4, atol=1e-5 * abs(slopes).max())


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("name", LOSSES)
def test_settings_choose_the_losses(shared, name, statistics):
    """Written out: which losses, of which rows; companions stand behind the images' rows, in both networks."""
    changes, lowres = LOSSES[name]
    settings, (images, masks) = dataclasses.replace(DESCENT, **changes), map(paddle.to_tensor, faces())
    everyone = paddle.to_tensor(np.random.default_rng(8).uniform(-1, 1, (5, Z)).astype(np.float32))
    with ready(shared, statistics):
        evaluate = objective(*shared, images, masks, settings, bool(lowres), everyone[3:])
        point, generated = evaluate(everyone[:3], gradient=False), shared[0](everyone)
        logits = shared[1](generated)[:3]
    generated = generated[:3]
    np.testing.assert_allclose(point.generated.numpy(), generated.numpy(), atol=1e-5)
    weight = losses.importance_weights(masks, settings.weight_window) if settings.weight_window else 1 - masks
    far = paddle.abs(weight * (generated - images)).sum([1, 2, 3])
    if lowres:
        far = losses.lowres_loss(generated, images)
    np.testing.assert_allclose(point.contextual.numpy(), far.numpy(), rtol=1e-4)
    if settings.perceptual_weight:
        d = paddle.nn.functional.sigmoid(logits).numpy().astype(np.float64)[:, 0]
        expected = np.log(1 - d) if settings.perceptual_form == "minimax" else -np.log(d)
        np.testing.assert_allclose(point.perceptual.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert point.grad is None and point.loss.shape == [3]


def test_weight_of_the_perceptual_loss_is_lambda_for_each_picture(shared):
    """The gradient less the contextual one is lambda times that of -log D of the image by itself."""
    images, masks = (paddle.to_tensor(values) for values in faces(4))
    z = paddle.to_tensor(np.random.default_rng(5).uniform(-1, 1, (4, Z)).astype(np.float32))
    grads = {}
    with ready(shared, "running"):
        for weight in (0.0, 40.0):
            settings = dataclasses.replace(DESCENT, perceptual_weight=weight)
            grads[weight] = objective(*shared, images, masks, settings)(z).grad.numpy()
        for n in range(4):
            one = z[n : n + 1].detach()
            one.stop_gradient = False
            minus_log_d = -paddle.log(paddle.nn.functional.sigmoid(shared[1](shared[0](one))))
            expected = 40.0 * paddle.grad(minus_log_d.sum(), one)[0].numpy()[0]
            np.testing.assert_allclose(
                grads[40.0][n] - grads[0.0][n], expected, rtol=1e-3, atol=2e-3 * abs(expected).max()
            )


# ---- updates


def test_nesterov_equals_the_articles_loop():
    rng = np.random.default_rng(0)
    z, v = rng.uniform(-1, 1, (2, 5)), np.zeros((2, 5))
    ours, velocity = paddle.to_tensor(z), paddle.to_tensor(v)
    clipped = 0
    for _ in range(6):
        g = rng.normal(0, 20, (2, 5))
        v_prev = np.copy(v)
        v = 0.9 * v - 0.01 * g
        z = z + (-0.9 * v_prev + (1 + 0.9) * v)
        clipped += (abs(z) > 1).sum()
        z = np.clip(z, -1, 1)
        ours, velocity = nesterov_step(ours, velocity, paddle.to_tensor(g), 0.01, 0.9)
        np.testing.assert_allclose(ours.numpy(), z, rtol=1e-12)
        np.testing.assert_allclose(velocity.numpy(), v, rtol=1e-12)
    assert clipped


def test_adam_equals_its_definition():
    rng = np.random.default_rng(1)
    z, m, v = rng.uniform(-1, 1, (2, 5)), np.zeros((2, 5)), np.zeros((2, 5))
    ours = [paddle.to_tensor(value) for value in (z, m, v)]
    for i in range(6):
        g = rng.normal(0, 20, (2, 5)) * (10.0 ** -(2 * i))  # down to where epsilon shows
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        z = np.clip(z - 0.3 * (m / (1 - 0.9 ** (i + 1))) / (np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8), -1, 1)
        ours = adam_step(*ours, paddle.to_tensor(g), 0.3, i + 1)
        for one, expected in zip(ours, (z, m, v), strict=True):
            np.testing.assert_allclose(one.numpy(), expected, rtol=1e-9)
    z, *_ = adam_step(
        paddle.to_tensor([0.0]), paddle.to_tensor([0.0]), paddle.to_tensor([0.0]), paddle.to_tensor([1e-8]), 0.5, 1
    )
    assert z.item() == pytest.approx(-0.25, rel=1e-4)  # g / (|g| + epsilon) = 1/2


K = np.array([[1.0, 4.0, 0.5], [2.0, 2.0, 9.0]])  # loss = sum of K z^2 / 2, of each row


def bowl(z):
    z = z.numpy()
    return paddle.to_tensor((K * z**2).sum(1) / 2), paddle.to_tensor(K * z)


def propose(z, velocity, uniform, **settings):
    z = paddle.to_tensor(z)
    moved, taken = hmc_step(z, *bowl(z), paddle.to_tensor(velocity), paddle.to_tensor(uniform), bowl, **settings)
    return moved.numpy(), taken.numpy()


def leapfrog(z, v, step_size, steps, beta):
    for _ in range(steps):
        v = v - step_size / 2 * beta * (K * z)
        z = np.clip(z + step_size * v, -1, 1)
        v = v - step_size / 2 * beta * (K * z)
    return z, v


def energy(z, v, beta):
    return beta * (K * z**2).sum(1) / 2 + (v**2).sum(1) / 2


def test_hmc_proposal_and_acceptance_by_hand():
    """The proposal is the leapfrog's, and is taken exactly if the number drawn is below exp(H - H')."""
    rng = np.random.default_rng(2)
    z, v = rng.uniform(-1, 1, (2, 3)), rng.normal(size=(2, 3)) * 2
    settings = {"step_size": 0.3, "leapfrog_steps": 7, "beta": 0.2}
    proposal, after = leapfrog(z, v, 0.3, 7, 0.2)
    assert (abs(proposal) == 1).any()  # clipping took part
    ratio = np.exp(energy(z, v, 0.2) - energy(proposal, after, 0.2))
    for factor, expected in ((0.999, True), (1.001, False)):
        moved, taken = propose(z, v, ratio * factor, **settings)
        assert taken.tolist() == [expected] * 2
        np.testing.assert_allclose(moved, proposal if expected else z, rtol=1e-12)
    moved, taken = propose(z, v, ratio * [1.001, 0.999], **settings)  # each row for itself
    assert taken.tolist() == [False, True]
    np.testing.assert_allclose(moved, [z[0], proposal[1]], rtol=1e-12)


def test_hmc_takes_everything_as_the_steps_shrink_and_nothing_if_they_are_huge():
    rng, taken = np.random.default_rng(3), {1e-6: [], 1e3: []}
    z = rng.uniform(-0.01, 0.01, (2, 3))
    for size, seen in taken.items():
        for _ in range(50):
            velocity, uniform = rng.normal(size=(2, 3)), rng.random(2)
            moved, did = propose(z, velocity, uniform, step_size=size, leapfrog_steps=10, beta=50.0)
            seen.append(did)
            if not did.all():
                np.testing.assert_array_equal(moved[~did], z[~did])
    assert np.all(taken[1e-6]) and not np.any(taken[1e3])


def test_hmc_does_not_take_what_is_no_number():
    z = paddle.zeros([2, 3])

    def corrupt(z):
        return paddle.to_tensor([float("nan"), 0.0]), paddle.zeros([2, 3])

    moved, taken = hmc_step(
        z, paddle.zeros([2]), paddle.zeros([2, 3]), paddle.ones([2, 3]), paddle.full([2], 0.5), corrupt,
        step_size=0.1, leapfrog_steps=2, beta=1.0,
    )  # fmt: skip
    assert taken.tolist() == [False, True] and not moved.numpy()[0].any()


# ---- settings


def test_presets_are_those_of_the_spec():
    """Sections 3 and 6."""
    rows = {
        "article": ("nesterov", 0.01, 0.1, "non-saturating", 0, 1000, "uniform", "batch"),
        "bamos": ("adam", 0.01, 0.1, "non-saturating", 0, 1000, "uniform", "running"),
        "yeh2017": ("adam", 0.01, 0.003, "minimax", 7, 1500, "uniform", "running"),
        "authors-repo": ("nesterov", 0.0003, 0.2, "non-saturating", 15, 3000, "normal", "batch"),
    }
    names = ["optimizer", "learning_rate", "perceptual_weight", "perceptual_form", "weight_window", "steps", "z_start"]
    for name, row in rows.items():
        assert tuple(getattr(PRESETS[name], field) for field in [*names, "statistics"]) == row
        assert PRESETS[name].momentum == 0.9 and PRESETS[name].restarts == 1
        check(PRESETS[name])
    assert PRESETS.keys() == {"suite", *rows}
    hmc = Settings(optimizer="hmc")
    assert (hmc.leapfrog_steps, hmc.step_size, hmc.beta, hmc.anneal) == (100, 0.001, 0.2, 1.0)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"restarts": 0}, {"learning_rate": 0.0}, {"weight_window": 6}, {"weight_window": -7},
     {"momentum": 1.0}, {"perceptual_weight": -0.1}, {"step_size": float("nan")}, {"leapfrog_steps": 0}],
)  # fmt: skip
def test_settings_that_make_no_search(change, shared):
    (name,) = change
    with pytest.raises(UserError, match=name):
        search(*shared, *faces(1), dataclasses.replace(DESCENT, **change), rngs(1))


# ---- the search


@pytest.mark.parametrize("optimizer", ["nesterov", "adam", "hmc"])
def test_first_updates_equal_those_made_by_hand(shared, optimizer):
    """Three updates written out with the tested pieces: starts, order of chance, counting, annealing."""
    settings = dataclasses.replace(
        DESCENT, optimizer=optimizer, steps=3, learning_rate=0.001, perceptual_weight=2.0, leapfrog_steps=4,
        step_size=0.02, beta=0.3, anneal=0.5,
    )  # fmt: skip
    images, masks = faces(2)
    found = search(*shared, images, masks, settings, rngs(2, seed=9))
    drawn = [image_rng(9, n).spawn(1)[0] for n in range(2)]
    z = paddle.to_tensor(np.float32([one.uniform(-1, 1, Z) for one in drawn]))
    m = v = paddle.zeros_like(z)
    with ready(shared, "running"):
        evaluate = objective(*shared, paddle.to_tensor(images), paddle.to_tensor(masks), settings)
        for t in range(3):
            point = evaluate(z)
            np.testing.assert_allclose(found.contextual[t], point.contextual.numpy(), rtol=1e-5)
            np.testing.assert_allclose(found.perceptual[t], point.perceptual.numpy(), rtol=1e-5)
            if optimizer == "nesterov":
                z, v = nesterov_step(z, v, point.grad, 0.001, 0.9)
            elif optimizer == "adam":
                z, m, v = adam_step(z, m, v, point.grad, 0.001, t + 1)
            else:
                velocity = paddle.to_tensor(np.float32([one.standard_normal(Z) for one in drawn]))
                uniform = paddle.to_tensor(np.float32([one.uniform() for one in drawn]))
                z, _ = hmc_step(
                    z, point.loss, point.grad, velocity, uniform, lambda at: evaluate(at)[:2],
                    step_size=0.02, leapfrog_steps=4, beta=0.3 * 0.5**t,
                )  # fmt: skip
        last = evaluate(z, gradient=False)
    np.testing.assert_allclose(found.z, z.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.loss, (last.contextual + 2.0 * last.perceptual).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.generated, last.generated.numpy(), atol=1e-5)


def test_what_is_found_and_kept(shared):
    """Shapes; the kept restart has the lowest final loss, and its z, history and frames."""
    ticks, settings = [], dataclasses.replace(DESCENT, restarts=4, steps=5)
    images, masks = faces(3)
    options = {"every": 2, "batch": 5, "on_step": lambda *tick: ticks.append(tick)}
    found = search(*shared, images, masks, settings, rngs(3), **options)
    assert found.z.shape == (3, Z) and found.generated.shape == (3, 3, PX, PX)
    assert found.contextual.shape == found.perceptual.shape == (5, 3)
    assert found.frame_steps == [0, 2, 4, 5] and found.frames.shape == (4, 3, PX, PX, 3)
    assert ticks == [(n, 15) for n in range(1, 16)]  # 12 rows in batches of 5
    assert found.losses.shape == (4, 3) and len(set(found.restart)) > 1
    np.testing.assert_array_equal(found.restart, found.losses.argmin(0))
    np.testing.assert_array_equal(found.loss, found.losses.min(0))
    with ready(shared, "running"):
        again = shared[0](paddle.to_tensor(found.z)).numpy()
    np.testing.assert_allclose(found.generated, again, atol=1e-5)
    levels = np.rint((again + 1) * 127.5).transpose(0, 2, 3, 1)
    assert abs(found.frames[-1] - levels).max() <= 1
    known = (1 - masks).transpose(0, 2, 3, 1)
    for row, step in enumerate((0, 2, 4)):  # a frame's L1 distance is its contextual loss, but for its rounding
        shown = found.frames[row] / 127.5 - 1
        distance = (known * abs(shown - images.transpose(0, 2, 3, 1))).sum((1, 2, 3))
        np.testing.assert_allclose(distance, found.contextual[step], rtol=0.01)


def test_restarts_do_not_change_one_another(shared):
    images, masks = faces(2)
    one = search(*shared, images, masks, DESCENT, rngs(2))
    many = search(*shared, images, masks, dataclasses.replace(DESCENT, restarts=3), rngs(2))
    np.testing.assert_allclose(many.losses[0], one.loss, rtol=1e-4)
    assert (many.loss <= one.loss * 1.0001).all() and len(np.unique(many.losses)) == 6


@pytest.mark.parametrize("optimizer", ["adam", "hmc"])
def test_with_running_statistics_a_result_is_the_pictures_own(shared, optimizer):
    """Whatever it is searched with, and in whatever batches."""
    settings = dataclasses.replace(DESCENT, optimizer=optimizer, steps=4, restarts=2, leapfrog_steps=3, step_size=0.05)
    images, masks = faces(4)
    together = search(*shared, images, masks, settings, rngs(4), batch=3)
    alone = search(*shared, images[2:3], masks[2:3], settings, [image_rng(0, 2)])
    np.testing.assert_allclose(alone.z[0], together.z[2], atol=1e-4)
    np.testing.assert_allclose(alone.losses[:, 0], together.losses[:, 2], rtol=1e-4)
    other = search(*shared, images[2:3], masks[2:3], settings, [image_rng(1, 2)])
    assert abs(other.z[0] - alone.z[0]).max() > 0.1


def test_with_batch_statistics_pictures_change_one_another(shared):
    settings = dataclasses.replace(DESCENT, statistics="batch")
    images, masks = faces(4)
    together = search(*shared, images, masks, settings, rngs(4), batch=6)
    again = search(*shared, images, masks, settings, rngs(4), batch=6)  # with the same companions
    np.testing.assert_allclose(again.z, together.z, atol=1e-4)
    with_others = search(*shared, images[[0, 3]], masks[[0, 3]], settings, [image_rng(0, 0), image_rng(0, 3)], batch=6)
    assert abs(with_others.z[0] - together.z[0]).max() > 0.01


@pytest.mark.parametrize("count, rows", [(1, 8), (3, 8), (8, 8), (10, 16)])
def test_batches_of_batch_statistics_are_full(shared, monkeypatch, count, rows):
    """The networks see batches of 8 only; the companions stay where they are."""
    seen = []
    forward = shared[0].forward
    monkeypatch.setattr(shared[0], "forward", lambda z: seen.append(z.numpy()) or forward(z))
    settings = dataclasses.replace(DESCENT, statistics="batch", steps=2)
    found = search(*shared, *faces(count), settings, rngs(count), batch=8)
    assert {len(z) for z in seen} == {8} and len(seen) == 3 * rows // 8 and len(found.z) == count
    for first, last in ((seen[0], seen[2]), (seen[-3], seen[-1])):
        still = (first == last).all(1)
        assert still.sum() == (0 if first is seen[0] and count >= 8 else 8 - count % 8 if count % 8 else 0)
        assert abs(last).max() <= 1 and len(np.unique(first[:, 0])) == 8


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_networks_are_left_as_they_were(statistics):
    """Averages, modes, gradients and who may learn; also if the search is broken off."""
    pair = networks(2)
    pair[0].eval()
    pair[0].norm1.train()
    pair[1].train()
    pair[1].conv1.weight.stop_gradient = True
    before = [{name: value.numpy() for name, value in network.state_dict().items()} for network in pair]
    modes = [[layer.training for layer in network.sublayers(include_self=True)] for network in pair]
    learning = [[weight.stop_gradient for weight in network.parameters()] for network in pair]

    def stop(done, _):
        if done == 2:
            raise KeyboardInterrupt

    settings = dataclasses.replace(DESCENT, statistics=statistics, steps=3)
    for on_step in (None, stop):
        with contextlib.suppress(KeyboardInterrupt):
            search(*pair, *faces(), settings, rngs(3), on_step=on_step)
        for network, values, mode, learns in zip(pair, before, modes, learning, strict=True):
            for name, value in network.state_dict().items():
                np.testing.assert_array_equal(value.numpy(), values[name])
            assert [layer.training for layer in network.sublayers(include_self=True)] == mode
            assert [weight.stop_gradient for weight in network.parameters()] == learns
            assert all(weight.grad is None for weight in network.parameters())


def test_weights_take_no_part_in_the_backward_pass(shared):
    """Inside the search every weight is frozen, so that only the gradients on the way to z are computed."""
    states = []

    def look(*_):
        states.extend(weight.stop_gradient for network in shared for weight in network.parameters())

    search(*shared, *faces(1), dataclasses.replace(DESCENT, steps=1), rngs(1), on_step=look)
    assert states and all(states)


@pytest.mark.parametrize("optimizer, learning_rate", [("nesterov", 2e-5), ("adam", 0.01)])
def test_from_nearby_the_way_leads_to_a_picture_of_the_generators_own(shared, optimizer, learning_rate):
    """y = G(z*) with a hole, and a start 0.1 beside z*: the loss falls to less than a fifth."""
    rng, (_, masks) = np.random.default_rng(6), faces(3)
    goal = rng.uniform(-0.8, 0.8, (3, Z)).astype(np.float32)
    z = paddle.to_tensor(goal + rng.choice([-0.1, 0.1], (3, Z)).astype(np.float32))
    m = v = paddle.zeros_like(z)
    with ready(shared, "running"):
        images = shared[0](paddle.to_tensor(goal)).detach()
        evaluate = objective(shared[0], None, images, paddle.to_tensor(masks), DESCENT)
        first = evaluate(z).loss.numpy()
        for t in range(60):
            grad = evaluate(z).grad
            if optimizer == "adam":
                z, m, v = adam_step(z, m, v, grad, learning_rate, t + 1)
            else:
                z, v = nesterov_step(z, v, grad, learning_rate, 0.9)
        last = evaluate(z).loss.numpy()
    assert (last < first / 5).all(), (first, last)


def test_search_finds_a_picture_of_the_generators_own(shared):
    """From chance, with restarts: known pixels and the hole come near, nearer than they were."""
    rng, (_, masks) = np.random.default_rng(7), faces(3)
    with ready(shared, "running"):
        images = shared[0](paddle.to_tensor(rng.uniform(-0.8, 0.8, (3, Z)).astype(np.float32))).numpy()
    settings = dataclasses.replace(DESCENT, steps=60, restarts=4, perceptual_weight=0.1)
    found = search(*shared, images, masks, settings, rngs(3))
    assert (found.loss < 0.3 * found.contextual[0]).all()
    apart = (abs(found.generated - images) * masks).sum((1, 2, 3))
    spread = (abs(images.mean(0) - images) * masks).sum((1, 2, 3))
    assert (apart < spread).all()


# ---- little to go by


def test_without_a_discriminator_the_contextual_loss_is_alone(shared):
    images, masks = faces(2)
    alone = search(shared[0], None, images, masks, DESCENT, rngs(2))
    weightless = search(*shared, images, masks, dataclasses.replace(DESCENT, perceptual_weight=0.0), rngs(2))
    assert not alone.perceptual.any() and (alone.contextual[-1] < alone.contextual[0]).all()
    np.testing.assert_allclose(alone.z, weightless.z, atol=1e-4)


@pytest.mark.parametrize("window", [0, 7])
def test_a_hole_everywhere_leaves_the_perceptual_loss(shared, window):
    images, masks = faces(2)
    settings = dataclasses.replace(DESCENT, weight_window=window)
    found = search(*shared, images, np.ones_like(masks), settings, rngs(2))
    assert not found.contextual.any() and (found.perceptual[-1] < found.perceptual[0]).all()
    nothing = search(shared[0], None, images, np.ones_like(masks), settings, rngs(2))
    start = np.float32([image_rng(0, n).spawn(1)[0].uniform(-1, 1, Z) for n in range(2)])
    assert not nothing.loss.any()
    np.testing.assert_array_equal(nothing.z, start)


def test_colours_under_the_hole_do_not_reach_the_result(shared):
    images, masks = faces(2)
    one = search(*shared, images, masks, DESCENT, rngs(2))
    two = search(*shared, images * (1 - masks) + masks, masks, DESCENT, rngs(2))
    np.testing.assert_array_equal(one.z, two.z)


def test_lowres_fits_block_means_and_ignores_the_mask(shared):
    images, masks = faces(2)
    one = search(*shared, images, masks, DESCENT, rngs(2), lowres=True)
    two = search(*shared, images, 1 - masks, DESCENT, rngs(2), lowres=True)
    np.testing.assert_array_equal(one.z, two.z)
    means = (one.generated - images).reshape(2, 3, 2, 8, 2, 8).mean((3, 5))
    with_d = abs(means).sum((1, 2, 3))
    assert (one.loss >= with_d - 1e-4).all() and (one.contextual[-1] < one.contextual[0]).all()


def test_points_start_where_they_should_and_stay_in_the_box(shared):
    images, masks = faces(64)
    drawn = [image_rng(0, n) for n in range(64)]
    uniform = searching.start(Settings(z_start="uniform"), 100, drawn).numpy()
    normal = searching.start(Settings(z_start="normal"), 100, drawn).numpy()
    assert uniform.std() == pytest.approx(1 / np.sqrt(3), rel=0.02) and abs(uniform).max() <= 1
    assert normal.std() == pytest.approx(1, rel=0.03) and abs(normal).max() > 3
    settings = dataclasses.replace(DESCENT, z_start="normal", steps=1)
    assert abs(search(*shared, images, masks, settings, drawn).z).max() == 1


def test_one_chain_of_chance_for_all(shared):
    """Image i gets the next child: in one call or two, the results are the same."""
    images, masks = faces(4)
    whole = search(*shared, images, masks, DESCENT, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    parts = [search(*shared, images[n : n + 2], masks[n : n + 2], DESCENT, rng).z for n in (0, 2)]
    np.testing.assert_allclose(np.concatenate(parts), whole.z, atol=1e-4)


def test_arrays_that_do_not_fit(shared):
    images, masks = faces(2)
    for given in ((images[:, :, :8], masks), (images, masks[:1]), (images[:0], masks[:0]), (images, masks[:, :, 1:])):
        with pytest.raises(ValueError, match="generator of 16 px"):
            search(*shared, *given, DESCENT, rngs(2))
    with pytest.raises(ValueError, match="3 random generators for 2 images"):
        search(*shared, images, masks, DESCENT, rngs(3))
