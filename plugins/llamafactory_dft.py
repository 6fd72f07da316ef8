"""LLaMA-Factory with `loss_type`, where PyTorch's backend autoload is switched off.

    python plugins/llamafactory_dft.py dft.yaml
    torchrun --nproc-per-node 8 plugins/llamafactory_dft.py dft.yaml

Not needed otherwise: after `pip install dft-plugin`, plain `llamafactory-cli train dft.yaml` is enough.
"""

from dft_plugin.autoload import install

install()  # before llamafactory is imported

from llamafactory.train.tuner import run_exp  # noqa: E402

if __name__ == "__main__":
    run_exp()
