"""The package behind the quantization course: what each lecture imports, and what checks the exercises."""

__version__ = "0.1.0"
