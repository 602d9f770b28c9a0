"""Keys and values take the room that the live rows need, and keep what they are."""

import torch

from ring_model.modelling import BailingMoe
from ring_model.row_cache import SPARE_POSITIONS, RowCache


def filled(model: BailingMoe, *, num_rows: int, width: int) -> RowCache:
    """A cache whose numbers say where they stand."""
    cache = RowCache(model, num_rows=num_rows, most_positions=10_000)
    cache.widen(width)
    for layer in cache.layers:
        layer.copy_(torch.arange(layer.numel(), dtype=layer.dtype).view(layer.shape))
    return cache


def test_it_begins_with_nothing_and_grows_with_what_is_placed(model: BailingMoe) -> None:
    config, cache = model.config, RowCache(model, num_rows=3, most_positions=10_000)
    assert cache.width == 0
    keys_values = torch.ones(config.num_hidden_layers, 2, config.num_key_value_heads, 5, config.head_dim)
    cache.place(1, keys_values)
    assert cache.width == 5 + 1 + SPARE_POSITIONS
    assert all(layer[:, 1, :, :5].eq(1).all() and layer.sum() == keys_values[0].sum() for layer in cache.layers)


def test_it_grows_by_an_eighth_and_never_beyond_what_may_be(model: BailingMoe) -> None:
    cache = filled(model, num_rows=2, width=800)  # 832 positions
    before = [layer.clone() for layer in cache.layers]
    cache.widen(833)
    assert cache.width == 832 + 104
    assert all(new[:, :, :, :832].equal(old) for new, old in zip(cache.layers, before, strict=True))
    assert not any(layer[:, :, :, 832:].any() for layer in cache.layers)
    bounded = RowCache(model, num_rows=1, most_positions=40)
    bounded.widen(30)
    assert bounded.width == 40


def test_it_shrinks_to_the_rows_that_stay_and_to_the_longest_of_them(model: BailingMoe) -> None:
    cache = filled(model, num_rows=4, width=800)
    before, size = [layer.clone() for layer in cache.layers], cache.layers[0].untyped_storage().nbytes()
    cache.shrink(torch.tensor([0, 2]), width=100)
    assert cache.width == 100 + SPARE_POSITIONS
    assert all(new.equal(old[:, [0, 2], :, :132]) for new, old in zip(cache.layers, before, strict=True))
    assert cache.layers[0].untyped_storage().nbytes() * 4 * 832 == size * 2 * 132


def test_a_width_that_does_not_halve_stays(model: BailingMoe) -> None:
    cache = filled(model, num_rows=2, width=168)  # 200 positions
    cache.shrink(None, width=100)
    assert cache.width == 200
    cache.shrink(None, width=68)
    assert cache.width == 100
