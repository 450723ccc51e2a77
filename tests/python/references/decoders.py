"""Tiny models of transformers that write text, with random weights, one for each way in which they attend."""

WORDS = 97
_SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": 0,
}
_GPT = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "eos_token_id": None}
CONFIGS = {
    "Llama": ("LlamaForCausalLM", {}),
    "Mistral": ("MistralForCausalLM", {"sliding_window": 9}),
    "Gemma2": ("Gemma2ForCausalLM", {"head_dim": 8, "sliding_window": 7}),
    "GPT2": ("GPT2LMHeadModel", _GPT),
}


_BART = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 256,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": None,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
    "tie_word_embeddings": False,
}
_T5 = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
_WHISPER = {
    **_BART,
    "num_mel_bins": 8,
    "max_source_positions": 40,
    "max_target_positions": 256,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
_WHISPER.pop("max_position_embeddings")
WITH_ENCODERS = {
    "T5": ("T5ForConditionalGeneration", _T5),
    "Bart": ("BartForConditionalGeneration", _BART),
    "Marian": ("MarianMTModel", _BART),
    "M2M100": ("M2M100ForConditionalGeneration", _BART),
    "Whisper": ("WhisperForConditionalGeneration", _WHISPER),
}


def tiny(name, **changes):
    """Return a model with weights that make its tokens vary; changes are of its configuration."""
    import torch
    import transformers

    kind, more = {**CONFIGS, **WITH_ENCODERS}[name]
    given = more if name in WITH_ENCODERS or "n_embd" in more else {**_SIZES, **more}
    given = {**given, **changes}
    torch.manual_seed(2 if name in WITH_ENCODERS else 1)
    model_class = getattr(transformers, kind)
    model = model_class(model_class.config_class(**given)).eval()
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if "encoder_attn" in part or "EncDecAttention" in part:
                parameter.mul_(8)  # so that the source matters
            elif parameter.ndim > 1 and not (name in WITH_ENCODERS and ("shared" in part or "embed_tokens" in part)):
                parameter.mul_(3)
    return model
