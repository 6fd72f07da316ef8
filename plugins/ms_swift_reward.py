"""The graders of `dft eval grade` as rewards for GRPO in ms-swift: 1 for a right answer, 0 for any other.

    swift rlhf --rlhf_type grpo --external_plugins plugins/ms_swift_reward.py --reward_funcs dft_math ...

`dft_math`, `dft_short_answer` and `dft_choice` read the dataset's column `solution`, a reference or a list of them, as
`dft rollout select` writes it into `ms_swift/grpo.jsonl`. Needs `pip install 'dft-plugin[eval]'`.
"""

from dft_plugin.integrations.ms_swift.rewards import register

register()
