"""WikiText-2, the text on which the papers report perplexity, when it can be had."""

from pathlib import Path
from typing import Any

from coursepkg import runtime
from coursepkg.evaluation.perplexity import Likelihood, likelihood, windows

HUB_NAME, CONFIGURATION = "Salesforce/wikitext", "wikitext-2-raw-v1"


class NoText(RuntimeError):
    """The text is not here, and no hub that could be asked for it."""


def test_text(source: str | Path = HUB_NAME) -> str:
    """The test split of WikiText-2 (raw) as one text, its lines joined by two line breaks as the papers' code does.

    source: the data set's name on the hub, or a folder with a copy of it. It is read through `datasets`.
    Raises NoText, with the way on, where it cannot be had.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise NoText(
            "WikiText-2 is read through datasets, which is not installed: pip install 'coursepkg[hub]'"
        ) from None
    if isinstance(source, Path) and not source.is_dir():
        raise NoText(f"there is no folder {source}")
    try:
        lines = load_dataset(str(source), CONFIGURATION, split="test")["text"]
    except Exception as error:  # datasets raises many kinds; what matters is that there is no text
        hub = None if Path(source).is_dir() else runtime.hub()
        away = f" (the hub cannot be reached: {hub.reason})" if hub and not hub.reachable else ""
        raise NoText(
            f"WikiText-2 cannot be read from {source}{away}: {error}\n"
            "The course LM has held-out text of its own: evaluation.take(model, tokenizer, courselm.exam()).perplexity"
        ) from error
    return "\n\n".join(lines)


def measure(
    model: Any, tokenizer: Any, source: str | Path = HUB_NAME, length: int | None = None
) -> Likelihood:
    """The likelihood of WikiText-2's test split, in windows side by side as in the GPTQ and AWQ papers' code.

    length: of a window; by default 2,048, or what the model can read at most if that is less.
    """
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2048
    return likelihood(model, windows(tokenizer, test_text(source), length or min(2048, longest)))
