"""For `--external_plugins`: `--template tiny_vl`, ms-swift's Qwen2.5-VL template for the model of `tiny_vl`.

ms-swift writes the published checkpoints' placeholder ids into the class; the tiny tokenizer has others.
"""

from typing import Any

from swift.template import register_template
from swift.template.templates.qwen import Qwen2_5VLTemplate, QwenTemplateMeta


class TinyVLTemplate(Qwen2_5VLTemplate):
    """The same template with the tokenizer's own placeholder ids."""

    def init_processor(self, processor: Any) -> None:
        super().init_processor(processor)
        if processor is not None:
            self.image_token_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
            self.video_token_id = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")


register_template(QwenTemplateMeta("tiny_vl", template_cls=TinyVLTemplate))
