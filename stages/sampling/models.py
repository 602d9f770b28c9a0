"""Which sampler a model needs that a person names: our own architecture, any other folder that transformers opens, or a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ring_model.model_types import is_ours
from stages.config import Runtime
from stages.sampling.address import EXAMPLE, Address, is_address
from stages.sampling.local import LocalSampler
from stages.sampling.pacing import Limits
from stages.sampling.requests import Policy
from stages.sampling.server import ServerSampler

if TYPE_CHECKING:
    from stages.sampling.causal_lm import CausalLmSampler


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked."""

    text: str  # as it was named
    kind: Literal["own", "transformers", "server"]
    policy: Policy  # for its chunks; a server's sampler does not read it

    @property
    def name(self) -> str:
        """For people and rows of results: the folder's, or the server's for the model."""
        return Address.parse(self.text).model if self.kind == "server" else self.policy.weights.resolve().name

    @property
    def requires_thinking(self) -> bool:
        """Whether a response without a closed thought counts as unfinished: ours open one, others may answer at once."""
        return self.kind == "own"

    def sampler(
        self, runtime: Runtime, *, published: Path, limits: Limits | None = None
    ) -> "LocalSampler | CausalLmSampler | ServerSampler":
        """Its sampler, a context. `published` is for `LocalSampler`, `limits` for servers."""
        match self.kind:
            case "own":
                return LocalSampler(runtime, published=published)
            case "transformers":
                from stages.sampling.causal_lm import CausalLmSampler  # imports transformers, which takes seconds

                return CausalLmSampler(runtime)
            case "server":
                return ServerSampler(self.text, runtime, limits=limits)


def open_model(text: str) -> Model:
    """Find out what a text names: `http://127.0.0.1:8000/v1#name`, or a folder.

    Raises:
        ValueError: it is neither, or the folder holds no model that can be asked; no weights are read and no server is asked for that.

    """
    if is_address(text):
        address = Address.parse(text)
        return Model(text, "server", Policy.of(Path(address.model)))
    folder = Path(text)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} is no model: {folder / 'config.json'} does not exist; give a folder with config.json, model*.safetensors and"
            f" tokenizer files, or the address of a server as {EXAMPLE}"
        )
    if is_ours(folder):
        return Model(text, "own", Policy.of(folder))
    from ring_model.causal_lm import check_causal_lm  # as above

    check_causal_lm(folder)
    return Model(text, "transformers", Policy.of(folder))
