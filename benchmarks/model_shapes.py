"""Shapes of published models' linear layers, for what is measured without the models themselves."""

from typing import Final

from llm.factors import LinearShape

#: Layers, width, width of keys and values, and inner width, as the models' own configurations say.
MODELS: Final = {
    "SmolLM2-135M": (30, 576, 192, 1536),
    "Llama-3.2-1B": (16, 2048, 512, 8192),
    "Llama-7B": (32, 4096, 4096, 11008),
}


def layer_shapes(model: str) -> dict[str, LinearShape]:
    """Return the shapes of one layer by name."""
    _, width, narrow, inner = MODELS[model]
    return {
        "self_attn.q_proj": LinearShape(width, width),
        "self_attn.k_proj": LinearShape(narrow, width),
        "self_attn.v_proj": LinearShape(narrow, width),
        "self_attn.o_proj": LinearShape(width, width),
        "mlp.gate_proj": LinearShape(inner, width),
        "mlp.up_proj": LinearShape(inner, width),
        "mlp.down_proj": LinearShape(width, inner),
    }


def model_shapes(model: str, layers: int | None = None) -> dict[str, LinearShape]:
    """Return the shapes of all layers, or of so many, by PEFT's names."""
    count = MODELS[model][0] if layers is None else layers
    return {
        f"base_model.model.model.layers.{number}.{name}": shape
        for number in range(count)
        for name, shape in layer_shapes(model).items()
    }
