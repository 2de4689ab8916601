"""What those who publish an upstream's weights say of their licence; notes to read, no legal advice."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """Of the weights of one publisher.

    Attributes:
        whose: who publishes them.
        names: a pattern for the hub's names.
        short: an SPDX id or a few words.
        source: where it is said; "LICENSE of" a repository that holds code and weights and says no more.
    """

    whose: str
    names: str
    short: str
    source: str

    def __str__(self) -> str:
        return f"{self.short}: {self.whose}, {self.source}"


#: The first whose pattern fits is a name's.
LICENCES = (
    Licence("VoxPopuli's models", r"wav2vec2_large_voxpopuli.*", "CC BY-NC 4.0", "facebook/wav2vec2-* at Hugging Face"),
    Licence(
        "fairseq's models",
        r"(hubert(?!_base_robust)|mhubert|multires_hubert|data2vec|(vq_)?wav2vec|discretebert|xls).*",
        "MIT",
        "the README of https://github.com/facebookresearch/fairseq: weights, too",
    ),
    Licence(
        "WavLM",
        r"wavlm.*",
        "MIT or CC BY-SA 3.0",
        "https://github.com/microsoft/unilm is MIT; its cards at Hugging Face point to the LICENSE of UniSpeech",
    ),
    Licence("UniSpeech-SAT", r"unispeech_sat.*", "CC BY-SA 3.0", "https://github.com/microsoft/UniSpeech"),
    Licence("Whisper", r"whisper.*", "MIT", "code and weights: https://github.com/openai/whisper"),
    Licence("emotion2vec", r"emotion2vec.*", "FunASR's own", "MODEL_LICENSE of https://github.com/modelscope/FunASR"),
    Licence("DistilHuBERT", r"distil.*", "Apache-2.0", "ntu-spml/distilhubert at Hugging Face"),
    Licence("LightHuBERT", r"lighthubert.*", "MIT", "LICENSE of https://github.com/mechanicalsea/lighthubert"),
    Licence("ContentVec", r"contentvec.*", "MIT", "LICENSE of https://github.com/auspicious3000/contentvec"),
    Licence("CPC", r"(modified_)?cpc.*", "MIT", "LICENSE of https://github.com/facebookresearch/CPC_audio"),
    Licence("PASE+", r"pase.*", "MIT", "LICENSE of https://github.com/santi-pdp/pase"),
    Licence("DeCoAR", r"decoar.*", "Apache-2.0", "LICENSE of https://github.com/awslabs/speech-representations"),
    Licence(
        "AST, SSAST", r"s?s?ast(_.*)?", "BSD-3-Clause", "LICENSE of https://github.com/YuanGongND/ssast, and of ast"
    ),
    Licence("PaSST", r"passt.*", "Apache-2.0", "LICENSE of https://github.com/kkoutini/PaSST"),
    Licence("VGGish", r"vggish", "Apache-2.0", "LICENSE of https://github.com/tensorflow/models"),
    Licence("BYOL-S", r"byol_s.*", "MIT", "LICENSE of https://github.com/GasserElbanna/serab-byols"),
    Licence("BYOL-A", r"byol_a.*", "NTT's own", "to evaluate its paper: LICENSE of https://github.com/nttcslab/byol-a"),
)


def licence_of(name: str) -> Licence | None:
    """What is known of the licence of an upstream's weights; None where nothing is.

    >>> licence_of("hubert_base").short, licence_of("hubert_base_robust_mgr")
    ('MIT', None)
    """
    return next((each for each in LICENCES if re.fullmatch(each.names, name)), None)
