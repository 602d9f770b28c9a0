"""Keys and values of rows in the making, sized by the tokens that are there: a rectangle as wide as the longest live row needs.

It grows in blocks of a part of what it is, layer by layer, so that beside it at most one layer is in memory twice; and it shrinks when
rows end. What it holds changes by neither: a response is the same to the last bit.

Axes: R rows, T positions, L layers, W head width; `layers` has one tensor [2, R, KV heads, T, W] each: keys, then values.
"""

import torch
from torch import Tensor

from ring_model.modelling import BailingMoe

SPARE_POSITIONS = 32
"""Positions beyond what is needed, at least: most responses end long before the longest that may be."""

_GROWTH = 8
"""It grows by an eighth, at least."""


class RowCache:
    """The cache of some rows. Positions that no row has filled hold zeros."""

    def __init__(self, model: BailingMoe, *, num_rows: int, most_positions: int) -> None:
        config = model.config
        shape = (2, num_rows, config.num_key_value_heads, 0, config.head_dim)
        self._most = most_positions
        self.layers = [
            torch.zeros(shape, device=model.device, dtype=model.product_dtype) for _ in range(config.num_hidden_layers)
        ]

    @property
    def width(self) -> int:
        """T."""
        return self.layers[0].shape[3]

    def widen(self, width: int) -> None:
        """Have so many positions at least, and some more, that it seldom be copied."""
        before = self.width
        if width <= before:
            return
        wanted = min(max(width + SPARE_POSITIONS, before + before // _GROWTH), self._most)
        for index, layer in enumerate(self.layers):
            wider = layer.new_zeros((*layer.shape[:3], wanted, layer.shape[4]))
            wider[:, :, :, :before] = layer
            self.layers[index] = wider

    def place(self, row: int, keys_values: Tensor) -> None:
        """Put what a prompt of n tokens left, [L, 2, KV heads, n, W], at the beginning of a row."""
        length = keys_values.shape[3]
        self.widen(length + 1)
        for layer, of_layer in zip(self.layers, keys_values, strict=True):
            layer[:, row, :, :length] = of_layer

    def shrink(self, rows: Tensor | None, *, width: int) -> None:
        """Keep some rows (None: all), and so many positions and some more, where that halves them."""
        wanted = width + SPARE_POSITIONS
        is_narrower = 2 * wanted <= self.width
        if rows is None and not is_narrower:
            return
        for index, layer in enumerate(self.layers):
            part = layer[:, :, :, :wanted] if is_narrower else layer
            self.layers[index] = part.contiguous() if rows is None else part.index_select(1, rows)
