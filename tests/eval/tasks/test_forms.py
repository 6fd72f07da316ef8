"""Every protocol asks in the form its benchmark declares, which decides what interface fits it."""

import pytest

from dft_eval.errors import ConfigError
from dft_eval.run.fetch import locate_data
from dft_eval.tasks.base import TaskSettings
from dft_eval.tasks.catalog import TASKS


@pytest.mark.parametrize("name", [name for name, kind in TASKS.items() if kind.domain != "vision"])
def test_prompts_have_the_declared_form(name, data_dir):
    kind = TASKS[name]
    folder = locate_data(name, kind.data_files)
    for protocol in kind.protocols:
        task = kind(folder, protocol)
        form = "completion" if isinstance(task.samples()[0].prompt, str) else "chat"
        assert task.interface == form


def test_an_interface_that_does_not_fit_names_what_does():
    from dft_eval.backends.hf import HfSettings

    chat = TaskSettings(HfSettings(kind="hf", device="cpu"), "chat")
    task = TASKS["math500"]
    with pytest.raises(ConfigError, match="Set `interface: completion`, or choose `protocol: bare-chat`"):
        task(None, "bare").check_settings(chat)
    with pytest.raises(ConfigError, match="which is all this benchmark has"):
        TASKS["nq_open"](None, "5-shot").check_settings(chat)
