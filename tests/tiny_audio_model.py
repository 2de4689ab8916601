"""A tiny audio language model of random weights, as a folder that transformers loads: Qwen2-Audio's classes."""

from pathlib import Path


def write_tiny_model(folder: Path) -> Path:
    """Write configuration, weights and processor."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    special = ["<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    letters = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_alone = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    bytes_alone.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, pad_token="<pad>", eos_token="<|im_end|>", additional_special_tokens=special[2:]
    )
    hears = WhisperFeatureExtractor(feature_size=16, chunk_length=2, n_fft=400, hop_length=160)
    Qwen2AudioProcessor(hears, tokenizer).save_pretrained(folder)
    audio = {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    audio |= {"d_model": 16, "max_source_positions": 100, "model_type": "qwen2_audio_encoder"}
    text = {"vocab_size": len(letters), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "model_type": "qwen2", "eos_token_id": 3}
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=letters.index("<|AUDIO|>"))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    Qwen2AudioForConditionalGeneration(config).eval().save_pretrained(folder)
    torch.set_rng_state(state)
    return folder
