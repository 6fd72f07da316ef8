"""Evaluation: models as black boxes, scores one can trust. Installed as `dft_eval`."""

if __name__ != "dft_eval":
    raise ImportError(
        f"imported as {__name__!r}: the folder eval/ is the source of the package `dft_eval`. "
        "Run `pip install -e .` in the project and `import dft_eval`."
    )
