"""A local audio language model of the Hugging Face library transformers, asked in its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.errors import UserError


class HuggingFace:
    """Answers with a model that takes audio and text: Qwen2-Audio, and others whose processor has a chat template.

    Args:
        model: a folder with weights, configuration and processor, or the name of one in the Hub's cache on this
            machine; nothing is downloaded.
        dtype: of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto``: as they are stored.

    Raises:
        UserError: it cannot be loaded, or takes no audio.
    """

    def __init__(self, model: str, device: str = "cpu", dtype: str = "auto", max_new_tokens: str | int = 32):
        from s3prl_metaperser.run.cell import check_device, fit_for_this_machine

        check_device(device)
        fit_for_this_machine()
        import transformers

        self.device, self.most = device, int(max_new_tokens)
        try:
            config = transformers.AutoConfig.from_pretrained(model, local_files_only=True)
            self.processor: Any = transformers.AutoProcessor.from_pretrained(model, local_files_only=True)
            of = getattr(transformers, (config.architectures or [""])[0], None)
            if of is None:
                raise ValueError(f"transformers {transformers.__version__} has no {config.architectures}")
            self.model: Any = of.from_pretrained(model, local_files_only=True, dtype=dtype)
        except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
            what = str(error).strip().splitlines()[0]
            raise UserError(f"model={model} cannot be loaded ({what}). Name a folder that has it whole.") from error
        if getattr(self.processor, "feature_extractor", None) is None:
            raise UserError(
                f"model={model}: {type(self.processor).__name__} takes no audio. Name an audio language model."
            )
        self.model.to(device).eval()

    @property
    def rate(self) -> int:
        """What the model hears, in Hz."""
        return int(self.processor.feature_extractor.sampling_rate)

    def respond(self, audios: Sequence[np.ndarray], instruction: str) -> str:
        """The model's answer to the instruction after the clips, by its most probable words."""
        import soxr
        import torch

        clips = [a if self.rate == RATE else soxr.resample(a, RATE, self.rate, quality="HQ") for a in audios]
        content: list[dict[str, Any]] = [{"type": "audio", "audio": clip} for clip in clips]
        turns = [{"role": "user", "content": [*content, {"type": "text", "text": instruction}]}]
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        inputs = self.processor(text=[text], audio=clips, sampling_rate=self.rate, return_tensors="pt")
        inputs = {name: value.to(self.device) for name, value in inputs.items() if hasattr(value, "to")}
        kinds = {name: v.to(self.model.dtype) if v.is_floating_point() else v for name, v in inputs.items()}
        with torch.no_grad():
            found = self.model.generate(**kinds, max_new_tokens=self.most, do_sample=False)
        new = found[:, kinds["input_ids"].shape[1] :]
        (answer,) = self.processor.batch_decode(new, skip_special_tokens=True)
        return answer.strip()
