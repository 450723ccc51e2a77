"""Tiny decoders of transformers with random weights, one for each way in which they attend."""

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


def tiny(name):
    """Return a model with weights that make its tokens vary."""
    import torch
    import transformers

    kind, more = CONFIGS[name]
    given = more if "n_embd" in more else {**_SIZES, **more}
    torch.manual_seed(1)
    model_class = getattr(transformers, kind)
    model = model_class(model_class.config_class(**given)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model
