"""The package behind the quantization course: what each lecture imports, and what checks the exercises."""

__version__ = "0.1.0"


def hello() -> None:
    """Print what was found here, in four lines: the first cell of every lecture calls it."""
    from coursepkg import runtime  # imports torch, which takes a second or two

    print(runtime.greeting(runtime.machine()))


def load_model(name="course-lm", **settings):
    """A causal LM and its tokenizer; the course's own by default. See `coursepkg.loading.load_model`."""
    from coursepkg import loading  # imports torch and transformers

    return loading.load_model(name, **settings)
