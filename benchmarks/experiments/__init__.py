"""Experiments: one recipe and one command each, over seeds, and a page with what came out.

    python -m benchmarks experiment NAME [--seeds 0,1,2] [--page docs/experiments/NAME.md] [--set KEY=VALUE ...]

`chains` runs the recipe for each seed (finished stages come from the cache) and reads what is sealed; `scores`, `steps` and `starts` make
figures of it with `statistics`; `sections` and `plots` make the page's parts; `page` puts them between two markers of a Markdown file,
of which all else is written by hand.
"""

from benchmarks.experiments.command import main

__all__ = ["main"]
