"""Uses of a logging window's statistics: scalars for the reporters, a row on disk, alarms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dft_plugin.monitor.alarms import Alarms
from dft_plugin.monitor.files import PAGE_NAME, MonitorRows, write_page
from dft_plugin.training.gathered_stats import Window


class WindowLog:
    """The windows of one run.

    Args:
        logger: The framework's logger; alarms are warnings there.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._rows: MonitorRows | None = None
        self._alarms = Alarms()
        self._is_writing = False
        self._final_record: Mapping[str, Any] | None = None

    def begin(self, folder: Path, *, resumed_step: int, previous: Path | None, warmup_steps: int) -> None:
        """Open the files; on the main process only, the others write nothing and raise no alarm.

        Args:
            folder: The run's output folder.
            resumed_step: Optimiser step that the run resumed from; 0 for a new run.
            previous: Folder of the run that wrote the checkpoint; None for a new run.
            warmup_steps: Steps of learning-rate warm-up.
        """
        self._rows = MonitorRows(folder, resumed_step=resumed_step, previous=previous, logger=self._logger)
        self._alarms = Alarms(warmup_steps=warmup_steps)
        self._alarms.replay(self._rows.training)
        self._final_record = None
        self._is_writing = True

    def log(self, step: int, mode: str, window: Window, *, epoch: float | None) -> dict[str, float]:
        """Take one window in.

        Args:
            step: Optimiser step.
            mode: "train", or the prefix of an evaluation's metrics.
            window: Its statistics over all ranks.
            epoch: Where the data are; None where that is not known.

        Returns:
            Flat scalars to merge into the framework's logs; the same on every rank, empty without tokens.
        """
        scalars = window.scalars()
        if self._rows is None or not scalars:
            return scalars
        row = {"step": step, "epoch": epoch, "mode": mode, **window.record()}
        alarms = self._alarms.feed(row) if mode == "train" else []
        for alarm in alarms:
            self._logger.warning(f"dft: alarm: {alarm}")
        row["alarms"] = [alarm.record() for alarm in alarms]
        if self._is_writing:
            try:
                self._rows.append(row)
            except OSError as error:  # a full disk must not end the training
                self._is_writing = False
                self._logger.warning(f"dft: {self._rows.path} is written no further: {error}")
        if self._final_record is not None:  # an evaluation after the training
            self._write_page(self._rows, self._final_record)
        return scalars

    def end(self, record: Mapping[str, Any]) -> None:
        """Write the page, on the main process; evaluations that follow write it again.

        Args:
            record: The run's record.
        """
        if self._rows is not None:
            self._final_record = record
            self._write_page(self._rows, record)

    def _write_page(self, rows: MonitorRows, record: Mapping[str, Any]) -> None:
        try:
            problem = write_page(rows.path.parent, rows.rows, record)
        except Exception as error:  # noqa: BLE001 - the trained model is saved after this, and must be
            problem = f"dft: {PAGE_NAME} could not be written: {type(error).__name__}: {error}"
        if problem:
            self._logger.warning(problem)
