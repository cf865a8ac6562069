"""Silence, for a while: without the progress bars, or without the warnings too, of the libraries below."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' progress bars, which a notebook would keep among its outputs."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, warnings and log lines of the libraries; errors still come through."""
    with no_bars(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
