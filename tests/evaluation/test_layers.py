"""What `calibrate` learns of single layers."""

import torch
from random_networks import random_score

from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.evaluation import layers
from lightning_freqdiff.evaluation.teacher import Paths
from lightning_freqdiff.sampling import time_grid


@torch.no_grad()
def test_products_are_those_of_the_errors_that_hooks_make():
    """Against hooks that put what a block added at the time before in place of what it adds now."""
    score = random_score(13, 2)
    times = time_grid(score.sde, 12, "edm")
    tokens = torch.randn(13, 5, *score.noise_scale.shape) * score.noise_scale
    found = layers.skip_products(score, Paths(times, tokens, tokens, NOTHING))
    places, gaps = found["l2c.places"].long().tolist(), found["l2c.gaps"].long().tolist()
    blocks, numbers = list(score.network.layers), int((score.noise_scale > 0).sum())
    assert found["l2c.products"].shape == (len(gaps), len(places), len(blocks), len(blocks))
    for gap, by_place in zip(gaps, found["l2c.products"], strict=True):
        for now, products in zip(places, by_place, strict=True):
            kept, errors = {}, []

            def note(block, inputs, output, kept=kept):
                kept[block] = output - inputs[0]

            def eps(now):
                t = times[now].float()
                return run_network(score, tokens[now], t, score.coefficients(t), NOTHING).eps

            hooks = [block.register_forward_hook(note) for block in blocks]
            eps(now - gap)
            for hook in hooks:
                hook.remove()
            exact = eps(now)
            for block in blocks:
                hook = block.register_forward_hook(lambda block, inputs, _, kept=kept: inputs[0] + kept[block])
                errors.append((eps(now) - exact).flatten().double())
                hook.remove()
            rows = torch.stack(errors)
            torch.testing.assert_close(products, rows @ rows.T / (5 * numbers), rtol=1e-3, atol=1e-9)
