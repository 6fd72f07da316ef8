"""Images that a data file names, opened once so that training does not stop at one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dft_plugin.data.columns import RowProblem
from dft_plugin.errors import ConfigError


class ImageFolder:
    """The folder that relative paths of images start from.

    Args:
        path: The folder; None where the recipe has no images.

    Raises:
        ConfigError: it is not there.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None and not path.is_dir():
            raise ConfigError(f"--image-dir {path} is no folder; give the one that the images' paths start from.")
        self._path = path

    def check(self, names: tuple[str, ...]) -> None:
        """Open every image and decode it.

        Raises:
            RowProblem: one is outside the folder, is not there, or is no image.
        """
        for name in names:
            self._open(name)

    def _open(self, name: str) -> None:
        from PIL import Image, UnidentifiedImageError

        assert self._path is not None  # a recipe with images is refused without a folder
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RowProblem("image_path", f"{name}: a path below --image-dir is accepted")
        path = self._path / name
        if not path.is_file():
            raise RowProblem("image_missing", name)
        try:
            with Image.open(path) as image:
                image.convert("RGB")
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise RowProblem("image_unreadable", f"{name}: {type(error).__name__}") from None
