"""An OpenAI-compatible server of one model, on this machine only: what `ring chat --serve` starts."""
