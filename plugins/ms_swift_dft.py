"""DFT in ms-swift, where PyTorch's backend autoload is switched off.

    swift sft --external_plugins plugins/ms_swift_dft.py --loss_type dft ...
    DFT_LOSS_CONFIG='{"option": value}' swift sft --external_plugins plugins/ms_swift_dft.py --loss_type dft ...

Not needed otherwise: after `pip install dft-plugin`, plain `swift sft --loss_type dft` is enough and
`--loss_config` is a flag. Both together are fine. The checkpoint loads without this file.
"""

from dft_plugin.integrations.ms_swift.hooks import register

register(__file__)
